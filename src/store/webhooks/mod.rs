//! Outbound webhooks: endpoints, and what is owed to them.
//!
//! - `fanout.rs`: in the transaction of an event, who is owed it. `announce.rs`: events about endpoints, and
//!   about sessions themselves.
//! - `endpoints.rs`, `create.rs`, `changes.rs`: a tenant's endpoints, making each once, and changing them.
//!   `choosing.rs`: which sessions they choose, when one takes over from others. `sealed.rs`: their secrets.
//! - `due.rs`, `candidates.rs`, `claim.rs`, `settle.rs`: what is to be sent, by whom, and what came of it. `conversations.rs`:
//!   what is to be sent where much waits behind little. `elsewhere.rs`: what other daemons have under way.
//! - `upkeep.rs`: leases of the dead, what is too old, what nobody will be told any more. `jumps.rs`: the clock was set.
//! - `log.rs`: what was sent, for its owner. `stats.rs`: how often, and how quickly. `replay.rs`: what is to be
//!   sent again, `stepping.rs`: a step of it, `stretch.rs`: its next events. `missed.rs`: what an endpoint that is disabled
//!   was not told of. `traced.rs`: changes in the audit log.
//!
//! Hot statements are written by hand with their states in them: a partial index is used only where the
//! statement itself says which part it wants. What else is in them is ours (numbers, and ids that hold no
//! quote), so nothing needs binding.

mod announce;
mod candidates;
mod changes;
pub(super) mod choosing;
mod claim;
mod conversations;
mod create;
mod due;
mod elsewhere;
mod endpoints;
mod fanout;
mod jumps;
mod log;
mod missed;
mod reorder;
mod replay;
mod sealed;
mod settle;
mod stats;
mod stepping;
mod stretch;
mod traced;
mod upkeep;

use std::collections::BTreeSet;

use entity::id::EndpointId;
use sea_orm::DbBackend;

use super::{Patience, Store};

pub(super) use self::{
    announce::{About, announce, announce_session},
    fanout::{Known, Told, owe},
    sealed::{is_url_sealed, open_notice, seal_old_notice, seal_url},
};
pub use self::{
    changes::{EndpointChange, Resumed},
    claim::{Claimed, Claiming, Found},
    create::{Making, NewEndpoint},
    due::Waiting,
    endpoints::{EndpointFilter, Target},
    log::{AttemptFilter, LogFilter, Retried},
    replay::{Cancelled, NewReplay},
    settle::{AttemptRecord, Ending, Settled, Settlement},
    stats::Figures,
    stepping::ROUND as REPLAYS,
};

/// The writer's lane of all that deliveries write.
const LANE: &str = "webhooks";

/// Endpoints and deliveries.
#[derive(Clone, Debug)]
pub struct Webhooks {
    store: Store,
}

impl Webhooks {
    pub(super) const fn new(store: Store) -> Self {
        Self { store }
    }

    /// The endpoints that were owed something since the last time anybody asked, by this process.
    ///
    /// A hint that saves looking at all of them: what another process owes is in the table.
    pub fn take_touched(&self) -> BTreeSet<EndpointId> {
        self.store.writer().known().take_touched()
    }

    /// Says that there is something to be done for these endpoints.
    pub fn touch(&self, endpoints: impl IntoIterator<Item = EndpointId>) {
        self.store.writer().known().publish(endpoints.into_iter().collect());
        self.store.writer().ring();
    }
}

/// Ids as a list in a statement.
fn list<'a, Id: std::fmt::Display + 'a>(ids: impl IntoIterator<Item = &'a Id>) -> String {
    let ids: Vec<String> = ids.into_iter().map(|id| format!("'{id}'")).collect();
    ids.join(", ")
}

/// Ids as one value, for [`among`].
fn joined<'a, Id: std::fmt::Display + 'a>(ids: impl IntoIterator<Item = &'a Id>) -> String {
    let ids: Vec<String> = ids.into_iter().map(Id::to_string).collect();
    ids.join(",")
}

/// Whether `column` is among the ids of the value at this place. The statement's text is the same however
/// many there are, so that it is read and planned once for a connection.
fn among(database: DbBackend, column: &str, place: usize) -> String {
    match database {
        DbBackend::Postgres => format!("{column} = ANY (string_to_array(${place}, ','))"),
        _ => format!(
            "{column} IN (SELECT value FROM json_each('[\"' || replace(${place}, ',', '\",\"') || '\"]'))"
        ),
    }
}

/// What the engine writes waits for a database that is away: it is not to be lost.
const PATIENCE: Patience = Patience::Wait;
