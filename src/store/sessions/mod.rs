//! Sessions: which there are, what is wanted of them, and who runs them.
//!
//! What is *observed* of a session (status, QR code, account) is written by `store::events` alone,
//! together with the event that says so. The one exception is what becomes of it when its owner has
//! died: [`Leases::take_back`](super::leases::Leases::take_back).
//!
//! Here: how one is found, and written to. `create.rs`, `delete.rs`, `list.rs`; `settings.rs` has what callers set of it,
//! `runs.rs` whether it shall run and what its runs come to, `claims.rs` and `heirs.rs` what is left when one ends,
//! `external.rs` those that run elsewhere, `of_user.rs` those of a user.

mod claims;
mod create;
mod delete;
mod external;
mod heirs;
mod list;
mod of_user;
mod runs;
mod settings;

use std::{borrow::Cow, collections::HashMap};

use entity::{
    id::{OrganizationId, SessionId, SessionKey},
    kind::AuditAction,
    session,
};
use sea_orm::{
    ActiveValue::Set,
    ColumnTrait, Condition, EntityTrait, QueryFilter, QuerySelect,
    sea_query::{Expr, ExprTrait, SimpleExpr},
};

pub(in crate::store) use self::create::places_left;
pub(super) use self::{
    claims::{LIVE, take_back},
    create::{cloud_row, insert},
};
pub use self::{
    create::{Created, NewExternal, NewSession},
    external::{Receiver, SessionData},
    list::{Filter, Migrated, StatusCount, StatusFilter, Summary},
    of_user::OfUser,
    settings::{Change, Changed, Settings},
};
use super::{
    Error, Store,
    audit::{self, By},
    writer::Patience,
};

/// What somebody did to a session, for the audit log: written in the transaction that does it.
#[derive(Clone, Debug)]
pub struct Act {
    pub action: AuditAction,
    /// An object without secrets.
    pub detail: serde_json::Value,
    pub by: By,
}

/// The address of a session's account, as far as it is known.
pub fn own_address(row: &session::Model) -> Option<Cow<'_, str>> {
    let of_number = || row.phone_number.as_ref().map(|number| format!("{number}@s.whatsapp.net"));
    row.account_jid.as_deref().map(Cow::Borrowed).or_else(|| of_number().map(Cow::Owned))
}

/// Whether it was not deleted.
pub(in crate::store) fn is_there() -> SimpleExpr {
    Expr::col((session::Entity, session::Column::DeletedAt)).is_null()
}

/// Of rows of this table: those of sessions that were not deleted. What a deleted one has left is going.
///
/// Those that were deleted are looked up once, in an index of them alone, and not the session of each row.
pub(in crate::store) fn of_one_that_is_there(table: &str) -> SimpleExpr {
    Expr::cust(format!(
        "{table}.session_key NOT IN (SELECT id FROM session WHERE deleted_at IS NOT NULL)"
    ))
}

/// Queries over sessions.
#[derive(Clone, Debug)]
pub struct Sessions {
    store: Store,
}

impl Sessions {
    pub(super) const fn new(store: Store) -> Self {
        Self { store }
    }

    /// Looks one session up by what its users call it.
    pub async fn find(
        &self,
        organization: &OrganizationId,
        id: &SessionId,
    ) -> Result<Option<session::Model>, Error> {
        let found = session::Entity::find()
            .filter(session::COLUMN.organization_id.eq(organization.clone()))
            .filter(session::COLUMN.session_id.eq(id.clone()))
            .filter(is_there())
            .one(self.store.reader())
            .await?;
        self.store.open_session(found).await
    }

    /// Looks one session up by its row's key.
    pub async fn find_by_key(&self, key: &SessionKey) -> Result<Option<session::Model>, Error> {
        self.read_by_key(key, Patience::Fail).await
    }

    /// The same, for whoever cannot go on without: waits for a lost database.
    pub async fn wait_by_key(&self, key: &SessionKey) -> Result<Option<session::Model>, Error> {
        self.read_by_key(key, Patience::Wait).await
    }

    async fn read_by_key(
        &self,
        key: &SessionKey,
        patience: Patience,
    ) -> Result<Option<session::Model>, Error> {
        let found = self
            .store
            .read(patience, |db| {
                Box::pin(session::Entity::find_by_id(key.clone()).filter(is_there()).one(db))
            })
            .await?;
        self.store.open_session(found).await
    }

    /// What the sessions of these rows are called.
    pub async fn names(
        &self,
        organization: &OrganizationId,
        keys: Vec<SessionKey>,
    ) -> Result<HashMap<SessionKey, SessionId>, Error> {
        let names: Vec<(SessionKey, SessionId)> = session::Entity::find()
            .select_only()
            .column(session::Column::Id)
            .column(session::Column::SessionId)
            .filter(session::COLUMN.organization_id.eq(organization.clone()))
            .filter(session::COLUMN.id.is_in(keys))
            .filter(is_there())
            .into_tuple()
            .all(self.store.reader())
            .await?;
        Ok(names.into_iter().collect())
    }

    async fn update(
        &self,
        organization: &OrganizationId,
        key: &SessionKey,
        change: session::ActiveModel,
        act: Option<Act>,
    ) -> Result<Option<session::Model>, Error> {
        self.update_if(organization, key, change, act, Condition::all()).await
    }

    async fn update_if(
        &self,
        organization: &OrganizationId,
        key: &SessionKey,
        change: session::ActiveModel,
        act: Option<Act>,
        only: Condition,
    ) -> Result<Option<session::Model>, Error> {
        let now = self.store.clock().now();
        let (lane, organization, key) = (key.to_string(), organization.clone(), key.clone());
        let changed = self
            .store
            .writer()
            .run(&lane, Patience::Fail, move |txn| {
                let (organization, key) = (organization.clone(), key.clone());
                let (mut change, act, only) = (change.clone(), act.clone(), only.clone());
                change.updated_at = Set(now);
                Box::pin(async move {
                    let rows = session::Entity::update_many()
                        .set(change)
                        .filter(session::COLUMN.organization_id.eq(organization.clone()))
                        .filter(session::COLUMN.id.eq(key))
                        .filter(is_there())
                        .filter(only)
                        .exec_with_returning(txn)
                        .await?;
                    let row = rows.into_iter().next();
                    if let (Some(row), Some(Act { action, detail, by })) = (&row, act) {
                        let what = (action, row.session_id.as_str());
                        audit::write(txn, &organization, &by, now, what, &detail).await?;
                    }
                    Ok(row)
                })
            })
            .await?;
        self.store.open_session(changed).await
    }
}
