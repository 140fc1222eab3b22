//! The past that a phone hands over after a pairing: how much of it is kept, and what all sessions
//! together may spend on it.
//!
//! `client/history/` fetches and reads it. Nothing of it is news: no event but progress, no session
//! that counts as active, no webhook.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// What is kept, and at what cost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    pub keep: Keep,
    /// Bytes of compressed history in memory, over all sessions.
    pub memory: u64,
    /// Chunks unpacked at the same time, over all sessions.
    pub concurrency: u32,
    /// Bytes that one chunk may unpack to.
    pub max_chunk: u64,
    /// Bytes that the chunks of one connection may unpack to.
    pub max_session: u64,
}

/// How much of the past is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    Nothing,
    Recent { days: u32, messages_per_chat: u32 },
    Everything,
}

impl Default for Settings {
    /// Nothing is kept.
    fn default() -> Self {
        Self {
            keep: Keep::Nothing,
            memory: 64 << 20,
            concurrency: 2,
            max_chunk: 64 << 20,
            max_session: 2 << 30,
        }
    }
}

/// What has been done, over all sessions, since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HistoryStats {
    /// Chunks read to their end.
    pub chunks: u64,
    /// Chunks that were left out: they could not be fetched or read, or were too large.
    pub failed: u64,
    /// Messages stored.
    pub stored: u64,
    /// Messages that were there already.
    pub known: u64,
    /// Bytes of compressed history in memory.
    pub bytes: u64,
    /// The most there were at once.
    pub most_bytes: u64,
    /// Chunks being unpacked.
    pub reading: u64,
    /// The most there were at once.
    pub most_reading: u64,
}

/// What all sessions share. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Budget(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    memory: Arc<Semaphore>,
    /// [`Self::memory`] when nobody has any of it.
    kibibytes: u32,
    readers: Arc<Semaphore>,
    counts: Counts,
}

#[derive(Debug, Default)]
struct Counts {
    chunks: AtomicU64,
    failed: AtomicU64,
    stored: AtomicU64,
    known: AtomicU64,
    bytes: Level,
    reading: Level,
}

/// A number that goes up and down, and the highest it has been.
#[derive(Debug, Default)]
struct Level {
    now: AtomicU64,
    most: AtomicU64,
}

impl Level {
    fn raise(&self, by: u64) {
        let now = self.now.fetch_add(by, Ordering::Relaxed) + by;
        self.most.fetch_max(now, Ordering::Relaxed);
    }

    fn lower(&self, by: u64) {
        self.now.fetch_sub(by, Ordering::Relaxed);
    }
}

/// A share of the budget, given back when its last clone is dropped: a task that waits for a thread may
/// go before the thread does, and the budget is about what the thread uses.
#[derive(Clone, Debug)]
pub(super) struct Share(#[expect(dead_code, reason = "held for what its drop does")] Arc<Part>);

#[derive(Debug)]
struct Part {
    budget: Budget,
    of: fn(&Counts) -> &Level,
    amount: u64,
    /// Held for what its drop does.
    _permit: OwnedSemaphorePermit,
}

impl Drop for Part {
    fn drop(&mut self) {
        (self.of)(&self.budget.0.counts).lower(self.amount);
    }
}

impl Budget {
    pub(super) fn new(settings: &Settings) -> Self {
        let kibibytes = u32::try_from(settings.memory / 1024).unwrap_or(u32::MAX).max(1);
        Self(Arc::new(Inner {
            memory: Arc::new(Semaphore::new(kibibytes as usize)),
            kibibytes,
            readers: Arc::new(Semaphore::new(settings.concurrency as usize)),
            counts: Counts::default(),
        }))
    }

    /// Waits until so many bytes may be held. None when that is more than there is.
    pub(super) async fn memory(&self, bytes: u64) -> Option<Share> {
        let wanted = u32::try_from(bytes.div_ceil(1024)).ok()?;
        if wanted > self.0.kibibytes {
            return None;
        }
        self.share(&self.0.memory, wanted, bytes, |counts| &counts.bytes).await
    }

    /// Waits until one more chunk may be unpacked.
    pub(super) async fn reader(&self) -> Option<Share> {
        self.share(&self.0.readers, 1, 1, |counts| &counts.reading).await
    }

    async fn share(
        &self,
        semaphore: &Arc<Semaphore>,
        permits: u32,
        amount: u64,
        of: fn(&Counts) -> &Level,
    ) -> Option<Share> {
        // Never closed.
        let permit = Arc::clone(semaphore).acquire_many_owned(permits).await.ok()?;
        of(&self.0.counts).raise(amount);
        Some(Share(Arc::new(Part { budget: self.clone(), of, amount, _permit: permit })))
    }

    pub(super) fn chunk_read(&self) {
        self.0.counts.chunks.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn chunk_failed(&self) {
        self.0.counts.failed.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn messages(&self, stored: u64, known: u64) {
        self.0.counts.stored.fetch_add(stored, Ordering::Relaxed);
        self.0.counts.known.fetch_add(known, Ordering::Relaxed);
    }

    pub(super) fn stats(&self) -> HistoryStats {
        let get = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let counts = &self.0.counts;
        HistoryStats {
            chunks: get(&counts.chunks),
            failed: get(&counts.failed),
            stored: get(&counts.stored),
            known: get(&counts.known),
            bytes: get(&counts.bytes.now),
            most_bytes: get(&counts.bytes.most),
            reading: get(&counts.reading.now),
            most_reading: get(&counts.reading.most),
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    fn budget(memory: u64) -> Budget {
        Budget::new(&Settings {
            keep: Keep::Everything,
            memory,
            concurrency: 1,
            max_chunk: 1,
            max_session: 1,
        })
    }

    #[tokio::test]
    async fn what_does_not_fit_waits_and_what_never_fits_is_refused() {
        let budget = budget(10 * 1024);
        let first = budget.memory(6 * 1024).await.unwrap();
        assert!(budget.memory(6 * 1024).now_or_never().is_none());
        assert!(budget.memory(11 * 1024).await.is_none());
        drop(first);
        let second = budget.memory(6 * 1024).await.unwrap();
        assert_eq!((budget.stats().bytes, budget.stats().most_bytes), (6 * 1024, 6 * 1024));
        drop(second);
        assert_eq!(budget.stats().bytes, 0);
    }

    #[tokio::test]
    async fn one_chunk_is_read_at_a_time() {
        let budget = budget(1024);
        let first = budget.reader().await.unwrap();
        assert!(budget.reader().now_or_never().is_none());
        drop(first);
        assert!(budget.reader().await.is_some());
        assert_eq!(budget.stats().most_reading, 1);
    }
}
