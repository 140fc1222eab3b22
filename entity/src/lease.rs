//! Who runs a session.

use sea_orm::entity::prelude::*;

use crate::{
    UnixMillis,
    id::{NodeId, SessionKey},
};

#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "lease")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub session_key: SessionKey,
    /// The owner, for as long as it has a row among the nodes; none when it gave the session back.
    #[sea_orm(indexed)]
    pub node_id: Option<NodeId>,
    /// Counts owners. Who writes for the session says which one it is.
    pub epoch: i64,
    /// When the owner came to own it.
    pub taken_at: UnixMillis,
    /// The state directory of the daemon that owned it last; none before the first.
    pub home: Option<String>,
}

impl ActiveModelBehavior for ActiveModel {}
