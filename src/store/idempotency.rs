//! Idempotency keys: what each of them made, kept in the transaction that made it.

use entity::{
    UnixMillis,
    id::OrganizationId,
    idempotency::{self, Column, Entity},
};
use sea_orm::{
    ColumnTrait, DatabaseTransaction, DbErr, EntityTrait, QueryFilter, Select, TryInsertResult,
    sea_query::Expr,
};

use super::Made;

/// A key that the caller chose for a request, and the request in short.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    pub key: String,
    /// SHA-256 of the request, in hexadecimal.
    pub fingerprint: String,
}

/// Whether a key was free.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Claimed {
    /// It is the caller's now: make the resource, in this transaction.
    Free,
    /// The same request made this before.
    Made { resource_id: String },
    /// The key was used for another request.
    Reused,
}

/// Claims a key for the resource that is about to be made.
///
/// Two requests with one key at the same time: the second waits for the first's commit, here or at
/// the writer's lane, and then finds what it made.
pub(super) async fn claim(
    txn: &DatabaseTransaction,
    organization: &OrganizationId,
    key: &Key,
    resource_id: &str,
    now: UnixMillis,
) -> Result<Claimed, DbErr> {
    let row = idempotency::Model {
        organization_id: organization.clone(),
        key: key.key.clone(),
        fingerprint: key.fingerprint.clone(),
        resource_id: resource_id.to_owned(),
        created_at: now,
    };
    let inserted = Entity::insert(idempotency::ActiveModel::from(row))
        .on_conflict_do_nothing_on([Column::OrganizationId, Column::Key])
        .exec(txn)
        .await?;
    if matches!(inserted, TryInsertResult::Inserted(_)) {
        return Ok(Claimed::Free);
    }
    let made = Entity::find_by_id((organization.clone(), key.key.clone()))
        .one(txn)
        .await?
        .ok_or_else(|| DbErr::RecordNotFound("an idempotency key that was there".to_owned()))?;
    Ok(if made.fingerprint == key.fingerprint {
        Claimed::Made { resource_id: made.resource_id }
    } else {
        Claimed::Reused
    })
}

/// What an earlier request with this key came to; none when there was none: the key is for `resource_id`
/// then, to be made in this transaction. `rows` finds the resource of an id. Of one that is gone, the key
/// stays used: it is not made again by whoever asks once more for what he has asked for.
pub(super) async fn made_before<E: EntityTrait>(
    txn: &DatabaseTransaction,
    organization: &OrganizationId,
    key: Option<&Key>,
    resource_id: &str,
    now: UnixMillis,
    rows: impl FnOnce(String) -> Select<E>,
) -> Result<Option<Made<E::Model>>, DbErr> {
    let Some(key) = key else { return Ok(None) };
    Ok(match claim(txn, organization, key, resource_id, now).await? {
        Claimed::Free => None,
        Claimed::Reused => Some(Made::KeyReused),
        Claimed::Made { resource_id } => {
            let made = rows(resource_id).one(txn).await?;
            Some(made.map_or(Made::Gone, Made::Before))
        }
    })
}

/// The same for what leaves no resource of its own: `says` is kept of it in short, and told again.
pub(super) async fn said_before(
    txn: &DatabaseTransaction,
    organization: &OrganizationId,
    key: Option<&Key>,
    says: &str,
    now: UnixMillis,
) -> Result<Option<Made<String>>, DbErr> {
    let Some(key) = key else { return Ok(None) };
    Ok(match claim(txn, organization, key, says, now).await? {
        Claimed::Free => None,
        Claimed::Reused => Some(Made::KeyReused),
        Claimed::Made { resource_id } => Some(Made::Before(resource_id)),
    })
}

/// A point in time, as it is kept of such a request.
pub(super) fn moment(says: &str) -> Option<UnixMillis> {
    says.parse().ok().map(UnixMillis)
}

/// When a key was used first.
pub(super) async fn used_at(
    txn: &DatabaseTransaction,
    organization: &OrganizationId,
    key: &Key,
) -> Result<Option<UnixMillis>, DbErr> {
    let found = Entity::find_by_id((organization.clone(), key.key.clone())).one(txn).await?;
    Ok(found.map(|row| row.created_at))
}

/// Lets a key stand for another resource, because the one it made is gone.
pub(super) async fn reassign(
    txn: &DatabaseTransaction,
    organization: &OrganizationId,
    key: &Key,
    resource_id: &str,
) -> Result<(), DbErr> {
    Entity::update_many()
        .col_expr(Column::ResourceId, Expr::value(resource_id))
        .filter(idempotency::COLUMN.organization_id.eq(organization.clone()))
        .filter(idempotency::COLUMN.key.eq(key.key.as_str()))
        .exec(txn)
        .await?;
    Ok(())
}

/// Frees a key that was claimed in this transaction, for nothing was done with it.
pub(super) async fn unclaim(
    txn: &DatabaseTransaction,
    organization: &OrganizationId,
    key: &Key,
) -> Result<(), DbErr> {
    Entity::delete_many()
        .filter(idempotency::COLUMN.organization_id.eq(organization.clone()))
        .filter(idempotency::COLUMN.key.eq(key.key.as_str()))
        .exec(txn)
        .await?;
    Ok(())
}

/// Frees the key that made a resource which shall never have been.
pub(super) async fn release(
    txn: &DatabaseTransaction,
    organization: &OrganizationId,
    resource_id: &str,
) -> Result<(), DbErr> {
    Entity::delete_many()
        .filter(idempotency::COLUMN.organization_id.eq(organization.clone()))
        .filter(idempotency::COLUMN.resource_id.eq(resource_id))
        .exec(txn)
        .await?;
    Ok(())
}
