//! How far a collection of the app state is known, and its hash.

use sea_orm::entity::prelude::*;

#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "wa_sync_version")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub device_id: i32,
    #[sea_orm(primary_key, auto_increment = false)]
    pub name: String,
    /// The client's `HashState`, as JSON.
    pub state: Vec<u8>,
}

impl ActiveModelBehavior for ActiveModel {}
