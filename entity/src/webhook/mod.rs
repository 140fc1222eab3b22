//! Outbound webhooks: a tenant's endpoints, and what is owed to them.

pub mod attempt;
pub mod delivery;
pub mod endpoint;
pub mod event;
pub mod gap;
pub mod health;
pub mod replay;
pub mod secret;
pub mod state;
