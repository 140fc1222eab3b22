//! One daemon at a time starts on a database.
//!
//! What a start finds out it also acts on: that secrets are in clear, that the database is a copy. Two that
//! find the same would both seal it, or both flag its sessions, and the one that takes all others for dead
//! would bury the other.

use sea_orm::{DatabaseConnection, DbErr, RuntimeErr};

use super::{Error, Store, turns};

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
        let patience = self.connector.patience();
        if turns::take(&db, START_LOCK, "starting on", patience).await? {
            return Ok(Starting(Some(db)));
        }
        db.close().await.ok();
        let reason = format!(
            "another daemon has been starting on this database for {} seconds; if there is none, a proxy \
             keeps its connection",
            patience.as_secs()
        );
        Err(Error::Unavailable(DbErr::Conn(RuntimeErr::Internal(reason))))
    }
}
