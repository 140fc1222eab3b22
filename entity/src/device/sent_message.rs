//! A message sent, kept for a while to be sent again to a device that could not read it.

use sea_orm::entity::prelude::*;

#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "wa_sent_message")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub device_id: i32,
    #[sea_orm(primary_key, auto_increment = false)]
    pub chat_jid: String,
    #[sea_orm(primary_key, auto_increment = false)]
    pub message_id: String,
    pub payload: Vec<u8>,
    /// Seconds, as the client counts.
    pub stored_at: i64,
}

impl ActiveModelBehavior for ActiveModel {}
