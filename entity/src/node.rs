//! A running daemon, as those see it that share its database.

use sea_orm::entity::prelude::*;

use crate::{UnixMillis, id::NodeId};

#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "node")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: NodeId,
    /// Names the state directory. Who holds its lock knows that whoever wrote the same name before
    /// is dead.
    #[sea_orm(indexed)]
    pub home: String,
    /// For people: where to look.
    pub name: String,
    pub joined_at: UnixMillis,
    /// Dead from here on, unless it says before that it lives. By the database's clock.
    pub expires_at: UnixMillis,
}

impl ActiveModelBehavior for ActiveModel {}
