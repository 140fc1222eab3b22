//! Tokens: who may call, by the hash of what they show.

use entity::{
    UnixMillis,
    id::{OrganizationId, TokenId},
    state::Role,
    token,
};
use sea_orm::{
    ColumnTrait, EntityTrait, QueryFilter, QueryOrder, TryInsertResult, sea_query::Expr,
};

use super::{Error, Store, writer::Patience};

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

    /// All tokens of an organization, the oldest first.
    pub async fn list(&self, organization: &OrganizationId) -> Result<Vec<token::Model>, Error> {
        let rows = token::Entity::find()
            .filter(token::COLUMN.organization_id.eq(organization.clone()))
            .order_by_asc(token::COLUMN.id)
            .all(self.store.reader())
            .await?;
        Ok(rows)
    }

    /// Adds a token, unless its secret is known.
    pub async fn add(&self, organization: &OrganizationId, new: NewToken) -> Result<Added, Error> {
        let now = self.store.clock().now();
        let row = token::Model {
            id: TokenId::new(now, rand::random()),
            organization_id: organization.clone(),
            role: new.role,
            secret_hash: new.secret_hash,
            label: new.label,
            created_at: now,
            expires_at: new.expires_at,
            revoked_at: None,
        };
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
    pub async fn revoke(&self, organization: &OrganizationId, id: &TokenId) -> Result<bool, Error> {
        let now = self.store.clock().now();
        let (lane, organization, id) = (organization.to_string(), organization.clone(), id.clone());
        self.store
            .writer()
            .run(&lane, Patience::Fail, move |txn| {
                let (organization, id) = (organization.clone(), id.clone());
                Box::pin(async move {
                    let revoked = token::Entity::update_many()
                        .col_expr(token::Column::RevokedAt, Expr::value(now))
                        .filter(token::COLUMN.organization_id.eq(organization))
                        .filter(token::COLUMN.id.eq(id))
                        .filter(token::COLUMN.revoked_at.is_null())
                        .exec(txn)
                        .await?;
                    Ok(revoked.rows_affected > 0)
                })
            })
            .await
    }
}
