//! Hearing that events were recorded.

use std::time::Duration;

use tokio::{sync::watch, time::Instant};

use crate::store::Store;

/// A table is looked at again no sooner than this, however often the bell rings.
///
/// With a thousand events a second this is what keeps a hundred streams from asking a hundred
/// thousand times; the first event after a quiet while is never delayed.
const SPACING: Duration = Duration::from_millis(50);

/// A table is looked at after this time even if no bell rang: it may have rung in another process.
const CHECK: Duration = Duration::from_secs(5);

/// Rings when events were recorded, by whomever. Whoever hears it looks at the table.
#[derive(Debug)]
pub struct Bell {
    rings: watch::Receiver<u64>,
    answered: Option<Instant>,
    spacing: Duration,
}

impl Bell {
    /// Begins to listen: what is recorded from now on is heard.
    pub(super) fn of(store: &Store) -> Self {
        Self { rings: store.writer().bell(), answered: None, spacing: SPACING }
    }

    /// The same, heard no sooner than `spacing` after the last time; `answered` now.
    pub(super) fn apart(self, spacing: Duration) -> Self {
        Self { spacing, answered: Some(Instant::now()), ..self }
    }

    /// Waits until there may be something new since the last time, or since it began to listen.
    pub async fn rung(&mut self) {
        let ring = async {
            if self.rings.changed().await.is_err() {
                // The store has closed: nothing will be recorded any more.
                std::future::pending::<()>().await;
            }
        };
        // Elapsed or not, it is time to look.
        tokio::time::timeout(CHECK, ring).await.ok();
        if let Some(answered) = self.answered {
            tokio::time::sleep_until(answered + self.spacing).await;
        }
        // What rang during the pause is seen by the look that follows.
        self.rings.mark_unchanged();
        self.answered = Some(Instant::now());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn however_often_it_rings_it_is_heard_no_sooner_than_was_asked_for() {
        let (rings, heard) = watch::channel(0);
        let spacing = Duration::from_millis(40);
        let bell = Bell { rings: heard, answered: None, spacing: Duration::ZERO };
        let mut bell = bell.apart(spacing);
        let begun = Instant::now();
        for ring in 1..=4 {
            rings.send_replace(ring);
            bell.rung().await;
        }
        assert!(begun.elapsed() >= spacing * 4, "{:?}", begun.elapsed());
    }
}
