//! One daemon at a time starts on a database.
//!
//! What a start finds out it also acts on: that secrets are in clear, that the database is a copy. Two that
//! find the same would both seal it, or both flag its sessions, and the one that takes all others for dead
//! would bury the other.

use sea_orm::{DbErr, RuntimeErr};

use super::{
    Error, Store,
    turns::{self, Turn},
};

/// Held while starting on PostgreSQL. Any number will do; this one is that of migrating, and one.
const START_LOCK: &str = "131260229973094";

/// The right to start. Another daemon has it when this one is over, or its process has ended.
#[derive(Debug)]
pub struct Starting(Option<Turn>);

impl Starting {
    /// Fails if somebody else may be starting by now: asked before each step that follows from what was found out.
    pub async fn check(&self) -> Result<(), Error> {
        match &self.0 {
            Some(turn) => Ok(turn.check().await?),
            None => Ok(()),
        }
    }

    /// Lets the next one start.
    pub async fn over(self) {
        if let Some(turn) = self.0 {
            turn.over().await;
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
        if let Some(turn) = turns::take(db, START_LOCK, "starting on", patience).await? {
            return Ok(Starting(Some(turn)));
        }
        let reason = format!(
            "another daemon has been starting on this database for {} seconds; if there is none, its \
             transaction is still open at the server",
            patience.as_secs()
        );
        Err(Error::Unavailable(DbErr::Conn(RuntimeErr::Internal(reason))))
    }
}
