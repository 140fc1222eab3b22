//! The nouns of wagate: identifiers, closed sets, points in time, and one entity per table.
//!
//! Everything here is a fact about data; nothing decides anything. The schema itself is made by the
//! `migration` crate, which does not know this one: an entity describes what is there today, a
//! migration what was changed on one day.
//!
//! To add a table: write the migration, describe it here, and give it queries in `wagate::store`.
//! This is SeaORM 2.0: dense entities (`#[sea_orm::model]`), `COLUMN` for typed expressions, no
//! `Relation` enums. Examples for 1.x look similar and do not fit.

pub mod audience;
pub mod audit;
pub mod campaign;
pub mod campaign_statistics;
pub mod command;
pub mod contact;
pub mod contact_identity;
pub mod conversation;
pub mod data_key;
pub mod device;
pub mod early_ack;
pub mod event;
pub mod id;
pub mod idempotency;
pub mod installation;
pub mod kind;
pub mod lease;
pub mod message;
pub mod message_status;
pub mod meta;
pub mod node;
pub mod organization;
pub mod session;
pub mod state;
pub mod token;
pub mod unix_millis;
pub mod vault;
pub mod webhook;
mod words;
pub mod writer_lane;

pub use unix_millis::UnixMillis;
use words::words;
