//! Whether a device in a group has our sender key.

use sea_orm::entity::prelude::*;

#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "wa_sender_key_device")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub device_id: i32,
    #[sea_orm(primary_key, auto_increment = false)]
    pub group_jid: String,
    #[sea_orm(primary_key, auto_increment = false)]
    pub device_jid: String,
    pub has_key: bool,
}

impl ActiveModelBehavior for ActiveModel {}
