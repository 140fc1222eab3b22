//! Events that no session's run has seen: what becomes of endpoints, of accounts at Meta, and of sessions themselves.
//!
//! They are numbered like all others, are part of the feed, and endpoints that want them are told.

use std::collections::{BTreeSet, HashMap};

use entity::{
    UnixMillis,
    id::{EndpointId, EventId, OrganizationId},
    meta::account,
    organization, session,
};
use sea_orm::{
    ColumnTrait, DatabaseTransaction, DbErr, EntityTrait, ExprTrait, QueryFilter, sea_query::Expr,
};
use serde_json::{Value, json};

use super::fanout::{Known, Told, owe};
use crate::webhook::EventType;

/// What a notice is about.
#[derive(Clone, Copy, Debug)]
pub(in crate::store) enum About<'a> {
    /// An endpoint, which is not told of it itself.
    Endpoint(&'a OrganizationId, &'a EndpointId),
    Session(&'a session::Model),
    /// An account at Meta.
    Account(&'a account::Model),
}

/// Records that something happened, in the transaction in which it happened. Returns who is owed it.
///
/// It locks the organization's row, as every event does: whoever also locks a session's row does that
/// afterwards.
pub(in crate::store) async fn announce(
    txn: &DatabaseTransaction,
    known: &Known,
    now: UnixMillis,
    about: About<'_>,
    kind: EventType,
    data: &Value,
) -> Result<BTreeSet<EndpointId>, DbErr> {
    let organization = match about {
        About::Endpoint(organization, _) => organization,
        About::Session(row) => &row.organization_id,
        About::Account(row) => &row.organization_id,
    };
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
    let (session, endpoint) = match about {
        About::Endpoint(_, id) => (None, Some(id.clone())),
        About::Session(row) => (Some(row), None),
        About::Account(_) => (None, None),
    };
    let conversation = match about {
        About::Endpoint(_, id) => id.to_string(),
        About::Session(row) => format!("{}:", row.id),
        About::Account(row) => row.id.to_string(),
    };
    let told = Told {
        id: EventId::new(now, rand::random()),
        organization_id: organization.clone(),
        seq: row.last_seq,
        kind,
        session_key: session.map(|row| row.id.clone()),
        session_id: session.map(|row| row.session_id.to_string()),
        phone_number: session.and_then(|row| row.phone_number.clone()),
        conversation,
        payload: data.to_string(),
        occurred_at: now,
        about: endpoint,
        in_feed: true,
        unreadable: false,
    };
    let versions = HashMap::from([(organization.clone(), row.webhook_version)]);
    owe(txn, known, now, &versions, vec![told]).await
}

/// Records that a session was made, or deleted.
pub(in crate::store) async fn announce_session(
    txn: &DatabaseTransaction,
    known: &Known,
    now: UnixMillis,
    row: &session::Model,
    kind: EventType,
) -> Result<BTreeSet<EndpointId>, DbErr> {
    let data = json!({
        "sessionId": row.session_id,
        "userId": row.user_id,
        "phoneNumber": row.phone_number,
    });
    announce(txn, known, now, About::Session(row), kind, &data).await
}
