//! Endpoints that choose sessions, when one session takes over from others.

use entity::{
    UnixMillis,
    id::{EndpointId, OrganizationId, SessionId},
    webhook::{endpoint, state::EndpointState},
};
use sea_orm::{
    ActiveModelTrait,
    ActiveValue::{Set, Unchanged},
    ColumnTrait, ConnectionTrait, DatabaseTransaction, DbErr, EntityTrait, QueryFilter, QueryOrder,
    QuerySelect,
};

use super::changes::{bump, words};

/// What one endpoint chooses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::store) struct Choice {
    id: EndpointId,
    version: i64,
    sessions: Vec<String>,
}

impl Choice {
    fn has(&self, id: &SessionId) -> bool {
        self.sessions.iter().any(|chosen| chosen == id.as_str())
    }
}

/// The endpoints of an organization that choose any of these sessions by name.
pub(in crate::store) async fn choices<C: ConnectionTrait>(
    db: &C,
    organization: &OrganizationId,
    ids: &[&SessionId],
) -> Result<Vec<Choice>, DbErr> {
    let rows: Vec<(EndpointId, i64, String)> = endpoint::Entity::find()
        .select_only()
        .column(endpoint::Column::Id)
        .column(endpoint::Column::Version)
        .column(endpoint::Column::SessionIds)
        .filter(endpoint::COLUMN.organization_id.eq(organization.clone()))
        .filter(endpoint::Column::State.ne(EndpointState::Deleted))
        .filter(endpoint::COLUMN.session_ids.ne("[]"))
        .order_by_asc(endpoint::COLUMN.id)
        .into_tuple()
        .all(db)
        .await?;
    let choices = rows.into_iter().map(|(id, version, sessions)| Choice {
        id,
        version,
        sessions: serde_json::from_str(&sessions).unwrap_or_default(),
    });
    Ok(choices.filter(|choice| ids.iter().any(|id| choice.has(id))).collect())
}

/// Those that choose `old` and not yet `new`.
pub(in crate::store) fn of(
    choices: &[Choice],
    old: &SessionId,
    new: &SessionId,
) -> Vec<EndpointId> {
    let of = choices.iter().filter(|choice| choice.has(old) && !choice.has(new));
    of.map(|choice| choice.id.clone()).collect()
}

/// Has all of these choose `new` as well. The organization's row is locked by this transaction.
pub(in crate::store) async fn add(
    txn: &DatabaseTransaction,
    organization: &OrganizationId,
    now: UnixMillis,
    choices: &[Choice],
    new: &SessionId,
) -> Result<(), DbErr> {
    let mut changed = false;
    for choice in choices.iter().filter(|choice| !choice.has(new)) {
        if !std::mem::replace(&mut changed, true) {
            bump(txn, organization).await?;
        }
        let mut sessions = choice.sessions.clone();
        sessions.push(new.to_string());
        endpoint::ActiveModel {
            id: Unchanged(choice.id.clone()),
            session_ids: Set(words(&sessions)),
            version: Set(choice.version + 1),
            updated_at: Set(now),
            ..Default::default()
        }
        .update(txn)
        .await?;
    }
    Ok(())
}
