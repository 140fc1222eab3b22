//! The Signal session with a peer's device. Not ours: those are `entity::session`.

use sea_orm::entity::prelude::*;

#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "wa_session")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub device_id: i32,
    #[sea_orm(primary_key, auto_increment = false)]
    pub address: String,
    pub record: Vec<u8>,
}

impl ActiveModelBehavior for ActiveModel {}
