//! Sessions: which there are, what is wanted of them, and who runs them.
//!
//! What is *observed* of a session (status, QR code, account) is written by `store::events` alone,
//! together with the event that says so. The one exception is what becomes of it when its owner has
//! died: [`Leases::take_back`](super::leases::Leases::take_back).

mod claims;
mod create;
mod delete;
mod external;
mod heirs;
mod list;
mod of_user;

use std::{borrow::Cow, collections::HashMap};

use entity::{
    UnixMillis,
    id::{OrganizationId, SessionId, SessionKey},
    kind::AuditAction,
    session,
    state::{DesiredState, SessionStatus},
};
use sea_orm::{
    ActiveValue::{self, Set},
    ColumnTrait, Condition, EntityTrait, ExprTrait, QueryFilter, QuerySelect, Value,
    sea_query::{Expr, SimpleExpr},
};
use serde_json::json;

pub(in crate::store) use self::create::places_left;
use self::external::{SealedReceiver, claimed_at, is_taken};
pub(super) use self::{
    claims::{LIVE, disclaim, take_back},
    create::{cloud_row, insert},
};
pub use self::{
    create::{Created, NewExternal, NewSession},
    external::{Receiver, SessionData},
    list::{Filter, Migrated, StatusCount, StatusFilter, Summary},
    of_user::OfUser,
};
use super::{
    Error, Store,
    audit::{self, By},
    secrets::seal_data,
    writer::Patience,
};
use crate::event::LASTING;

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

/// What to do with one setting.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Change<T> {
    #[default]
    Keep,
    Clear,
    To(T),
}

impl<T> Change<T> {
    /// Whether there is anything to do.
    pub const fn is_keep(&self) -> bool {
        matches!(self, Self::Keep)
    }

    fn into_active(self) -> ActiveValue<Option<T>>
    where
        Option<T>: Into<Value>,
    {
        match self {
            Self::Keep => ActiveValue::NotSet,
            Self::Clear => Set(None),
            Self::To(value) => Set(Some(value)),
        }
    }
}

/// Changes of what the caller may set.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    pub user_id: Change<String>,
    /// Digits only.
    pub phone_number: Change<String>,
    pub is_notification: Change<bool>,
    /// JSON text.
    pub ai_config: Change<String>,
    /// Of an external session.
    pub session_data: Change<SessionData>,
    /// Of an external session.
    pub receiver: Option<Receiver>,
}

/// What became of a change of settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Changed {
    Done(Box<session::Model>),
    /// There is no such session any more.
    Gone,
    /// Another session is called the same where it runs.
    VpsTaken,
    /// It has the number of its account, and no other can be said of it.
    NumberKnown,
}

