//! The secret of a message, which opens the reactions, edits and votes that refer to it.

use sea_orm::entity::prelude::*;

#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "wa_msg_secret")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub device_id: i32,
    #[sea_orm(primary_key, auto_increment = false)]
    pub chat: String,
    #[sea_orm(primary_key, auto_increment = false)]
    pub sender: String,
    #[sea_orm(primary_key, auto_increment = false)]
    pub message_id: String,
    /// 32 bytes.
    pub secret: Vec<u8>,
    /// Seconds; 0 for never.
    pub expires_at: i64,
    /// Seconds; 0 for unknown.
    pub message_ts: i64,
}

impl ActiveModelBehavior for ActiveModel {}
