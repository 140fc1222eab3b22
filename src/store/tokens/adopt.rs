//! Adopting the secret of `operator.token`, which is in the file before it is in the database.
//!
//! A secret that was a token and is none any more must not become one again because it is still in the file. Rows of
//! operators are never retired (`crate::store::retention`), so a secret that was revoked is known to be. Of databases from
//! before that, and of copies that are older than the file, nothing is known of it: so what is unknown is adopted
//! only where it cannot have been anything before. That is when the file was made by a daemon that has not yet told the
//! database of it, and when the database has no token at all.

use entity::{
    UnixMillis,
    id::{OrganizationId, TokenId},
    token,
};
use sea_orm::{ConnectionTrait, DbErr, EntityTrait, QueryFilter};
use serde_json::json;

use super::{NewToken, Tokens, insert, is_valid, new_row};
use crate::store::{Error, audit::By, writer::Patience};

/// What a secret is worth.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Worth {
    Good,
    /// Revoked or expired.
    Ended(TokenId),
    /// No token has it, but there are others.
    Unknown,
    /// There is no token at all.
    First,
}

/// What the secret is worth that has this hash.
pub(in crate::store) async fn worth<C: ConnectionTrait>(
    db: &C,
    secret_hash: &str,
    now: UnixMillis,
) -> Result<Worth, DbErr> {
    let known = token::Entity::find().filter(token::COLUMN.secret_hash.eq(secret_hash));
    Ok(match known.one(db).await? {
        Some(known) if is_valid(&known, now) => Worth::Good,
        Some(known) => Worth::Ended(known.id),
        None if token::Entity::find().one(db).await?.is_some() => Worth::Unknown,
        None => Worth::First,
    })
}

/// What became of a secret that is in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Adopted {
    /// It is a token from now on.
    New(TokenId),
    /// It is one already.
    Known,
    /// It was one, and is revoked or expired. It stays so.
    Ended(TokenId),
    /// Nobody knows it here, and it may be one that was revoked: it opens nothing.
    Unknown,
}

impl Tokens {
    /// Lets a secret be a token, if it may be. `is_fresh` is whether it was never a token's before.
    pub async fn adopt(
        &self,
        organization: &OrganizationId,
        new: NewToken,
        is_fresh: bool,
    ) -> Result<Adopted, Error> {
        let now = self.store.clock().now();
        let row = new_row(organization, new, now);
        self.store
            .writer()
            .run(organization.as_str(), Patience::Fail, move |txn| {
                let row = row.clone();
                Box::pin(async move {
                    match worth(txn, &row.secret_hash, now).await? {
                        Worth::Good => return Ok(Adopted::Known),
                        Worth::Ended(id) => return Ok(Adopted::Ended(id)),
                        Worth::Unknown if !is_fresh => return Ok(Adopted::Unknown),
                        Worth::Unknown | Worth::First => {}
                    }
                    insert(txn, &row, &By::default(), &json!({})).await?;
                    Ok(Adopted::New(row.id))
                })
            })
            .await
    }
}
