//! One event owed to one endpoint.

use sea_orm::entity::prelude::*;

use super::state::{Cause, DeliveryState};
use crate::{
    UnixMillis,
    id::{DeliveryId, EndpointId, EventId, OrganizationId},
};

#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "webhook_delivery")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: DeliveryId,
    pub organization_id: OrganizationId,
    #[sea_orm(unique_key = "owed")]
    pub endpoint_id: EndpointId,
    #[sea_orm(unique_key = "owed")]
    pub event_id: EventId,
    pub event_type: String,
    /// The event's.
    pub seq: i64,
    /// Deliveries with the same one go out one at a time, in the order of `seq`; none in any order.
    pub order_key: Option<String>,
    /// The replay that asked for it again; empty for the first time.
    #[sea_orm(unique_key = "owed")]
    pub replay_id: String,
    pub cause: Cause,
    pub state: DeliveryState,
    /// Requests that were made and counted.
    pub attempts: i32,
    /// When it is due; 0 at once, whatever the clock says.
    pub next_at: i64,
    /// When it is given up.
    pub expires_at: UnixMillis,
    /// The fencing token of whoever is sending it: results under another one do not count.
    pub claim: Option<i64>,
    /// The daemon that is sending it.
    pub claimed_by: Option<String>,
    /// From when on another daemon may send it.
    pub lease_until: Option<UnixMillis>,
    /// Of the last attempt.
    pub last_status: Option<i32>,
    /// Of the last attempt, or why it was given up, in a stable word.
    pub last_error: Option<String>,
    pub created_at: UnixMillis,
    pub finished_at: Option<UnixMillis>,
}

impl ActiveModelBehavior for ActiveModel {}
