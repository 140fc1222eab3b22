//! Sending what is owed to webhook endpoints.
//!
//! - `engine.rs`: the loop. It wakes by the store's bell, by attempts that end, and by time, and does the
//!   same whatever woke it: look which endpoints have something due, take as much as each may have under
//!   way, send. `lanes.rs`: what is under way. `fair.rs`: who gets the places when there are too few.
//! - `attempt.rs`: one try, from a delivery that was taken to what is to be written about it.
//! - `client.rs`: the HTTP client, which calls no address that it must not; `own.rs`: not us ourselves, either.
//!   `answer.rs`: what came back.
//! - `replays.rs`: has replays go on, beside the loop. `jumps.rs`: the machine's clock being set.
//! - `settler.rs`: writes down what came of tries, all that have ended meanwhile at once.
//!
//! # What a tenant can rely on
//!
//! - An event that was recorded is owed, and what is owed is sent until the receiver answers 2xx, until it
//!   is too old or was tried as often as was asked for. What was given up is there to be seen and sent
//!   again.
//! - It may be sent more than once: a process can die between the receiver's answer and its being written
//!   down. It has the same `webhook-id` each time.
//! - Taking a delivery leaves a token. When a daemon is too slow and another has taken the delivery
//!   meanwhile, what the first one reports counts for nothing.
//! - Ages and waits are by the time that passes: a wall clock that is set while we run gives nothing up, and makes
//!   nothing wait.
//! - An endpoint that is slow or dead holds its own places only, no organization can hold all, and an
//!   open breaker holds none.
//!
//! What an endpoint may have at a time is counted over all daemons on one database, where more than one is known to live;
//! of its rate, each gives its part (`lanes.rs`).

mod answer;
mod attempt;
mod client;
mod engine;
mod fair;
mod jumps;
mod lanes;
mod own;
mod replays;
mod settler;

use std::{
    sync::{Arc, atomic::AtomicU64},
    time::Duration,
};

pub use self::{
    answer::Reply,
    client::{Client, Lookup, system_lookup},
    engine::{Deliveries, Stats},
    own::Own,
};

/// How deliveries are sent.
#[derive(Clone, Debug)]
pub struct Options {
    /// Requests under way at a time, over all endpoints.
    pub concurrency: usize,
    /// How long an endpoint must have failed to be disabled.
    pub disable_after: Duration,
    /// What this daemon signs its claims with; the same after a restart.
    pub node: String,
    /// How many daemons share the database, we among them, as far as we know.
    pub daemons: Arc<AtomicU64>,
}

/// How long requests in progress may go on after a stop was asked for.
pub const STOP_GRACE: Duration = Duration::from_secs(5);
