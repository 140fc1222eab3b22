//! The simulator against the unmodified `whatsapp-rust` client.
//!
//! Every test ends with [`World::end`], which fails if the simulator has noticed a protocol error
//! that the test did not provoke. Nothing sleeps: tests wait for what they want to see.

#![expect(clippy::unwrap_used, reason = "a test says best where it failed by failing there")]
// The client's futures nest deeper than the compiler expects of anybody.
#![recursion_limit = "256"]

mod addressing;
mod client;
mod companions;
mod control;
mod faults;
mod groups;
mod history;
mod many;
mod messages;
mod pairing;
mod raw;
mod refusals;
mod retries;
mod scripts;
mod wire;
mod world;

use client::Client;
use world::World;
