//! What was done with Meta's webhooks since the start.

use std::sync::atomic::{AtomicU64, Ordering};

/// Counters that the parts share.
#[derive(Debug, Default)]
pub(super) struct Figures {
    /// Bodies that were verified and are kept, each time they came.
    pub(super) received: AtomicU64,
    /// Things that were carried out.
    pub(super) processed: AtomicU64,
    /// Things that were given up.
    pub(super) failed: AtomicU64,
    /// Tries in vain that are followed by others.
    pub(super) put_off: AtomicU64,
    /// Messages that Meta has taken.
    pub(super) sent: AtomicU64,
    /// Messages that were not sent.
    pub(super) refused: AtomicU64,
    /// Messages of which nobody knows whether they were sent.
    pub(super) unknown: AtomicU64,
}

/// The counts at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counted {
    pub received: u64,
    pub processed: u64,
    pub failed: u64,
    pub put_off: u64,
    pub sent: u64,
    pub refused: u64,
    pub unknown: u64,
}

impl Figures {
    pub(super) fn count(counter: &AtomicU64) {
        counter.fetch_add(1, Ordering::Relaxed);
    }

    /// The counts now.
    pub(super) fn counted(&self) -> Counted {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Counted {
            received: read(&self.received),
            processed: read(&self.processed),
            failed: read(&self.failed),
            put_off: read(&self.put_off),
            sent: read(&self.sent),
            refused: read(&self.refused),
            unknown: read(&self.unknown),
        }
    }
}
