//! Something that one daemon asks of the one that runs a session.

use sea_orm::entity::prelude::*;

use crate::{
    UnixMillis,
    id::{CommandId, NodeId, SessionKey},
};

#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "command")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: CommandId,
    pub session_key: SessionKey,
    /// Sealed JSON; may hold a phone number.
    pub request: String,
    /// Who carries it out; none while nobody does.
    pub taken_by: Option<NodeId>,
    /// Sealed JSON; may hold a pairing code. None before it is carried out.
    pub answer: Option<String>,
    /// Nobody waits for it any more from here on. By the database's clock.
    pub expires_at: UnixMillis,
}

impl ActiveModelBehavior for ActiveModel {}
