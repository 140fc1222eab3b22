//! Ending a statement that SQLite would run to its end.
//!
//! PostgreSQL is told how long a statement may take (`limits.rs`). SQLite knows no such limit: once begun, a statement
//! runs whether anybody waits for it or not, with the file's lock. So each connection of a lane looks at the time while it
//! works, and gives up what has been given up by everybody else.

use std::{
    ops::Deref,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use sea_orm::{DatabaseConnection, DbBackend, DbErr, RuntimeErr, SqlxError};

use crate::store::limits::Learned;

/// Steps of SQLite's machine from one look to the next: some tens of microseconds. A commit has fewer, and is never broken off.
const STEPS: i32 = 4096;

/// A lane's connection, whose work can be given an end.
#[derive(Debug)]
pub(super) struct Braked {
    db: DatabaseConnection,
    brake: Brake,
    learned: Learned,
}

impl Braked {
    /// Fits a connection with a brake. It has it for as long as it lives: a lane's pool replaces PostgreSQL's alone.
    pub(super) async fn fit((db, learned): (DatabaseConnection, Learned)) -> Result<Self, DbErr> {
        let brake = Brake::new();
        if db.get_database_backend() == DbBackend::Sqlite {
            let failed = |err: SqlxError| DbErr::Conn(RuntimeErr::SqlxError(err.into()));
            let mut connection = db.get_sqlite_connection_pool().acquire().await.map_err(failed)?;
            let brake = brake.clone();
            let mut handle = connection.lock_handle().await.map_err(failed)?;
            handle.set_progress_handler(STEPS, move || !brake.is_due());
        }
        Ok(Self { db, brake, learned })
    }

    /// From now on its statements have this long altogether, until this is said again.
    ///
    /// A little longer than those wait who have asked for them: they are to say that it took too long, and not that somebody
    /// was in the way.
    pub(super) fn stop_after(&self, deadline: Duration) {
        self.brake.set(deadline + deadline / 4);
    }

    /// What PostgreSQL has to be told in each of its transactions.
    pub(super) const fn learned(&self) -> &Learned {
        &self.learned
    }

    /// Closes it.
    pub(super) async fn close(self) -> Result<(), DbErr> {
        self.db.close().await
    }
}

impl Deref for Braked {
    type Target = DatabaseConnection;

    fn deref(&self) -> &DatabaseConnection {
        &self.db
    }
}

/// When a connection's work is to end.
#[derive(Clone, Debug)]
struct Brake {
    /// In milliseconds since the brake was made; zero for never.
    at: Arc<AtomicU64>,
    made: Instant,
}

impl Brake {
    fn new() -> Self {
        Self { at: Arc::default(), made: Instant::now() }
    }

    fn set(&self, after: Duration) {
        self.at.store(millis(self.made.elapsed() + after).max(1), Ordering::Relaxed);
    }

    fn is_due(&self) -> bool {
        let at = self.at.load(Ordering::Relaxed);
        at > 0 && millis(self.made.elapsed()) >= at
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
