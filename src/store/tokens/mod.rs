//! Tokens: who may call, by the hash of what they show.
//!
//! `adopt.rs`: the secret of a file that is there before the database. `rotate.rs`: one token in the place of another.

mod adopt;
mod rotate;

use std::time::Duration;

use entity::{
    UnixMillis,
    id::{OrganizationId, TokenId},
    kind::AuditAction,
    state::Role,
    token,
};
use sea_orm::{
    ColumnTrait, Condition, DatabaseTransaction, DbErr, EntityTrait, QueryFilter, QueryOrder,
    QuerySelect, TryInsertResult, sea_query::Expr,
};
use serde_json::{Value, json};

pub(super) use self::adopt::worth;
pub use self::{
    adopt::{Adopted, Worth},
    rotate::Rotated,
};
use super::{
    Error, Made, Store,
    audit::{self, By},
    idempotency::{Key, made_before},
    page::Page,
    writer::Patience,
};

/// Uses within this time of the last one that was written down are not.
pub const USE_GRANULARITY: Duration = Duration::from_mins(1);

/// A token to be made.
#[derive(Clone, Debug)]
pub struct NewToken {
    pub role: Role,
    /// SHA-256 of the secret, in hexadecimal.
    pub secret_hash: String,
    pub label: String,
    pub expires_at: Option<UnixMillis>,
}

/// What became of a token to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Added {
    New(TokenId),
    /// This very secret is a token already.
    Known,
}

/// Whether tokens are good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    Active,
    Expired,
    Revoked,
}

/// Queries over tokens.
#[derive(Clone, Debug)]
pub struct Tokens {
    store: Store,
}

impl Tokens {
    pub(super) const fn new(store: Store) -> Self {
        Self { store }
    }

    /// Looks the token up whose secret has this hash, valid or not.
    pub async fn find_by_hash(&self, secret_hash: &str) -> Result<Option<token::Model>, Error> {
        let found = token::Entity::find()
            .filter(token::COLUMN.secret_hash.eq(secret_hash))
            .one(self.store.reader())
            .await?;
        Ok(found)
    }

    /// Looks a token of whichever organization up, valid or not. For what is then held against it.
    pub async fn find_anywhere(&self, id: &TokenId) -> Result<Option<token::Model>, Error> {
        Ok(token::Entity::find_by_id(id.clone()).one(self.store.reader()).await?)
    }

    /// Looks a token of an organization up, valid or not.
    pub async fn find(
        &self,
        organization: &OrganizationId,
        id: &TokenId,
    ) -> Result<Option<token::Model>, Error> {
        let found = token::Entity::find_by_id(id.clone())
            .filter(token::COLUMN.organization_id.eq(organization.clone()))
            .one(self.store.reader())
            .await?;
        Ok(found)
    }

    /// A page of an organization's tokens with these roles, the oldest first, valid or not.
    pub async fn list(
        &self,
        organization: &OrganizationId,
        roles: Vec<Role>,
        state: Option<State>,
        page: &Page<TokenId>,
    ) -> Result<Vec<token::Model>, Error> {
        let now = self.store.clock().now();
        let mut query = token::Entity::find()
            .filter(token::COLUMN.organization_id.eq(organization.clone()))
            .filter(token::COLUMN.role.is_in(roles))
            .filter(Condition::all().add_option(state.map(|state| is(state, now))))
            .order_by_asc(token::COLUMN.created_at)
            .order_by_asc(token::COLUMN.id)
            .limit(page.limit);
        if let Some(after) = &page.after {
            let later = token::COLUMN.created_at.gt(after.at);
            let same_time = token::COLUMN.created_at.eq(after.at);
            let higher_id = token::COLUMN.id.gt(after.id.clone());
            query = query.filter(
                Condition::any().add(later).add(Condition::all().add(same_time).add(higher_id)),
            );
        }
        Ok(query.all(self.store.reader()).await?)
    }

    /// Makes a token for somebody, once for each key.
    pub async fn create(
        &self,
        organization: &OrganizationId,
        new: NewToken,
        key: Option<Key>,
        by: By,
    ) -> Result<Made<token::Model>, Error> {
        let now = self.store.clock().now();
        let row = new_row(organization, new, now);
        let work = (row, key, by);
        self.store
            .writer()
            .run(organization.as_str(), Patience::Fail, move |txn| {
                let (row, key, by) = work.clone();
                Box::pin(async move {
                    let owner = &row.organization_id;
                    let of = |id| {
                        token::Entity::find()
                            .filter(token::COLUMN.organization_id.eq(owner.clone()))
                            .filter(token::COLUMN.id.eq(id))
                    };
                    let (key, id) = (key.as_ref(), row.id.as_str());
                    if let Some(made) = made_before(txn, owner, key, id, now, of).await? {
                        return Ok(made);
                    }
                    insert(txn, &row, &by, &json!({})).await?;
                    Ok(Made::New(row))
                })
            })
            .await
    }

