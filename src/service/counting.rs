//! How much each of many has under way at a time, of what keeps something that others wait for.

use std::{
    collections::HashMap,
    fmt,
    hash::Hash,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// Who has how much under way: only of those who have any. Clones share it.
pub(crate) struct UnderWay<K>(Arc<Mutex<HashMap<K, usize>>>);

/// One of it, until it is let go of.
pub(crate) struct Turn<K: Eq + Hash> {
    all: UnderWay<K>,
    whose: K,
}

impl<K: Eq + Hash + Clone> UnderWay<K> {
    /// One more, if its owner has less than `each`, and all of them less than `all`.
    pub(crate) fn enter(&self, whose: &K, each: usize, all: usize) -> Option<Turn<K>> {
        let mut counts = self.lock();
        let has = counts.get(whose).copied().unwrap_or(0);
        if has >= each || (all < usize::MAX && counts.values().sum::<usize>() >= all) {
            return None;
        }
        counts.insert(whose.clone(), has + 1);
        Some(Turn { all: self.clone(), whose: whose.clone() })
    }
}

impl<K> UnderWay<K> {
    fn lock(&self) -> MutexGuard<'_, HashMap<K, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[cfg(test)]
    pub(crate) fn is_empty(&self) -> bool {
        self.lock().is_empty()
    }
}

impl<K: Eq + Hash> Drop for Turn<K> {
    fn drop(&mut self) {
        let mut counts = self.all.lock();
        if let Some(count) = counts.get_mut(&self.whose) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.whose);
            }
        }
    }
}

impl<K> Clone for UnderWay<K> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<K> Default for UnderWay<K> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<K> fmt::Debug for UnderWay<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("UnderWay").field(&self.lock().len()).finish()
    }
}

impl<K: Eq + Hash> fmt::Debug for Turn<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Turn").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_audience_of_an_organization_is_counted_at_a_time_and_two_in_all() {
        let counting = UnderWay::default();
        let enter = |owner: u8| counting.enter(&owner, 1, 2);
        let first = enter(1).unwrap();
        assert!(enter(1).is_none());
        let _second = enter(2).unwrap();
        assert!(enter(3).is_none());
        drop(first);
        assert!(enter(2).is_none());
        assert!(enter(3).is_some());
    }

    #[test]
    fn each_has_so_many_and_what_is_let_go_of_is_there_again() {
        let trials = UnderWay::default();
        let enter = |owner: u8| trials.enter(&owner, 3, usize::MAX);
        let mut held: Vec<_> = (0..3).map(|_| enter(1).unwrap()).collect();
        assert!(enter(1).is_none() && enter(2).is_some());
        held.pop();
        assert!(enter(1).is_some());
        drop(held);
        assert!(trials.is_empty());
    }
}
