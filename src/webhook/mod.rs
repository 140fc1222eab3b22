//! The words and rules of outbound webhooks. Pure: no database, no socket, no clock.
//!
//! - `kinds.rs`: the types of events that endpoints can be told of. `filter.rs`: which of them an
//!   endpoint wants.
//! - `conversation.rs`: among which events one keeps its order.
//! - `catalogue.rs`: an example of each. `body.rs`: the bytes of a request, in either format. `signature.rs`: how they are signed
//!   (Standard Webhooks 1.0).
//! - `target.rs`: which URLs may be called. `address.rs`: which addresses.
//! - `schedule.rs`: when a failed delivery is tried again. `health.rs`: what follows for its endpoint.
//!   `durations.rs`: percentiles of how long requests take.
//!
//! `crate::store::webhooks` keeps the rows, `crate::delivery` sends them.

pub mod address;
pub mod body;
pub mod catalogue;
pub mod conversation;
pub mod durations;
pub mod filter;
pub mod health;
pub mod kinds;
pub mod schedule;
pub mod signature;
pub mod target;

pub use self::{
    address::{AddressPolicy, destination},
    filter::Filter,
    kinds::EventType,
    signature::{SigningSecret, is_fresh, is_same, sign, verify},
    target::TargetPolicy,
};
