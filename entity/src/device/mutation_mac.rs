//! The value that stands behind one index of a collection.

use sea_orm::entity::prelude::*;

#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "wa_mutation_mac")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub device_id: i32,
    /// The collection.
    #[sea_orm(primary_key, auto_increment = false)]
    pub name: String,
    #[sea_orm(primary_key, auto_increment = false)]
    pub index_mac: Vec<u8>,
    pub version: i64,
    pub value_mac: Vec<u8>,
}

impl ActiveModelBehavior for ActiveModel {}
