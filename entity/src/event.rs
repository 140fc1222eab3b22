//! Something that happened on a session, in our words, recorded once.

use sea_orm::entity::prelude::*;

use crate::{
    UnixMillis,
    id::{EventId, OrganizationId, SessionKey},
    kind::EventKind,
};

#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "event")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: EventId,
    #[sea_orm(unique_key = "organization_seq")]
    pub organization_id: OrganizationId,
    /// Grows by commit order within an organization; gaps mean nothing.
    #[sea_orm(unique_key = "organization_seq")]
    pub seq: i64,
    #[sea_orm(unique_key = "session_dedupe")]
    pub session_key: SessionKey,
    /// What makes a repetition recognisable as the same event.
    #[sea_orm(unique_key = "session_dedupe")]
    pub dedupe_key: String,
    pub kind: EventKind,
    /// The event's `data`, as JSON text: what is signed later must stay the same bytes.
    pub payload: String,
    pub occurred_at: UnixMillis,
    pub recorded_at: UnixMillis,
}

impl ActiveModelBehavior for ActiveModel {}
