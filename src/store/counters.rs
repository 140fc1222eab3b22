//! What the writer has done since it was started, for whoever watches the daemon.

use std::{
    fmt,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use entity::kind::EventKind;
use prometheus_client::metrics::histogram::Histogram;
use sea_orm::Iterable as _;

/// Upper bounds of how long groups take, in seconds: from an idle disk to a database that is away.
const GROUP_SECONDS: [f64; 11] =
    [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 2.5, 10.0];

/// Counts since start.
pub(super) struct Counters {
    units: AtomicU64,
    events: AtomicU64,
    retries: AtomicU64,
    /// Events that were new, by kind, in the order of [`EventKind::iter`].
    recorded: Box<[AtomicU64]>,
    group_seconds: Histogram,
}

/// What the writer has done since it was started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WriterStats {
    /// Transactions committed.
    pub groups: u64,
    /// Units of work answered from a committed group, failed ones included; without events.
    pub units: u64,
    /// Events handed over and answered, known ones included.
    pub events: u64,
    /// Groups rolled back and tried again.
    pub retries: u64,
}

impl Default for Counters {
    fn default() -> Self {
        Self {
            units: AtomicU64::default(),
            events: AtomicU64::default(),
            retries: AtomicU64::default(),
            recorded: EventKind::iter().map(|_| AtomicU64::default()).collect(),
            group_seconds: Histogram::new(GROUP_SECONDS),
        }
    }
}

impl fmt::Debug for Counters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Counters").field("stats", &self.stats(0)).finish_non_exhaustive()
    }
}

impl Counters {
    /// A unit of work was answered.
    pub(super) fn unit(&self) {
        self.units.fetch_add(1, Ordering::Relaxed);
    }

    /// An event was answered, `new` or known before.
    pub(super) fn event(&self, kind: EventKind, new: bool) {
        self.events.fetch_add(1, Ordering::Relaxed);
        if new && let Some(count) = self.recorded.get(kind as usize) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// A group was rolled back and is tried again.
    pub(super) fn retry(&self) {
        self.retries.fetch_add(1, Ordering::Relaxed);
    }

    /// A group was committed, from its first statement to the answer of its commit.
    pub(super) fn group_took(&self, time: Duration) {
        self.group_seconds.observe(time.as_secs_f64());
    }

    pub(super) fn stats(&self, groups: u64) -> WriterStats {
        WriterStats {
            groups,
            units: self.units.load(Ordering::Relaxed),
            events: self.events.load(Ordering::Relaxed),
            retries: self.retries.load(Ordering::Relaxed),
        }
    }

    /// How many events of each kind were recorded, repetitions left out.
    pub(super) fn recorded(&self) -> Vec<(EventKind, u64)> {
        let counts = self.recorded.iter().map(|count| count.load(Ordering::Relaxed));
        EventKind::iter().zip(counts).collect()
    }

    /// How long committed groups took.
    pub(super) fn group_seconds(&self) -> Histogram {
        self.group_seconds.clone()
    }
}
