//! One token in the place of another: both, or neither.

use std::time::Duration;

use entity::{
    UnixMillis, audit as audit_row,
    id::{OrganizationId, TokenId},
    kind::AuditAction,
    token,
};
use sea_orm::{
    ColumnTrait, DatabaseTransaction, DbErr, EntityTrait, QueryFilter, QueryOrder, QuerySelect,
    sea_query::{Expr, LockType},
};
use serde_json::{Value, json};

use super::{NewToken, Tokens, insert, is_valid, new_row};
use crate::store::{
    Error, Made,
    audit::{self, By},
    idempotency::{Key, made_before, release},
    writer::Patience,
};

/// What the audit log calls the end that a token had before another took its place.
const WOULD_END: &str = "wouldHaveExpiredAt";

/// What became of a token that was to be replaced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rotated {
    /// The one in its place.
    Made(Made<token::Model>),
    /// It is no longer good, so nothing takes its place.
    Ended,
}

impl Tokens {
    /// Makes a token of the same role, label and end, whose secret has this hash, once for each key. The old one is
    /// good for `overlap` more, and not at all with none.
    pub async fn rotate(
        &self,
        organization: &OrganizationId,
        id: &TokenId,
        (secret_hash, overlap): (String, Duration),
        key: Option<Key>,
        by: By,
    ) -> Result<Rotated, Error> {
        let now = self.store.clock().now();
        let work = (organization.clone(), id.clone(), secret_hash, key, by);
        self.store
            .writer()
            .run(organization.as_str(), Patience::Fail, move |txn| {
                let (organization, id, secret_hash, key, by) = work.clone();
                Box::pin(async move {
                    let of = |id: String| {
                        token::Entity::find()
                            .filter(token::COLUMN.organization_id.eq(organization.clone()))
                            .filter(token::COLUMN.id.eq(id))
                    };
                    let (key, new_id) = (key.as_ref(), TokenId::new(now, rand::random()));
                    let made = made_before(txn, &organization, key, new_id.as_str(), now, of);
                    if let Some(made) = made.await? {
                        return Ok(Rotated::Made(made));
                    }
                    // Locked: of two that come at once the second finds it ended.
                    let old = of(id.to_string()).lock(LockType::NoKeyUpdate).one(txn).await?;
                    let Some(old) = old.filter(|old| is_valid(old, now)) else {
                        release(txn, &organization, new_id.as_str()).await?;
                        return Ok(Rotated::Ended);
                    };
                    let like = NewToken {
                        role: old.role,
                        secret_hash,
                        label: old.label.clone(),
                        expires_at: own_end(txn, &old).await?,
                    };
                    let row = token::Model { id: new_id, ..new_row(&organization, like, now) };
                    insert(txn, &row, &by, &json!({ "replaces": old.id })).await?;
                    end(txn, &old, (overlap, now), &by, &row).await?;
                    Ok(Rotated::Made(Made::New(row)))
                })
            })
            .await
    }
}

/// When a token would end if no other had taken its place: whoever has lost the first answer asks again, and shall not
/// be given one that ends with the overlap.
async fn own_end(
    txn: &DatabaseTransaction,
    old: &token::Model,
) -> Result<Option<UnixMillis>, DbErr> {
    let entry = audit_row::Entity::find()
        .filter(audit_row::COLUMN.organization_id.eq(old.organization_id.clone()))
        .filter(audit_row::COLUMN.action.eq(AuditAction::TokenRotated))
        .filter(audit_row::COLUMN.target.eq(old.id.as_str()))
        .order_by_desc(audit_row::COLUMN.at)
        .order_by_desc(audit_row::COLUMN.id)
        .one(txn)
        .await?;
    let Some(entry) = entry else { return Ok(old.expires_at) };
    let detail: Value = serde_json::from_str(&entry.detail).unwrap_or_default();
    Ok(detail[WOULD_END].as_i64().map(UnixMillis))
}

/// Ends a token at once, or has it expire when the overlap is over.
async fn end(
    txn: &DatabaseTransaction,
    old: &token::Model,
    (overlap, now): (Duration, UnixMillis),
    by: &By,
    heir: &token::Model,
) -> Result<(), DbErr> {
    let until = now + overlap;
    let until = old.expires_at.map_or(until, |at| at.min(until));
    let (column, at) = if overlap.is_zero() {
        (token::Column::RevokedAt, now)
    } else {
        (token::Column::ExpiresAt, until)
    };
    token::Entity::update_many()
        .col_expr(column, Expr::value(at))
        .filter(token::COLUMN.organization_id.eq(old.organization_id.clone()))
        .filter(token::COLUMN.id.eq(old.id.clone()))
        .exec(txn)
        .await?;
    let (action, detail) = if overlap.is_zero() {
        (AuditAction::TokenRevoked, json!({ "replacedBy": heir.id }))
    } else {
        let detail =
            json!({ "replacedBy": heir.id, "expiresAt": until, WOULD_END: heir.expires_at });
        (AuditAction::TokenRotated, detail)
    };
    let what = (action, old.id.as_str());
    audit::write(txn, &old.organization_id, by, now, what, &detail).await
}
