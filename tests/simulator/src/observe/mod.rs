//! What tests and scripts can see of the simulator, without sleeping.
//!
//! Each person has a [`Journal`] of what its clients did and what it received;
//! waiting calls look at it, sleep until it changes, and look again. [`Counters`] are for numbers.

mod counters;
mod journal;
mod records;
mod sockets;

pub(crate) use counters::Counters;
pub use counters::Info;
pub(crate) use journal::{Entries, Journal};
pub use records::{Inflicted, Login, Receipt, ReceiptKind, SentMessage, Typing};
pub(crate) use sockets::Sockets;
pub use sockets::{Socket, SocketState};
