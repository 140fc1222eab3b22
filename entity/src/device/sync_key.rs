//! A key of the app state protocol.

use sea_orm::entity::prelude::*;

#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "wa_sync_key")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub device_id: i32,
    #[sea_orm(primary_key, auto_increment = false)]
    pub key_id: Vec<u8>,
    pub key_data: Vec<u8>,
    pub fingerprint: Vec<u8>,
    /// As WhatsApp gave it.
    pub key_timestamp: i64,
    /// Grows with each write: the latest key is the one stored last.
    pub position: i64,
}

impl ActiveModelBehavior for ActiveModel {}
