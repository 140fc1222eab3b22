//! One daemon at a time starts on a database.
//!
//! What a start finds out it also acts on: that secrets are in clear, that the database is a copy. Two that
//! find the same would both seal it, or both flag its sessions, and the one that takes all others for dead
//! would bury the other.

use sea_orm::{ConnectionTrait, DatabaseConnection, DbBackend, Statement};

use super::{Error, Store};

/// Held while starting on PostgreSQL. Any number will do; this one is that of migrating, and one.
const START_LOCK: &str = "131260229973094";

/// The right to start. Another daemon has it when this one is over, or its process has ended.
#[derive(Debug)]
pub struct Starting(Option<DatabaseConnection>);

impl Starting {
    /// Lets the next one start.
    pub async fn over(self) {
        if let Some(db) = self.0 {
            // The lock is the connection's, and goes with it, however that ends.
            db.close().await.ok();
        }
    }
}

impl Store {
    /// Waits until no other daemon is starting on the database. An SQLite file is one daemon's anyway.
    pub async fn starting(&self) -> Result<Starting, Error> {
        if self.connector.is_sqlite() {
            return Ok(Starting(None));
        }
        let db = self.connector.holder().await?;
        let ask = format!("SELECT pg_try_advisory_lock({START_LOCK})");
        let row = db.query_one_raw(Statement::from_string(DbBackend::Postgres, ask)).await?;
        if !row.map_or(Ok(false), |row| row.try_get_by_index(0))? {
            tracing::info!("Another daemon is starting on this database; waiting for it");
            db.execute_unprepared(&format!("SELECT pg_advisory_lock({START_LOCK})")).await?;
        }
        Ok(Starting(Some(db)))
    }
}
