//! Waiting for one's turn on PostgreSQL: to migrate, and to start.
//!
//! Not by a statement that waits: nobody would see that it does, and for how long. Whoever waits says so, and gives up.

use std::time::Duration;

use sea_orm::{ConnectionTrait, DatabaseConnection, DbBackend, DbErr, Statement};
use tokio::time::Instant;

/// How often it is tried.
const AGAIN: Duration = Duration::from_millis(250);

/// How often it is told that it is waited for.
const TELL: Duration = Duration::from_secs(30);

/// Takes a lock that ends with the connection. False if somebody else has had it all the time.
pub(super) async fn take(
    db: &DatabaseConnection,
    lock: &str,
    what: &str,
    patience: Duration,
) -> Result<bool, DbErr> {
    let begun = Instant::now();
    let mut told = None::<Instant>;
    loop {
        let ask = format!("SELECT pg_try_advisory_lock({lock})");
        let row = db.query_one_raw(Statement::from_string(DbBackend::Postgres, ask)).await?;
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
