//! Which phone number is behind a hidden identity.

use sea_orm::entity::prelude::*;

#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "wa_lid_mapping")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub device_id: i32,
    #[sea_orm(primary_key, auto_increment = false)]
    pub lid: String,
    pub phone_number: String,
    /// Seconds, as the client counts.
    pub created_at: i64,
    /// Seconds, as the client counts.
    pub updated_at: i64,
    pub learning_source: String,
    /// Grows with each write: of two mappings of one number, the later counts.
    pub position: i64,
}

impl ActiveModelBehavior for ActiveModel {}
