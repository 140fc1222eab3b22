//! An event as endpoints are told of it. There is one for each event that some endpoint is owed, and for each
//! that no session's run has seen: what becomes of endpoints, and of sessions themselves.

use sea_orm::entity::prelude::*;

use crate::{
    UnixMillis,
    id::{EventId, OrganizationId, SessionKey},
};

#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "webhook_event")]
pub struct Model {
    /// What receivers know it by, over all retries.
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: EventId,
    #[sea_orm(unique_key = "organization_seq")]
    pub organization_id: OrganizationId,
    /// Grows by commit order within an organization; gaps mean nothing.
    #[sea_orm(unique_key = "organization_seq")]
    pub seq: i64,
    /// The dotted name: `message.received`.
    pub event_type: String,
    /// The session it is about, if it is about one.
    pub session_key: Option<SessionKey>,
    /// What that session was called then.
    pub session_id: Option<String>,
    /// Among which its order may matter: its session's key and its chat.
    pub conversation: String,
    /// The event's `data`, as JSON text; a pairing code in it is sealed as in `event`.
    pub payload: String,
    pub occurred_at: UnixMillis,
    /// The feed has it from here, as it is no `event`.
    pub in_feed: bool,
}

impl ActiveModelBehavior for ActiveModel {}
