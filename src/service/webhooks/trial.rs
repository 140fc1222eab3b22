//! How many tests of endpoints an organization has under way at a time.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use entity::id::OrganizationId;

/// Tests of one organization at a time. Each waits for a receiver, as long as that takes.
const MOST: usize = 3;

/// Tests under way.
#[derive(Clone, Debug, Default)]
pub(super) struct Trials(Arc<Mutex<HashMap<OrganizationId, usize>>>);

/// A test under way, until it is dropped.
#[derive(Debug)]
pub(super) struct Place {
    trials: Trials,
    organization: OrganizationId,
}

impl Trials {
    /// A place for one more; none if an organization has all that it may have.
    pub(super) fn begin(&self, organization: &OrganizationId) -> Option<Place> {
        let mut under_way = self.lock();
        let count = under_way.entry(organization.clone()).or_default();
        if *count >= MOST {
            return None;
        }
        *count += 1;
        Some(Place { trials: self.clone(), organization: organization.clone() })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<OrganizationId, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut under_way = self.trials.lock();
        if let Some(count) = under_way.get_mut(&self.organization) {
            *count -= 1;
            if *count == 0 {
                under_way.remove(&self.organization);
            }
        }
    }
}
