//! wagate: one daemon that owns many WhatsApp Web sessions.
//!
//! # Follow one message
//!
//! 1. WhatsApp delivers a stanza; the client library decrypts it and, because a durability hook is
//!    registered, does *not* acknowledge it yet: [`session`].
//! 2. The client's message becomes our [`event::Event`], by a pure function.
//! 3. [`store`] writes the event, the message and what the session's row says of it in one
//!    transaction that it shares with whatever else waits to be written.
//! 4. The hook returns, and the library acknowledges. Had the process died before, WhatsApp would
//!    deliver again and step 3 would find a duplicate.
//! 5. A bell rings. Streams look at the table and send what is new: [`http`]. So does [`delivery`], which
//!    sends what step 3 has noted as owed to tenants' endpoints ([`webhook`]).
//!
//! Imports go one way: `http → service → {store, session, delivery}`, `delivery → {store, webhook}`, `session → {event, device, store}`,
//! `device → store`, `store → {entity, event, vault, webhook}`. Only [`daemon`] sees all; a test checks it.

// The client's futures nest deeper than the compiler expects of anybody.
#![recursion_limit = "256"]

pub mod backup;
pub mod cli;
pub mod clock;
pub mod config;
pub mod copies;
pub mod daemon;
pub mod delivery;
pub mod descriptors;
pub mod device;
pub mod event;
mod fault;
pub mod graph;
pub mod http;
pub mod lifecycle;
pub mod maintenance;
pub mod meta;
pub mod qr;
pub mod restore;
pub mod service;
pub mod session;
pub mod state_dir;
pub mod store;
pub mod telemetry;
#[cfg(feature = "otlp")]
pub mod traces;
pub mod vault;
pub mod webhook;

/// Of which commit this build is, as far as whoever built it has said (`WAGATE_REVISION`). Nothing else of the build is told, and
/// no time: the same sources are the same program.
pub const REVISION: &str = match option_env!("WAGATE_REVISION") {
    Some(revision) if !revision.is_empty() => revision,
    _ => "unknown",
};

/// Whether this build may talk to the simulated WhatsApp of `tests/simulator`, and so does not check
/// the server's certificate chain. Never true of a release build.
pub const SIMULATOR: bool = cfg!(feature = "simulator");
