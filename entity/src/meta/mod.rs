//! Meta's Cloud API: the numbers of an organization there, what Meta has sent about them, and what is to be sent.

pub mod account;
pub mod body;
pub mod event;
pub mod outbox;
pub mod state;
