//! Under which master key the data keys are; one row.

use sea_orm::entity::prelude::*;

use crate::UnixMillis;

#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "vault")]
pub struct Model {
    /// Always [`Entity::ROW`].
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: i32,
    /// Tells one master key from another, and nothing about either.
    pub master_key_id: String,
    /// When the last row from before there were keys was sealed; none while some may be in clear.
    pub sealed_at: Option<UnixMillis>,
}

impl Entity {
    /// The one row.
    pub const ROW: i32 = 1;
}

impl ActiveModelBehavior for ActiveModel {}
