//! What the client knows of a group, in its own form.

use sea_orm::entity::prelude::*;

#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "wa_group_metadata")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub device_id: i32,
    #[sea_orm(primary_key, auto_increment = false)]
    pub group_jid: String,
    pub metadata: Vec<u8>,
}

impl ActiveModelBehavior for ActiveModel {}
