//! How fast sessions dial, all together.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::{Mutex, OwnedSemaphorePermit, Semaphore},
    time::Instant,
};

/// Lets so many sessions dial at a time, and so many begin per second.
///
/// WhatsApp limits what comes from one address, and a thousand handshakes at once would starve the
/// sessions that are connected already.
#[derive(Clone, Debug)]
pub(super) struct Pace {
    at_once: Arc<Semaphore>,
    /// When the next dial may begin.
    next: Arc<Mutex<Instant>>,
    interval: Duration,
}

/// The right to be dialling. Given back when it is dropped.
#[derive(Debug)]
pub(super) struct Permit {
    _at_once: Option<OwnedSemaphorePermit>,
}

impl Pace {
    pub(super) fn new(at_once: u32, per_second: u32) -> Self {
        Self {
            at_once: Arc::new(Semaphore::new(at_once.max(1) as usize)),
            next: Arc::new(Mutex::new(Instant::now())),
            interval: Duration::from_secs(1) / per_second.max(1),
        }
    }

    /// Waits for a turn.
    pub(super) async fn turn(&self) -> Permit {
        // Closed never: the semaphore lives as long as its owner.
        let permit = Arc::clone(&self.at_once).acquire_owned().await.ok();
        let begin = {
            let mut next = self.next.lock().await;
            let begin = (*next).max(Instant::now());
            *next = begin + self.interval;
            begin
        };
        tokio::time::sleep_until(begin).await;
        Permit { _at_once: permit }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn dials_begin_at_the_rate_and_no_more_are_under_way_than_allowed() {
        let pace = Pace::new(2, 10);
        let start = Instant::now();
        let first = pace.turn().await;
        let second = pace.turn().await;
        assert!(start.elapsed() >= Duration::from_millis(90), "{:?}", start.elapsed());

        let mut third = Box::pin(pace.turn());
        let blocked = tokio::time::timeout(Duration::from_millis(200), &mut third).await;
        assert!(blocked.is_err(), "two are under way");
        drop(first);
        let third = third.await;
        drop((second, third));
    }
}
