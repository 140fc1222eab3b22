//! What an endpoint has missed as it was disabled, by sequence numbers of events.
//!
//! It is what the endpoint did not take since it began to fail, and what it was not owed until it was resumed. It has
//! been told of some in between.

use sea_orm::entity::prelude::*;

use super::state::DisabledReason;
use crate::{
    UnixMillis,
    id::{EndpointId, GapId},
};

#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "webhook_gap")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: GapId,
    pub endpoint_id: EndpointId,
    pub reason: DisabledReason,
    /// The last event before the first that it has missed.
    pub after_seq: i64,
    /// The last event that it was not owed; none while it goes on.
    pub through_seq: Option<i64>,
    pub since: UnixMillis,
    pub until: Option<UnixMillis>,
}

impl ActiveModelBehavior for ActiveModel {}
