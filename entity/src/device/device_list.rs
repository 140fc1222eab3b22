//! The devices of a user, as WhatsApp last listed them.

use sea_orm::entity::prelude::*;

#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "wa_device_list")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub device_id: i32,
    /// Of the address: a phone number or a hidden identity.
    #[sea_orm(primary_key, auto_increment = false)]
    pub user_part: String,
    /// JSON.
    pub devices: String,
    /// Seconds, as the client counts.
    pub listed_at: i64,
    pub phash: Option<String>,
    /// When it changes, the user has a new identity.
    pub raw_id: Option<i64>,
}

impl ActiveModelBehavior for ActiveModel {}
