//! What is remembered of an endpoint's answers.

use sea_orm::entity::prelude::*;

use crate::{UnixMillis, id::EndpointId};

#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "webhook_health")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub endpoint_id: EndpointId,
    /// Failed attempts since the last success.
    pub consecutive_failures: i32,
    /// The first of them.
    pub first_failure_at: Option<UnixMillis>,
    pub last_failure_at: Option<UnixMillis>,
    pub last_success_at: Option<UnixMillis>,
    /// Not called before: the breaker is open, or the receiver asked for it.
    pub hold_until: Option<UnixMillis>,
    /// How often in a row the breaker has opened.
    pub opens: i32,
    /// Whether its failing was told, and its recovery is to be.
    pub alerted: i32,
    /// When it was last told that deliveries were given up.
    pub exhausted_alert_at: Option<UnixMillis>,
}

impl ActiveModelBehavior for ActiveModel {}
