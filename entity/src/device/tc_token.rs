//! A trusted contact's privacy token, and when ours was last given.

use sea_orm::entity::prelude::*;

#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "wa_tc_token")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub device_id: i32,
    #[sea_orm(primary_key, auto_increment = false)]
    pub jid: String,
    /// Empty while only our own was given.
    pub token: Vec<u8>,
    /// Seconds.
    pub token_timestamp: i64,
    /// Seconds.
    pub sender_timestamp: Option<i64>,
}

impl ActiveModelBehavior for ActiveModel {}
