//! What PostgreSQL itself is told of how long a transaction that writes may take.
//!
//! In the transaction, and for it alone: a proxy such as `PgBouncer` refuses such parameters when a connection is made, and
//! gives one connection to many who would otherwise inherit them.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use sea_orm::{
    ConnectionTrait, DatabaseTransaction, DbBackend, DbErr,
    sqlx::{self, Postgres, pool::PoolOptions},
};

/// PostgreSQL ends a transaction left open this long: its locks would stop everybody. Ours never wait
/// between statements, unless the process is paused or cut off; other daemons then wait for this.
const IDLE_IN_TRANSACTION: Duration = Duration::from_secs(5);

/// How long a statement waits for somebody else's lock at most. Whoever is told so is tried again.
const LOCK: Duration = Duration::from_secs(10);

/// What a server is set to, beside that, and must not be in a transaction of ours.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Limits {
    /// It can end a transaction for its age (since PostgreSQL 17): ours takes as long as its units need, within the deadline.
    ends_for_age: bool,
    /// It confirms a commit when others have carried it out, too. That is more than ours need, and is left so.
    applies_remotely: bool,
}

/// What is known of the server that a lane's pool is connected to.
#[derive(Clone, Debug, Default)]
pub(super) struct Learned(Arc<Mutex<Limits>>);

impl Learned {
    /// Asks on each new connection, which may be to another server than the last, or after it was set otherwise. And before
    /// there is a transaction: one that has asked anything takes no other isolation any more.
    pub(super) fn ask(&self, pool: PoolOptions<Postgres>) -> PoolOptions<Postgres> {
        let learned = self.clone();
        pool.after_connect(move |connection, _| {
            let learned = learned.clone();
            Box::pin(async move {
                let ask = "SELECT current_setting('transaction_timeout', TRUE) IS NOT NULL, \
                           current_setting('synchronous_commit') = 'remote_apply'";
                let (ends_for_age, applies_remotely) =
                    sqlx::query_as(ask).fetch_one(connection).await?;
                *learned.0.lock().unwrap_or_else(PoisonError::into_inner) =
                    Limits { ends_for_age, applies_remotely };
                Ok(())
            })
        })
    }

    /// As it was last learnt.
    pub(super) fn get(&self) -> Limits {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Limits {
    /// Limits this transaction, whose statements have `deadline` altogether.
    ///
    /// Whoever waits for a lock is told before that, as he is in nobody's way and may wait again. A statement that goes on
    /// after we have given it up ends soon after: its locks would stop those who try again.
    pub(super) async fn set(
        self,
        txn: &DatabaseTransaction,
        deadline: Duration,
    ) -> Result<(), DbErr> {
        if txn.get_database_backend() != DbBackend::Postgres {
            return Ok(());
        }
        txn.execute_unprepared(&self.statement(deadline)).await.map(drop)
    }

    fn statement(self, deadline: Duration) -> String {
        let idle = IDLE_IN_TRANSACTION.as_millis();
        let lock = LOCK.min(deadline * 2 / 3).as_millis().max(1);
        let whole = (deadline + Duration::from_secs(1)).as_millis();
        let age = if self.ends_for_age { "; SET LOCAL transaction_timeout = 0" } else { "" };
        // What is confirmed is on the disk, whatever the server is set to by now: WhatsApp was told that we have it.
        let disk = if self.applies_remotely { "remote_apply" } else { "on" };
        format!(
            "SET LOCAL idle_in_transaction_session_timeout = {idle}; SET LOCAL lock_timeout = {lock}; \
             SET LOCAL statement_timeout = {whole}{age}; SET LOCAL synchronous_commit = {disk}"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_is_given_up_before_the_group_is_and_a_statement_after_it() {
        let limits = "SET LOCAL idle_in_transaction_session_timeout = 5000; SET LOCAL lock_timeout = 10000; \
                      SET LOCAL statement_timeout = 31000";
        let deadline = Duration::from_secs(30);
        let disk = "SET LOCAL synchronous_commit = on";
        assert_eq!(Limits::default().statement(deadline), format!("{limits}; {disk}"));
        let all = Limits { ends_for_age: true, applies_remotely: true };
        let more = "SET LOCAL transaction_timeout = 0; SET LOCAL synchronous_commit = remote_apply";
        assert_eq!(all.statement(deadline), format!("{limits}; {more}"));
    }
}
