//! One quota for each of many callers, in memory that does not follow their number.

use std::{
    collections::HashMap,
    hash::Hash,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use super::quota::{Quota, Verdict};

/// It is looked for callers that can be forgotten no sooner than this after the last time.
const SPACING: Duration = Duration::from_secs(1);

/// What callers have taken of a quota that each of them has.
#[derive(Debug)]
pub(super) struct Meter<K> {
    quota: Quota,
    /// Callers that are told apart.
    most: usize,
    taken: Mutex<Taken<K>>,
}

#[derive(Debug)]
struct Taken<K> {
    /// When each one's quota is there again as a whole. Whose is, needs not be remembered.
    by_caller: HashMap<K, Duration>,
    /// The same for all who came when there was no place: they share one.
    by_others: Duration,
    /// When it was last looked for who can be forgotten.
    swept_at: Duration,
}

impl<K: Eq + Hash + Clone> Meter<K> {
    pub(super) fn new(quota: Quota, most: usize) -> Self {
        let by_caller = HashMap::new();
        let zero = Duration::ZERO;
        let taken = Mutex::new(Taken { by_caller, by_others: zero, swept_at: zero });
        Self { quota, most, taken }
    }

    pub(super) fn quota(&self) -> Quota {
        self.quota
    }

    /// Takes one for this caller, if there is one.
    pub(super) fn take(&self, caller: &K, now: Duration) -> Verdict {
        self.take_of(self.quota, caller, now)
    }

    /// The same of a part of the quota. What is kept is when all is there again, and a part takes as long for that as the
    /// whole: so it goes on to hold when the part becomes another.
    pub(super) fn take_of(&self, part: Quota, caller: &K, now: Duration) -> Verdict {
        let mut taken = self.taken();
        if let Some(full_at) = taken.by_caller.get_mut(caller) {
            return part.take(full_at, now);
        }
        if taken.by_caller.len() >= self.most && !taken.sweep(self.most, now) {
            return part.take(&mut taken.by_others, now);
        }
        let full_at = taken.by_caller.entry(caller.clone()).or_default();
        part.take(full_at, now)
    }

    /// What [`take`](Self::take) would answer.
    pub(super) fn look(&self, caller: &K, now: Duration) -> Verdict {
        let taken = self.taken();
        let mut full_at = match taken.by_caller.get(caller) {
            Some(full_at) => *full_at,
            None if taken.by_caller.len() >= self.most => taken.by_others,
            None => Duration::ZERO,
        };
        self.quota.take(&mut full_at, now)
    }

    fn taken(&self) -> MutexGuard<'_, Taken<K>> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K: Eq + Hash> Taken<K> {
    /// Forgets who has his whole quota. Whether there is a place then.
    fn sweep(&mut self, most: usize, now: Duration) -> bool {
        if now < self.swept_at + SPACING {
            return false;
        }
        self.swept_at = now;
        self.by_caller.retain(|_, full_at| *full_at > now);
        self.by_caller.len() < most
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_bounded_and_those_without_a_place_share_one() {
        let meter = Meter::new(Quota::new(1, Duration::from_secs(10), 2), 3);
        let now = Duration::from_mins(1);
        for caller in 0..3 {
            assert!(meter.take(&caller, now).allowed);
        }
        let others: Vec<_> = (10..20).filter(|caller| meter.take(caller, now).allowed).collect();
        assert_eq!(others, [10, 11]);
        assert!(!meter.look(&99, now).allowed);
        assert!(meter.take(&0, now).allowed, "who has a place keeps it");
        assert_eq!(meter.taken().by_caller.len(), 3);

        // After ten seconds all but the first have their quota again, and are forgotten.
        let later = now + Duration::from_secs(10);
        assert!(meter.take(&50, later).allowed);
        assert_eq!(meter.taken().by_caller.len(), 2);
    }
}
