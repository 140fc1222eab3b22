//! How many audiences are counted anew at a time: it keeps one of the few connections for a while.

use std::sync::{Arc, Mutex, PoisonError};

use entity::id::OrganizationId;

/// Whose audiences are being counted. Clones share it.
#[derive(Clone, Debug, Default)]
pub(super) struct Counting(Arc<Mutex<Vec<OrganizationId>>>);

/// How many count at once.
const COUNTERS: usize = 2;

impl Counting {
    pub(super) fn enter(&self, organization: &OrganizationId) -> Option<Turn> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() >= COUNTERS || all.contains(organization) {
            return None;
        }
        all.push(organization.clone());
        Some(Turn { counting: self.clone(), organization: organization.clone() })
    }
}

/// An audience is being counted, until it is let go of.
pub(super) struct Turn {
    counting: Counting,
    organization: OrganizationId,
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut all = self.counting.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|it| *it != self.organization);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_audience_of_an_organization_is_counted_at_a_time_and_two_in_all() {
        let counting = Counting::default();
        let owner = |n| OrganizationId::new(entity::UnixMillis(0), n);
        let first = counting.enter(&owner(1)).unwrap();
        assert!(counting.enter(&owner(1)).is_none());
        let _second = counting.enter(&owner(2)).unwrap();
        assert!(counting.enter(&owner(3)).is_none());
        drop(first);
        assert!(counting.enter(&owner(2)).is_none());
        assert!(counting.enter(&owner(3)).is_some());
    }
}
