//! WhatsApp's own state of one linked device: what the client library must find again after a restart.
//!
//! The row here is the device itself; the modules are the tables around it, all keyed by its id, all
//! gone when it goes. Their columns are the client's storage traits, and only `wagate::device` uses
//! them. Names that look like ours but are not begin with `wa_` in the database.

use sea_orm::entity::prelude::*;

use crate::{UnixMillis, id::SessionKey};

pub mod base_key;
pub mod device_list;
pub mod group_metadata;
pub mod identity;
pub mod lid_mapping;
pub mod msg_secret;
pub mod mutation_mac;
pub mod pending_inbound;
pub mod prekey;
pub mod sender_key;
pub mod sender_key_device;
pub mod sent_message;
pub mod session;
pub mod signed_prekey;
pub mod sync_key;
pub mod sync_version;
pub mod tc_token;

#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "device")]
pub struct Model {
    #[sea_orm(primary_key)]
    pub id: i32,
    #[sea_orm(unique)]
    pub session_key: SessionKey,
    /// The client's `Device`, as JSON: keys, counters, routing. None before it first saved one.
    pub state: Option<Vec<u8>>,
    /// The account's address, once paired. A copy of what is in `state`, to be looked at.
    pub pn: Option<String>,
    /// The account's hidden identity, once paired.
    pub lid: Option<String>,
    pub created_at: UnixMillis,
    pub updated_at: UnixMillis,
}

impl ActiveModelBehavior for ActiveModel {}
