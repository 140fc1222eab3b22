//! A message received and decrypted, whose commit is not known to have happened.

use sea_orm::entity::prelude::*;

#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "wa_pending_inbound")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub device_id: i32,
    #[sea_orm(primary_key, auto_increment = false)]
    pub chat: String,
    #[sea_orm(primary_key, auto_increment = false)]
    pub sender: String,
    #[sea_orm(primary_key, auto_increment = false)]
    pub message_id: String,
    pub message: Vec<u8>,
    /// Seconds, as the client counts.
    pub stored_at: i64,
}

impl ActiveModelBehavior for ActiveModel {}
