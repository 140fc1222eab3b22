//! How long what we own is surely ours.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use entity::id::NodeId;
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;

/// The time between joining the other daemons and being taken for dead, as far as we can know.
///
/// Ends for good: who has been taken for dead joins again under a new name.
#[derive(Debug)]
pub(in crate::session) struct Tenure {
    node: NodeId,
    clock: Clock,
    /// Milliseconds of the monotonic clock; the largest number for "without end".
    until: AtomicU64,
    over: CancellationToken,
}

impl Tenure {
    /// Certain until then, by the monotonic clock; without end when there is none.
    pub(in crate::session) fn new(node: NodeId, clock: Clock, until: Option<Duration>) -> Self {
        let until = AtomicU64::new(until.map_or(u64::MAX, millis));
        Self { node, clock, until, over: CancellationToken::new() }
    }

    /// The name under which we own things.
    pub(super) fn node(&self) -> &NodeId {
        &self.node
    }

    /// Whether what we own is ours at this moment. Cheap: asked before each frame that is sent.
    pub(in crate::session) fn holds(&self) -> bool {
        !self.is_over() && millis(self.clock.monotonic()) < self.until.load(Ordering::SeqCst)
    }

    /// Whether it was ended. One whose time has run out may not have been told yet.
    pub(super) fn is_over(&self) -> bool {
        self.over.is_cancelled()
    }

    /// Whether its time never runs out, as the database is ours alone.
    pub(in crate::session) fn is_endless(&self) -> bool {
        self.until.load(Ordering::SeqCst) == u64::MAX
    }

    /// Cancelled at its end: everything that was ours stops.
    pub(in crate::session) fn over(&self) -> &CancellationToken {
        &self.over
    }

    /// Certain until then, if that is later.
    pub(super) fn extend(&self, until: Duration) {
        self.until.fetch_max(millis(until), Ordering::SeqCst);
    }

    /// Ends it.
    pub(super) fn end(&self) {
        self.over.cancel();
    }

    /// Waits until its time has run out.
    pub(super) async fn expired(&self) {
        loop {
            if self.is_endless() {
                return std::future::pending().await;
            }
            let at = Duration::from_millis(self.until.load(Ordering::SeqCst));
            if self.clock.monotonic() >= at {
                return;
            }
            self.clock.sleep_until_monotonic(at).await;
        }
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX - 1)
}

#[cfg(test)]
mod tests {
    use entity::UnixMillis;

    use super::*;

    fn tenure(clock: &Clock, until: Option<u64>) -> Tenure {
        let node = NodeId::new(UnixMillis(0), 1);
        Tenure::new(node, clock.clone(), until.map(Duration::from_millis))
    }

    #[test]
    fn it_holds_until_its_time_is_over_even_if_nobody_says_so() {
        let clock = Clock::manual(UnixMillis(1_000));
        let tenure = tenure(&clock, Some(3_000));
        assert!(tenure.holds());
        tenure.extend(Duration::from_secs(2));
        clock.advance(Duration::from_millis(1_999));
        assert!(tenure.holds(), "a late answer to an early renewal takes nothing back");
        clock.advance(Duration::from_millis(1));
        assert!(!tenure.holds());
        assert!(!tenure.is_over(), "nobody has said so");
    }

    #[tokio::test]
    async fn it_expires_when_it_was_not_extended() {
        let clock = Clock::manual(UnixMillis(1_000));
        let tenure = tenure(&clock, Some(3_000));
        let mut expired = Box::pin(tenure.expired());
        tenure.extend(Duration::from_secs(5));
        clock.advance(Duration::from_millis(2_500));
        assert!(futures_util::poll!(&mut expired).is_pending());
        clock.advance(Duration::from_millis(1_500));
        expired.await;
    }

    #[test]
    fn it_ends_at_once_when_it_is_ended() {
        let clock = Clock::manual(UnixMillis(1_000));
        let tenure = tenure(&clock, None);
        clock.advance(Duration::from_hours(1_000_000));
        assert!(tenure.holds());
        tenure.end();
        assert!(!tenure.holds());
    }
}
