//! People, whatever they are called by, and the conversations with them.
//!
//! - `resolve.rs`: who somebody is, by all that they are called by; who turns out to be one person becomes one.
//!   `owners.rs`: whose a number is by now.
//! - `conversations.rs`: the one conversation of a session with a person, or with a group. `addresses.rs`: where somebody can be
//!   answered. `list.rs`: for their owner.
//!
//! Everything that changes them has the organization's row locked, so that nobody is made twice.

mod addresses;
mod conversations;
mod list;
mod owners;
mod resolve;

use std::time::Duration;

use entity::{UnixMillis, state::IdentityKind};

use super::Store;

pub use self::list::{ContactEntry, ConversationEntry};
pub(super) use self::{
    addresses::{address_of, present_address, readdress},
    conversations::{Heard, answerable, heard, known_address},
    owners::{Told, hand_on},
    resolve::{Renamed, forget, resolve},
};

/// Somebody, by whatever is known of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Person {
    /// What they are called by, the best first. Of nobody it is empty.
    pub ids: Vec<(IdentityKind, String)>,
    pub name: Option<String>,
    pub username: Option<String>,
}

/// Whether a row is to be touched when it is met, so that retention sees that somebody still knows it.
fn is_stale(updated_at: UnixMillis, now: UnixMillis) -> bool {
    updated_at + Duration::from_hours(24) < now
}

/// Questions about people.
#[derive(Clone, Debug)]
pub struct Contacts {
    store: Store,
}

impl Contacts {
    pub(super) const fn new(store: Store) -> Self {
        Self { store }
    }
}
