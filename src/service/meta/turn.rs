//! Whose turn it is where more wait than are looked at in one round.

use std::sync::{Arc, Mutex, PoisonError};

use entity::id::OrganizationId;

/// The last organization that had a turn. Clones share it.
#[derive(Clone, Debug, Default)]
pub(super) struct Turn(Arc<Mutex<Option<OrganizationId>>>);

impl Turn {
    pub(super) fn last(&self) -> Option<OrganizationId> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The next round begins behind this one.
    pub(super) fn was_of(&self, last: Option<&OrganizationId>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = last.cloned();
    }
}