    /// Notes that a token is used, unless that was noted within [`USE_GRANULARITY`].
    pub async fn touch(&self, organization: &OrganizationId, id: &TokenId) -> Result<(), Error> {
        let now = self.store.clock().now();
        let id = id.clone();
        self.store
            .writer()
            .run(organization.as_str(), Patience::Fail, move |txn| {
                let id = id.clone();
                Box::pin(async move {
                    token::Entity::update_many()
                        .col_expr(token::Column::LastUsedAt, Expr::value(now))
                        .filter(token::COLUMN.id.eq(id))
                        .exec(txn)
                        .await
                        .map(drop)
                })
            })
            .await
    }

    /// Adds a token, unless its secret is known.
    pub async fn add(&self, organization: &OrganizationId, new: NewToken) -> Result<Added, Error> {
        let row = new_row(organization, new, self.store.clock().now());
        self.store
            .writer()
            .run(organization.as_str(), Patience::Fail, move |txn| {
                let row = row.clone();
                Box::pin(async move {
                    let id = row.id.clone();
                    let inserted = token::Entity::insert(token::ActiveModel::from(row))
                        .on_conflict_do_nothing_on([token::Column::SecretHash])
                        .exec(txn)
                        .await?;
                    Ok(match inserted {
                        TryInsertResult::Inserted(_) => Added::New(id),
                        TryInsertResult::Conflicted | TryInsertResult::Empty => Added::Known,
                    })
                })
            })
            .await
    }

    /// Revokes a token from now on. Whether it was valid until then.
    pub async fn revoke(
        &self,
        organization: &OrganizationId,
        id: &TokenId,
        by: By,
    ) -> Result<bool, Error> {
        let now = self.store.clock().now();
        let work = (organization.clone(), id.clone(), by);
        self.store
            .writer()
            .run(organization.as_str(), Patience::Fail, move |txn| {
                let (organization, id, by) = work.clone();
                Box::pin(async move {
                    let revoked = token::Entity::update_many()
                        .col_expr(token::Column::RevokedAt, Expr::value(now))
                        .filter(token::COLUMN.organization_id.eq(organization.clone()))
                        .filter(token::COLUMN.id.eq(id.clone()))
                        .filter(token::COLUMN.revoked_at.is_null())
                        .exec(txn)
                        .await?;
                    let was_valid = revoked.rows_affected > 0;
                    if was_valid {
                        let what = (AuditAction::TokenRevoked, id.as_str());
                        audit::write(txn, &organization, &by, now, what, &json!({})).await?;
                    }
                    Ok(was_valid)
                })
            })
            .await
    }
}

/// Whether a token opens anything.
///
/// Revoked is revoked: when that was is for people. The clock of another daemon, or ours after it was set, may be behind
/// of what was written down then.
pub fn is_valid(row: &token::Model, now: UnixMillis) -> bool {
    row.revoked_at.is_none() && row.expires_at.is_none_or(|at| now < at)
}

/// The same rule, in SQL.
fn is(state: State, now: UnixMillis) -> Condition {
    let unrevoked = Condition::all().add(token::COLUMN.revoked_at.is_null());
    match state {
        State::Active => unrevoked.add(
            Condition::any()
                .add(token::COLUMN.expires_at.is_null())
                .add(token::COLUMN.expires_at.gt(now)),
        ),
        State::Revoked => Condition::all().add(token::COLUMN.revoked_at.is_not_null()),
        State::Expired => unrevoked.add(token::COLUMN.expires_at.lte(now)),
    }
}

/// Writes a token's row, and who has made it. `more` is what the audit log says of it besides.
async fn insert(
    txn: &DatabaseTransaction,
    row: &token::Model,
    by: &By,
    more: &Value,
) -> Result<(), DbErr> {
    token::Entity::insert(token::ActiveModel::from(row.clone()))
        .exec_without_returning(txn)
        .await?;
    let what = (AuditAction::TokenCreated, row.id.as_str());
    let mut detail = json!({ "role": row.role, "label": row.label, "expiresAt": row.expires_at });
    for (name, value) in more.as_object().into_iter().flatten() {
        detail[name] = value.clone();
    }
    audit::write(txn, &row.organization_id, by, row.created_at, what, &detail).await
}

fn new_row(organization: &OrganizationId, new: NewToken, now: UnixMillis) -> token::Model {
    token::Model {
        id: TokenId::new(now, rand::random()),
        organization_id: organization.clone(),
        role: new.role,
        secret_hash: new.secret_hash,
        label: new.label,
        created_at: now,
        expires_at: new.expires_at,
        revoked_at: None,
        last_used_at: None,
        replaced_at: None,
        own_expires_at: None,
    }
}
