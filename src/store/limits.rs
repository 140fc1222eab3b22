//! What PostgreSQL itself is told of how long a transaction that writes may take.
//!
//! In the transaction, and for it alone: a proxy such as `PgBouncer` refuses such parameters when a connection is made, and
//! gives one connection to many who would otherwise inherit them.

use std::time::Duration;

use sea_orm::{ConnectionTrait, DatabaseTransaction, DbBackend, DbErr};

/// PostgreSQL ends a transaction left open this long: its locks would stop everybody. Ours never wait
/// between statements, unless the process is paused or cut off; other daemons then wait for this.
const IDLE_IN_TRANSACTION: Duration = Duration::from_secs(5);

/// How long a statement waits for somebody else's lock at most. Whoever is told so is tried again.
const LOCK: Duration = Duration::from_secs(10);

/// What the server may be set to and is not for ours. The age of a transaction (since PostgreSQL 17): it takes as long as
/// its units need, within the deadline. And a commit that is not on the disk when it is confirmed, which is lost with the
/// server: WhatsApp was told that we have it. Not asked of the view of all settings, which takes longer than a group.
const OURS: &str = "SELECT set_config('transaction_timeout', '0', TRUE) \
     WHERE current_setting('transaction_timeout', TRUE) IS NOT NULL; \
     SELECT set_config('synchronous_commit', 'on', TRUE) \
     WHERE current_setting('synchronous_commit') NOT IN ('on', 'remote_apply')";

/// Limits this transaction, whose statements have `deadline` altogether.
///
/// Whoever waits for a lock is told before that, as he is in nobody's way and may wait again. A statement that goes on
/// after we have given it up ends soon after: its locks would stop those who try again.
pub(super) async fn set(txn: &DatabaseTransaction, deadline: Duration) -> Result<(), DbErr> {
    if txn.get_database_backend() != DbBackend::Postgres {
        return Ok(());
    }
    txn.execute_unprepared(&statement(deadline)).await.map(drop)
}

fn statement(deadline: Duration) -> String {
    let idle = IDLE_IN_TRANSACTION.as_millis();
    let lock = LOCK.min(deadline * 2 / 3).as_millis().max(1);
    let whole = (deadline + Duration::from_secs(1)).as_millis();
    format!(
        "SET LOCAL idle_in_transaction_session_timeout = {idle}; SET LOCAL lock_timeout = {lock}; \
         SET LOCAL statement_timeout = {whole}; {OURS}"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_is_given_up_before_the_group_is_and_a_statement_after_it() {
        let limits = "SET LOCAL idle_in_transaction_session_timeout = 5000; SET LOCAL lock_timeout = 10000; \
                      SET LOCAL statement_timeout = 31000";
        assert_eq!(statement(Duration::from_secs(30)), format!("{limits}; {OURS}"));
    }
}
