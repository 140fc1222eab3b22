//! The chain with which one sender encrypts for one group.

use sea_orm::entity::prelude::*;

#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "wa_sender_key")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub device_id: i32,
    /// The group and the sender's device.
    #[sea_orm(primary_key, auto_increment = false)]
    pub address: String,
    pub record: Vec<u8>,
}

impl ActiveModelBehavior for ActiveModel {}
