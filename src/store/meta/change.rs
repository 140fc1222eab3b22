//! Making and changing accounts: the whole row, if it is still the one that was looked at.

use entity::{
    id::{MetaAccountId, OrganizationId},
    kind::AuditAction,
    meta::account,
};
use sea_orm::{
    ActiveModelTrait, ColumnTrait, DatabaseTransaction, DbErr, EntityTrait, IntoActiveModel,
    PaginatorTrait as _, QueryFilter, QuerySelect,
};
use serde_json::{Value, json};

use super::{
    Meta,
    carry::{Door, of_account, own},
};
use crate::store::{
    Error, Made, Patience,
    audit::{self, By},
    idempotency::{Key, made_before, unclaim},
    organizations,
};

/// An account as it shall be.
#[derive(Clone, Debug)]
pub struct Putting {
    pub row: account::Model,
    /// The version that was looked at; none for one that is to be made.
    pub seen: Option<i64>,
    /// The most accounts of the organization.
    pub most: u64,
    pub key: Option<Key>,
    pub by: By,
    /// Nothing is written down of a change that is none.
    pub action: Option<AuditAction>,
    /// For the audit log, without secrets.
    pub detail: Value,
    /// It has all that it needs: so it has its session, though nothing was told of it yet.
    pub is_complete: bool,
}

/// What became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Put {
    Done(Box<Made<account::Model>>),
    /// Somebody else was faster: look again.
    Raced,
    /// The organization has as many as it may have.
    TooMany,
    /// Somebody has the number already, with the same app.
    Taken,
}

impl Meta {
    /// Makes or changes an account.
    pub async fn put(&self, putting: Putting) -> Result<Put, Error> {
        let now = self.store.clock().now();
        let lane = putting.row.organization_id.to_string();
        let sealer = self.store.sealer(&putting.row.organization_id, Patience::Fail).await?;
        let known = self.store.writer().known().clone();
        let put = self
            .store
            .writer()
            .run(&lane, Patience::Fail, move |txn| {
                let (putting, sealer, known) = (putting.clone(), sealer.clone(), known.clone());
                Box::pin(async move {
                    let mut door = Door::new(txn, &sealer, &known, now);
                    let Putting { mut row, seen, most, key, by, action, detail, is_complete } =
                        putting;
                    let owner = row.organization_id.clone();
                    let (key, id) = (key.as_ref(), row.id.clone());
                    // Before the account, as by whoever carries out what was told of it.
                    organizations::lock(txn, &owner).await?;
                    if let Some(made) =
                        made_before(txn, &owner, key, id.as_str(), now, |id| of(&owner, id)).await?
                    {
                        return Ok((Put::Done(Box::new(made)), door.touched));
                    }
                    let there =
                        account::Entity::find_by_id(id.clone()).lock_exclusive().one(txn).await?;
                    let refused = if there.map(|row| row.version) != seen {
                        Some(Put::Raced)
                    } else if let Some(other) = other(txn, &row).await? {
                        // Made meanwhile, it is the one to be changed.
                        let is_own = other.organization_id == owner && seen.is_none();
                        Some(if is_own { Put::Raced } else { Put::Taken })
                    } else if seen.is_none() && count(txn, &owner).await? >= most {
                        Some(Put::TooMany)
                    } else {
                        None
                    };
                    if let Some(refused) = refused {
                        if let Some(key) = key {
                            unclaim(txn, &owner, key).await?;
                        }
                        return Ok((refused, door.touched));
                    }
                    row.version = seen.unwrap_or(0) + 1;
                    let active = row.clone().into_active_model();
                    if seen.is_some() {
                        account::Entity::update(active.reset_all()).exec(txn).await?;
                    } else {
                        account::Entity::insert(active).exec_without_returning(txn).await?;
                    }
                    if let Some(action) = action {
                        audit::write(txn, &owner, &by, now, (action, id.as_str()), &detail).await?;
                    }
                    if is_complete && row.session_key.is_none() {
                        let session = of_account(&mut door, &row, own(&row).as_deref()).await?;
                        (row.session_key, row.version) = (Some(session.id), row.version + 1);
                    }
                    Ok((Put::Done(Box::new(Made::New(row))), door.touched))
                })
            })
            .await;
        match put {
            // Two organizations in one moment: the second has it at its commit.
            Err(error) if error.is_unique_violation() => Ok(Put::Raced),
            put => {
                let (put, touched) = put?;
                self.store.webhooks().touch(touched);
                Ok(put)
            }
        }
    }
}

impl Meta {
    /// Takes an account away; false if there is none. Nothing that it has goes with it.
    pub async fn delete_account(
        &self,
        organization: &OrganizationId,
        id: &MetaAccountId,
        by: By,
    ) -> Result<bool, Error> {
        let now = self.store.clock().now();
        let (lane, owner, id) = (organization.to_string(), organization.clone(), id.clone());
        self.store
            .writer()
            .run(&lane, Patience::Fail, move |txn| {
                let (owner, id, by) = (owner.clone(), id.clone(), by.clone());
                Box::pin(async move {
                    let found = of(&owner, id.to_string()).lock_exclusive().one(txn).await?;
                    let Some(row) = found else { return Ok(false) };
                    account::Entity::delete_by_id(id.clone()).exec(txn).await?;
                    let what = (AuditAction::MetaAccountDeleted, id.as_str());
                    let detail = json!({ "phoneNumberId": row.phone_number_id });
                    audit::write(txn, &owner, &by, now, what, &detail).await?;
                    Ok(true)
                })
            })
            .await
    }
}

fn of(owner: &OrganizationId, id: String) -> sea_orm::Select<account::Entity> {
    account::Entity::find()
        .filter(account::COLUMN.organization_id.eq(owner.clone()))
        .filter(account::COLUMN.id.eq(id))
}

async fn count(txn: &DatabaseTransaction, owner: &OrganizationId) -> Result<u64, DbErr> {
    account::Entity::find()
        .filter(account::COLUMN.organization_id.eq(owner.clone()))
        .count(txn)
        .await
}

/// Another account that has the number: one organization has it once, and so has one app.
async fn other(
    txn: &DatabaseTransaction,
    row: &account::Model,
) -> Result<Option<account::Model>, DbErr> {
    let others = account::Entity::find()
        .filter(account::COLUMN.phone_number_id.eq(row.phone_number_id.as_str()))
        .all(txn)
        .await?;
    let is_same = |other: &account::Model| {
        other.id != row.id
            && (other.app_print == row.app_print || other.organization_id == row.organization_id)
    };
    Ok(others.into_iter().find(is_same))
}
