//! What an endpoint has missed when it is disabled.

use entity::{
    UnixMillis,
    id::{EndpointId, EventId},
    webhook::{delivery, endpoint, health, state::DeliveryState},
};
use sea_orm::{
    ColumnTrait, ConnectionTrait, DatabaseTransaction, DbErr, EntityTrait, QueryFilter,
    QuerySelect, Statement,
};

/// The first event that an endpoint was not told of since it began to fail: given up since, or still owed.
///
/// Not counted is what was sent again from further back, by a replay or a retry: the gap would begin there, and
/// have in it what the endpoint was never owed. A replay of what it has missed counts, with what it had not
/// come to.
pub(super) async fn first(
    txn: &DatabaseTransaction,
    of: &endpoint::Model,
    now: UnixMillis,
) -> Result<Option<i64>, DbErr> {
    let id = &of.id;
    let health = health::Entity::find_by_id(id.clone()).one(txn).await?;
    let since = health.and_then(|row| row.first_failure_at).unwrap_or(now);
    // What was owed before that had been given up when it began to fail.
    let oldest = since.0.saturating_sub(of.max_age_ms);
    let counts = format!(
        "(cause = 'event' OR (cause = 'retry' AND created_at >= {oldest}) OR replay_id IN \
         (SELECT id FROM webhook_replay WHERE endpoint_id = '{id}' AND undelivered_only))"
    );
    let of_state = |state: &str| {
        format!(
            "SELECT MIN(seq) AS seq FROM webhook_delivery WHERE endpoint_id = '{id}' AND {state} AND {counts}"
        )
    };
    let parts = [
        of_state("state = 'pending'"),
        of_state("state = 'claimed' AND lease_until > 0"),
        of_state(&format!("state = 'exhausted' AND finished_at >= {}", since.0)),
        format!(
            "SELECT MIN(cursor_seq) + 1 AS seq FROM webhook_replay WHERE endpoint_id = '{id}' \
             AND state = 'running' AND undelivered_only"
        ),
    ];
    let ask = format!("SELECT MIN(seq) FROM ({}) AS missed", parts.join(" UNION ALL "));
    let ask = Statement::from_string(txn.get_database_backend(), ask);
    let row = txn.query_one_raw(ask).await?;
    row.map_or(Ok(None), |row| row.try_get_by_index(0))
}

/// Those of some events that an endpoint was told of, or is still to be told of.
pub(super) async fn delivered(
    txn: &DatabaseTransaction,
    endpoint: &EndpointId,
    events: Vec<EventId>,
) -> Result<Vec<EventId>, DbErr> {
    delivery::Entity::find()
        .select_only()
        .column(delivery::Column::EventId)
        .filter(delivery::COLUMN.endpoint_id.eq(endpoint.clone()))
        .filter(delivery::COLUMN.event_id.is_in(events))
        .filter(delivery::Column::State.is_in([
            DeliveryState::Succeeded,
            DeliveryState::Pending,
            DeliveryState::Claimed,
        ]))
        .into_tuple()
        .all(txn)
        .await
}
