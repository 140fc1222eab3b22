//! What is to be sent through Meta.
//!
//! - `queue.rs`: taking a message, once for each key. `claim.rs`: whose turn it is. `settle.rs`: what became of it.
//!
//! A message is `queued` until somebody begins to send it, and `sending` from the moment before Meta is asked. What is
//! `sending` and nobody's any more may have been sent or not: it is failed as that, and never sent again.

mod claim;
mod queue;
mod settle;

pub use self::{
    queue::{NewOutgoing, NotAnswered, NotSending, Queued},
    settle::Outcome,
};
