//! Which database this is, and how often it was used: one row, or none in a copy.

use sea_orm::entity::prelude::*;

use crate::UnixMillis;

#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "installation")]
pub struct Model {
    /// Always 1.
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: i32,
    /// Random, made with the database. No other has it, but for copies of this one.
    pub name: String,
    /// Only grows: at every start, every stop, and now and then. Whoever remembers a higher one than
    /// is here has seen this database's future: it was set back.
    pub epoch: i64,
    /// Until when WhatsApp wants no dials from here, whosever they are.
    pub dials_paused_until: Option<UnixMillis>,
}

impl ActiveModelBehavior for ActiveModel {}
