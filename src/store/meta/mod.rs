//! Meta's Cloud API: an organization's numbers there, and what Meta has sent.
//!
//! - `accounts.rs`: looking accounts up, by whatever a request has. `change.rs`: making and changing them.
//!   `sealed.rs`: their secrets, and the hashes by which they are found.
//! - `ingest.rs`: keeping what was posted, once. `log.rs`: what was told, for its owner.
//! - `claim.rs`: taking what is to be carried out. `aliases.rs`: what waits before it in another lane. `carry/`: carrying it out. `reprocess.rs`: having it done again.
//!   `closed.rs`: what was refused, as its account takes nothing.
//! - `outbox/`: what is to be sent. `silence.rs`: accounts of which nothing is told any more.

mod accounts;
mod aliases;
mod carry;
mod change;
mod claim;
mod closed;
mod ingest;
mod log;
mod outbox;
mod reprocess;
mod sealed;
mod silence;
mod strays;

use super::Store;

pub use self::{
    accounts::{AccountFilter, MOST as MOST_ACCOUNTS, of_verify_token},
    aliases::Aliases,
    carry::{Carried, Effect, Exchanged, PARTLY_UNWRITTEN, Steps, Work},
    change::{Put, Putting},
    claim::Whose,
    closed::Closed,
    ingest::Kept,
    log::LogFilter,
    outbox::{NewOutgoing, NotAnswered, NotSending, Outcome, Queued},
    reprocess::{Requeued, Wanted},
    sealed::{Open, Secrets},
    silence::Silence,
    strays::LET_GO_STRAY,
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