/// Whether no account is known that it belongs to.
fn is_unlinked() -> Condition {
    Condition::all().add(session::COLUMN.account_jid.is_null())
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

    /// Changes settings. The number is changed only while that of its account is not known.
    pub async fn change(
        &self,
        organization: &OrganizationId,
        key: &SessionKey,
        settings: Settings,
        (action, by): (AuditAction, By),
    ) -> Result<Changed, Error> {
        let changed = [
            ("userId", !settings.user_id.is_keep()),
            ("phoneNumber", !settings.phone_number.is_keep()),
            ("isNotification", !settings.is_notification.is_keep()),
            // Its name alone: what it says is the tenant's own.
            ("aiConfig", !settings.ai_config.is_keep()),
            ("sessionData", !settings.session_data.is_keep()),
            ("webhookAuth", settings.receiver.is_some()),
        ];
        let changed: Vec<_> = changed
            .into_iter()
            .filter(|(_, is_changed)| *is_changed)
            .map(|(name, _)| name)
            .collect();
        let detail = json!({ "changed": changed });
        let act = Act { action, detail, by };
        let is_of_number = !settings.phone_number.is_keep();
        let mut change = session::ActiveModel {
            user_id: settings.user_id.into_active(),
            phone_number: settings.phone_number.into_active(),
            is_notification: settings.is_notification.into_active(),
            ai_config: settings.ai_config.into_active(),
            ..Default::default()
        };
        match settings.session_data {
            Change::Keep => {}
            Change::Clear => {
                change.session_data = Set(None);
                change.vps_session_id = Set(None);
                change.vps_claimed_at = Set(None);
            }
            Change::To(data) => {
                let (reader, now) = (self.store.reader(), self.store.clock().now());
                let id = data.vps_session_id.as_deref();
                if is_taken(reader, organization, key, id).await? {
                    return Ok(Changed::VpsTaken);
                }
                change.vps_claimed_at = Set(claimed_at(reader, organization, key, id, now).await?);
                let sealer = self.store.sealer(organization, Patience::Fail).await?;
                change.session_data = Set(Some(seal_data(&sealer, key, &data.json)));
                change.vps_session_id = Set(data.vps_session_id);
            }
        }
        if let Some(receiver) = &settings.receiver {
            let SealedReceiver { auth, secret } = self.sealed(organization, key, receiver).await?;
            change.receiver_auth = Set(Some(auth));
            // Who changes how it is let in wants nothing else to let it in.
            change.previous_receiver_secret = Set(None);
            change.previous_receiver_until = Set(None);
            if secret.is_some() {
                change.receiver_secret = Set(secret);
            }
        }
        let only = if is_of_number { is_unlinked() } else { Condition::all() };
        match self.update_if(organization, key, change, Some(act), only).await {
            // Another request has just given another session that name.
            Err(error) if error.is_unique_violation() => Ok(Changed::VpsTaken),
            changed => match changed? {
                Some(row) => Ok(Changed::Done(Box::new(row))),
                None if is_of_number && self.find_by_key(key).await?.is_some() => {
                    Ok(Changed::NumberKnown)
                }
                None => Ok(Changed::Gone),
            },
        }
    }

    /// Writes what the operator wants, and what he does; none when there is no such session any more, or
    /// it shall run and has handed over to another one.
    pub async fn set_desired_state(
        &self,
        organization: &OrganizationId,
        key: &SessionKey,
        desired_state: DesiredState,
        act: Act,
    ) -> Result<Option<session::Model>, Error> {
        let change =
            session::ActiveModel { desired_state: Set(desired_state), ..Default::default() };
        let only = match desired_state {
            DesiredState::Running => Condition::all().add(session::COLUMN.migrated_to.is_null()),
            DesiredState::Stopped => Condition::all(),
        };
        self.update_if(organization, key, change, Some(act), only).await
    }

    /// Has a session run for this phone number, or for the one that it has: that of its account, if that is known by
    /// then.
    pub async fn take_up(
        &self,
        organization: &OrganizationId,
        key: &SessionKey,
        phone_number: Option<String>,
        act: Act,
    ) -> Result<Option<session::Model>, Error> {
        let run = session::ActiveModel {
            desired_state: Set(DesiredState::Running),
            ..Default::default()
        };
        let only = Condition::all().add(session::COLUMN.migrated_to.is_null());
        if let Some(number) = phone_number {
            let run = session::ActiveModel { phone_number: Set(Some(number)), ..run.clone() };
            let (act, only) = (act.clone(), is_unlinked().add(only.clone()));
            if let Some(row) = self.update_if(organization, key, run, Some(act), only).await? {
                return Ok(Some(row));
            }
        }
        self.update_if(organization, key, run, Some(act), only).await
    }

    /// Forgets which account a session belonged to: any may be linked to it next.
    pub async fn forget_account(
        &self,
        organization: &OrganizationId,
        key: &SessionKey,
    ) -> Result<Option<session::Model>, Error> {
        let change = session::ActiveModel {
            phone_number: Set(None),
            push_name: Set(None),
            account_jid: Set(None),
            account_lid: Set(None),
            ..Default::default()
        };
        self.update(organization, key, change, None).await
    }

    /// Begins a new run of a session and returns its number; none when the session is gone, or has handed
    /// over to another one. A handover at this moment came before, or finds that the session runs.
    pub async fn begin_run(&self, key: &SessionKey) -> Result<Option<i64>, Error> {
        self.count_run(key, Condition::all().add(session::COLUMN.migrated_to.is_null())).await
    }

    /// Takes the number of a run that is none, so that whatever an earlier one still says comes too late;
    /// none when the session is gone.
    pub async fn next_generation(&self, key: &SessionKey) -> Result<Option<i64>, Error> {
        self.count_run(key, Condition::all()).await
    }

    async fn count_run(&self, key: &SessionKey, only: Condition) -> Result<Option<i64>, Error> {
        let (lane, key) = (key.to_string(), key.clone());
        self.store
            .writer()
            .run(&lane, Patience::Wait, move |txn| {
                let (key, only) = (key.clone(), only.clone());
                Box::pin(async move {
                    let rows = session::Entity::update_many()
                        .col_expr(
                            session::Column::Generation,
                            Expr::col(session::Column::Generation).add(1_i64),
                        )
                        .filter(session::COLUMN.id.eq(key))
                        .filter(is_there())
                        .filter(only)
                        .exec_with_returning(txn)
                        .await?;
                    Ok(rows.first().map(|row| row.generation))
                })
            })
            .await
    }

    /// Takes back what a session claims of its socket, which its owner is about to close; what its run still
    /// says of its status comes too late.
    pub async fn disclaim(&self, key: &SessionKey) -> Result<(), Error> {
        let (lane, key, now) = (key.to_string(), key.clone(), self.store.clock().now());
        self.store
            .writer()
            .run(&lane, Patience::Fail, move |txn| {
                let keys = vec![key.clone()];
                Box::pin(async move { disclaim(txn, keys, now).await })
            })
            .await
    }

    /// Writes down that a session is being dialled, for the so manieth time in a row without a
    /// connection that lasted. It waits for its next try no longer: a process that crashes now has
    /// dialled, and the next one does not find a wait that is over.
    pub async fn note_dial(&self, key: &SessionKey, failures: u32) -> Result<(), Error> {
        let now = self.store.clock().now();
        let failures = i32::try_from(failures).unwrap_or(i32::MAX);
        let (lane, key) = (key.to_string(), key.clone());
        self.store
            .writer()
            .run(&lane, Patience::Wait, move |txn| {
                let key = key.clone();
                Box::pin(async move {
                    session::Entity::update_many()
                        .col_expr(session::Column::LastDialAt, Expr::value(now))
                        .col_expr(session::Column::DialFailures, Expr::value(failures))
                        .filter(session::COLUMN.id.eq(key.clone()))
                        .exec(txn)
                        .await?;
                    // Where the database did not take that a refused one is dialled again, the next try
                    // is all that says so: without it, only a human could help.
                    session::Entity::update_many()
                        .set(session::ActiveModel {
                            next_attempt_at: Set(None),
                            ..Default::default()
                        })
                        .filter(session::COLUMN.id.eq(key))
                        .filter(session::COLUMN.status.eq(SessionStatus::Connecting))
                        .filter(session::COLUMN.next_attempt_at.is_not_null())
                        .exec(txn)
                        .await?;
                    Ok(())
                })
            })
            .await
    }

    /// Writes down that a session's connection has lasted: its dials are no failed ones any more.
    pub async fn note_sound(&self, key: &SessionKey) -> Result<(), Error> {
        let (lane, key) = (key.to_string(), key.clone());
        self.store
            .writer()
            .run(&lane, Patience::Fail, move |txn| {
                let key = key.clone();
                Box::pin(async move {
                    session::Entity::update_many()
                        .col_expr(session::Column::DialFailures, Expr::value(0))
                        .col_expr(session::Column::ThrottledUntil, Expr::value(None::<UnixMillis>))
                        .filter(session::COLUMN.id.eq(key.clone()))
                        .exec(txn)
                        .await?;
                    session::Entity::update_many()
                        .set(session::ActiveModel {
                            trouble: Set(None),
                            trouble_count: Set(0),
                            ..Default::default()
                        })
                        .filter(session::COLUMN.id.eq(key))
                        .filter(session::COLUMN.trouble.is_not_null())
                        .filter(session::COLUMN.trouble.is_not_in(LASTING))
                        .exec(txn)
                        .await?;
                    Ok(())
                })
            })
            .await
    }

    /// Takes back what the last process claimed of its sockets: they are gone with it.
    ///
    /// Called before the API answers. Sessions that another daemon runs stay as they are.
    pub async fn after_restart(&self) -> Result<(), Error> {
        let neglected = self.store.leases().neglected().await?;
        let keys = neglected.into_iter().map(|row| row.id).collect();
        self.store.leases().take_back(keys).await
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
