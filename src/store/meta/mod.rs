//! Meta's Cloud API: an organization's numbers there, and what Meta has sent.
//!
//! - `accounts.rs`: looking accounts up, by whatever a request has. `change.rs`: making and changing them.
//!   `sealed.rs`: their secrets, and the hashes by which they are found.
//! - `ingest.rs`: keeping what was posted, once. `log.rs`: what was told, for its owner.

mod accounts;
mod change;
mod ingest;
mod log;
mod sealed;

use super::Store;

pub use self::{
    accounts::{AccountFilter, MOST as MOST_ACCOUNTS},
    change::{Put, Putting},
    ingest::Kept,
    log::LogFilter,
    sealed::{Open, Secrets},
};

/// Accounts at Meta, and what came of them.
#[derive(Clone, Debug)]
pub struct Meta {
    store: Store,
}

impl Meta {
    pub(super) const fn new(store: Store) -> Self {
        Self { store }
    }
}
