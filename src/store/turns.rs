//! Waiting for one's turn on PostgreSQL: to migrate, and to start.
//!
//! Not by a statement that waits: nobody would see that it does, and for how long. Whoever waits says so, and gives up.
//!
//! A turn is a lock of a transaction that stays open and does nothing else. A lock of a connection would be shared by all whom a
//! proxy gives that connection to, and kept when its holder is gone. It has no snapshot and no number, so it keeps no dead row
//! from being vacuumed. A server or a proxy may be set to end it for its age all the same: whoever has a turn asks for it
//! again before each step that nobody else may take.

use std::time::Duration;

use sea_orm::{
    ConnectionTrait, DatabaseConnection, DatabaseTransaction, DbBackend, DbErr, Statement,
    TransactionTrait,
};
use tokio::time::Instant;

/// How often it is tried.
const AGAIN: Duration = Duration::from_millis(250);

/// How often it is told that it is waited for.
const TELL: Duration = Duration::from_secs(30);

/// A turn. Somebody else has it when this one is over, or its process has ended.
#[derive(Debug)]
pub(super) struct Turn {
    db: DatabaseConnection,
    txn: DatabaseTransaction,
}

impl Turn {
    /// Fails if the turn has been lost, with the connection that it was taken on.
    pub(super) async fn check(&self) -> Result<(), DbErr> {
        self.txn.execute_unprepared("SELECT 1").await.map(drop)
    }

    /// Lets the next one have it.
    pub(super) async fn over(self) {
        // The lock goes with the transaction, however that ends.
        self.txn.rollback().await.ok();
        self.db.close().await.ok();
    }
}

/// Takes a turn, on a connection that is for nothing else. None if somebody else has had it all the time.
pub(super) async fn take(
    db: DatabaseConnection,
    lock: &str,
    what: &str,
    patience: Duration,
) -> Result<Option<Turn>, DbErr> {
    let txn = db.begin().await?;
    if wait(&txn, lock, what, patience).await? {
        return Ok(Some(Turn { db, txn }));
    }
    Turn { db, txn }.over().await;
    Ok(None)
}

/// Whether the lock could be had.
async fn wait(
    txn: &DatabaseTransaction,
    lock: &str,
    what: &str,
    patience: Duration,
) -> Result<bool, DbErr> {
    // Whatever the server is configured to do to those who do nothing, or take long (since PostgreSQL 17).
    txn.execute_unprepared(
        "SELECT set_config(name, '0', TRUE) FROM pg_settings \
         WHERE name IN ('idle_in_transaction_session_timeout', 'transaction_timeout')",
    )
    .await?;
    let begun = Instant::now();
    let mut told = None::<Instant>;
    loop {
        let ask = format!("SELECT pg_try_advisory_xact_lock({lock})");
        let row = txn.query_one_raw(Statement::from_string(DbBackend::Postgres, ask)).await?;
        if row.map_or(Ok(false), |row| row.try_get_by_index(0))? {
            return Ok(true);
        }
        if begun.elapsed() >= patience {
            return Ok(false);
        }
        if told.is_none_or(|told| told.elapsed() >= TELL) {
            told = Some(Instant::now());
            tracing::info!(
                waited_seconds = begun.elapsed().as_secs(),
                patience_seconds = patience.as_secs(),
                "Another daemon is {what} this database; waiting for it"
            );
        }
        tokio::time::sleep(AGAIN.min(patience)).await;
    }
}
