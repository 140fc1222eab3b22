//! One token in the place of another: both, or neither.

use std::time::Duration;

use entity::{
    UnixMillis,
    id::{OrganizationId, TokenId},
    kind::AuditAction,
    token,
};
use sea_orm::{
    ColumnTrait, DatabaseTransaction, DbErr, EntityTrait, QueryFilter, QuerySelect,
    sea_query::{Expr, LockType},
};
use serde_json::json;

use super::{NewToken, Tokens, insert, is_valid, new_row};
use crate::store::{
    Error, Made,
    audit::{self, By},
    idempotency::{Key, made_before, release},
    writer::Patience,
};

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
                        expires_at: own_end(&old),
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
const fn own_end(old: &token::Model) -> Option<UnixMillis> {
    if old.replaced_at.is_some() { old.own_expires_at } else { old.expires_at }
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
    let update = token::Entity::update_many();
    let update = if overlap.is_zero() {
        update.col_expr(token::Column::RevokedAt, Expr::value(now))
    } else {
        let first = old.replaced_at.unwrap_or(now);
        update
            .col_expr(token::Column::ExpiresAt, Expr::value(until))
            .col_expr(token::Column::ReplacedAt, Expr::value(first))
            .col_expr(token::Column::OwnExpiresAt, Expr::value(own_end(old)))
    };
    update
        .filter(token::COLUMN.organization_id.eq(old.organization_id.clone()))
        .filter(token::COLUMN.id.eq(old.id.clone()))
        .exec(txn)
        .await?;
    let (action, detail) = if overlap.is_zero() {
        (AuditAction::TokenRevoked, json!({ "replacedBy": heir.id }))
    } else {
        let detail = json!({ "replacedBy": heir.id, "expiresAt": until, "wouldHaveExpiredAt": heir.expires_at });
        (AuditAction::TokenRotated, detail)
    };
    let what = (action, old.id.as_str());
    audit::write(txn, &old.organization_id, by, now, what, &detail).await
}
