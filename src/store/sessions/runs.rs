//! Whether a session shall run, its runs, and what they have come to.

use entity::{
    UnixMillis,
    id::{OrganizationId, SessionKey},
    session,
    state::{DesiredState, SessionStatus},
};
use sea_orm::{
    ActiveValue::Set, ColumnTrait, Condition, EntityTrait, ExprTrait, QueryFilter, sea_query::Expr,
};

use super::{Act, Sessions, claims::disclaim, is_there, settings::is_unlinked};
use crate::{
    event::LASTING,
    store::{Error, writer::Patience},
};

impl Sessions {
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
}
