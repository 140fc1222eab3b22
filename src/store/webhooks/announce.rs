//! Events about endpoints, which their tenant's other endpoints are told of.

use std::collections::{BTreeSet, HashMap};

use entity::{
    UnixMillis,
    id::{EndpointId, EventId, OrganizationId},
    organization,
};
use sea_orm::{
    ColumnTrait, DatabaseTransaction, DbErr, EntityTrait, ExprTrait, QueryFilter, sea_query::Expr,
};
use serde_json::Value;

use super::fanout::{Known, Told, owe};
use crate::webhook::EventType;

/// Records that something happened to an endpoint, in the transaction in which it happened.
pub(super) async fn announce(
    txn: &DatabaseTransaction,
    known: &Known,
    now: UnixMillis,
    organization: &OrganizationId,
    about: &EndpointId,
    kind: EventType,
    data: &Value,
) -> Result<BTreeSet<EndpointId>, DbErr> {
    // The same statement as events take their numbers with: PostgreSQL prepares it once, for 64 bits.
    let rows = organization::Entity::update_many()
        .col_expr(
            organization::Column::LastSeq,
            Expr::col(organization::Column::LastSeq).add(1_i64),
        )
        .filter(organization::COLUMN.id.eq(organization.clone()))
        .exec_with_returning(txn)
        .await?;
    let Some(row) = rows.first() else { return Ok(BTreeSet::new()) };
    let told = Told {
        id: EventId::new(now, rand::random()),
        organization_id: organization.clone(),
        seq: row.last_seq,
        kind,
        session_key: None,
        session_id: None,
        phone_number: None,
        conversation: about.to_string(),
        payload: data.to_string(),
        occurred_at: now,
        about: Some(about.clone()),
    };
    let versions = HashMap::from([(organization.clone(), row.webhook_version)]);
    owe(txn, known, now, &versions, vec![told]).await
}
