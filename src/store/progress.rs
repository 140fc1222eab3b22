//! How far a group has come.

use std::sync::atomic::{AtomicUsize, Ordering};

/// How far a group has come, for whoever finds that it takes too long.
#[derive(Debug)]
pub(super) struct Progress(AtomicUsize);

impl Progress {
    /// The transaction has not begun.
    const NOWHERE: usize = usize::MAX;
    /// Its events are being written, or its leases looked at: of several at once.
    pub(super) const SEVERAL: usize = usize::MAX - 1;

    pub(super) const fn new() -> Self {
        Self(AtomicUsize::new(Self::NOWHERE))
    }

    pub(super) fn at(&self, place: usize) {
        self.0.store(place, Ordering::Relaxed);
    }

    pub(super) fn has_begun(&self) -> bool {
        self.0.load(Ordering::Relaxed) != Self::NOWHERE
    }

    /// Which of its units is being run, if it is one.
    pub(super) fn unit(&self) -> Option<usize> {
        Some(self.0.load(Ordering::Relaxed)).filter(|at| *at < Self::SEVERAL)
    }
}
