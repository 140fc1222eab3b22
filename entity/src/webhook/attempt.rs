//! One HTTP request of a delivery.

use sea_orm::entity::prelude::*;

use crate::{
    UnixMillis,
    id::{AttemptId, DeliveryId, EndpointId},
};

#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "webhook_attempt")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: AttemptId,
    pub delivery_id: DeliveryId,
    pub endpoint_id: EndpointId,
    /// Counts from 1.
    pub number: i32,
    pub started_at: UnixMillis,
    pub duration_ms: i32,
    /// The address that answered.
    pub peer: Option<String>,
    pub status: Option<i32>,
    /// What went wrong, in a stable word.
    pub error: Option<String>,
    /// The beginning of the answer's body.
    pub response: Option<String>,
}

impl ActiveModelBehavior for ActiveModel {}
