//! A tenant's URL that is told of events.

use sea_orm::entity::prelude::*;

use super::state::{DisabledReason, EndpointState, Format, Ordering};
use crate::{
    UnixMillis,
    id::{EndpointId, OrganizationId},
};

#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "webhook_endpoint")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: EndpointId,
    pub organization_id: OrganizationId,
    /// Where it is; sealed.
    pub url: String,
    pub description: Option<String>,
    pub format: Format,
    /// Patterns of event types, as a JSON array: `["message.*"]`.
    pub event_types: String,
    /// Session ids, as a JSON array; empty for all.
    pub session_ids: String,
    /// Digits only, as a JSON array; empty for all.
    pub phone_numbers: String,
    /// Headers of every request, as a JSON object; sealed.
    pub headers: Option<Vec<u8>>,
    pub ordering: Ordering,
    /// Requests at a time.
    pub max_in_flight: i32,
    pub rate_per_second: Option<i32>,
    /// For one request, body included.
    pub timeout_ms: i32,
    /// Tries after the first; none for as many as fit into `max_age_ms`.
    pub max_retries: Option<i32>,
    /// How long a delivery is tried.
    pub max_age_ms: i64,
    pub state: EndpointState,
    pub disabled_reason: Option<DisabledReason>,
    pub disabled_at: Option<UnixMillis>,
    /// Another number after every change of the endpoint or its secrets.
    pub version: i64,
    pub created_at: UnixMillis,
    pub updated_at: UnixMillis,
}

impl ActiveModelBehavior for ActiveModel {}
