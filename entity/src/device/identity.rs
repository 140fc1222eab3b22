//! The identity key of a peer's device.

use sea_orm::entity::prelude::*;

#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "wa_identity")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub device_id: i32,
    /// `user@server`, or `user:device@server`.
    #[sea_orm(primary_key, auto_increment = false)]
    pub address: String,
    /// 32 bytes.
    pub key: Vec<u8>,
}

impl ActiveModelBehavior for ActiveModel {}
