//! A range of events that an endpoint is to be told of again.

use sea_orm::entity::prelude::*;

use super::state::ReplayState;
use crate::{
    UnixMillis,
    id::{EndpointId, OrganizationId, ReplayId},
};

#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "webhook_replay")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: ReplayId,
    pub organization_id: OrganizationId,
    pub endpoint_id: EndpointId,
    pub state: ReplayState,
    /// Events after this number …
    pub after_seq: i64,
    /// … up to this one.
    pub through_seq: i64,
    /// Only of events that the endpoint was neither told of nor is still to be told of.
    pub undelivered_only: bool,
    /// How far it has come.
    pub cursor_seq: i64,
    /// Deliveries that came of it so far.
    pub owed: i64,
    /// So many events are looked at in a second.
    pub rate_per_second: i32,
    /// When it last went on.
    pub stepped_at: UnixMillis,
    pub created_at: UnixMillis,
    pub finished_at: Option<UnixMillis>,
}

impl ActiveModelBehavior for ActiveModel {}
