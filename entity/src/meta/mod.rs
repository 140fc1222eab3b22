//! Meta's Cloud API: the numbers of an organization there, and what Meta has sent about them.

pub mod account;
pub mod body;
pub mod event;
pub mod state;
