//! Connections that read, and that come back when they have gone silent.
//!
//! A connection whose other end vanishes without a word, behind a firewall or a proxy, answers nothing any more and
//! breaks nothing: whoever waits for it waits until the system gives it up, which takes hours. So each statement has
//! a deadline, and so has each question of the pool whether a connection still lives. Neither the driver nor the pool
//! has one.
//!
//! A connection whose statement was cut off is never used again: it may be silent, and if it is not, the answer to
//! that statement is still to come. The pool does not say which one it was. So all that were made before are
//! replaced, each when it is next taken or given back: the others of the same path are most likely silent too.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use sea_orm::{
    ConnectionTrait, DatabaseConnection, DbBackend, DbErr, ExecResult, QueryResult, SqlxError,
    Statement,
    sqlx::{Connection as _, PgConnection, Postgres, pool::PoolOptions},
};
use tokio::time::{Instant, timeout};

use super::group::timed_out;

/// How long a connection has to say that it lives, which is a round trip. More, and it would be waited for by all
/// who want to read.
const ALIVE: Duration = Duration::from_secs(2);

/// The pool, with a deadline for each statement.
#[derive(Clone, Debug)]
pub(crate) struct Reader {
    db: DatabaseConnection,
    trust: Trust,
    deadline: Duration,
}

impl Reader {
    /// Whose statements, with the wait for a free connection, take `deadline` at most. `trust` is the pool's own.
    pub(super) fn new(db: DatabaseConnection, trust: Trust, deadline: Duration) -> Self {
        Self { db, trust, deadline }
    }

    /// The same with less time: for whoever only wants to know whether there is an answer.
    pub(super) fn within(&self, deadline: Duration) -> Self {
        Self { deadline: self.deadline.min(deadline), ..self.clone() }
    }

    /// Closes every connection.
    pub(super) async fn close(&self) -> Result<(), DbErr> {
        self.db.close_by_ref().await
    }

    /// Breaks off what takes too long: an outage, as far as anybody can tell.
    async fn limit<T>(
        &self,
        statement: impl Future<Output = Result<T, DbErr>>,
    ) -> Result<T, DbErr> {
        let mut statement = std::pin::pin!(statement);
        if let Ok(answer) = timeout(self.deadline, &mut statement).await {
            return answer;
        }
        // Before the connection goes back to the pool, which is when the statement is dropped.
        self.trust.end();
        Err(timed_out(self.deadline))
    }
}

#[async_trait]
impl ConnectionTrait for Reader {
    fn get_database_backend(&self) -> DbBackend {
        self.db.get_database_backend()
    }

    async fn execute_raw(&self, statement: Statement) -> Result<ExecResult, DbErr> {
        self.limit(self.db.execute_raw(statement)).await
    }

    async fn execute_unprepared(&self, sql: &str) -> Result<ExecResult, DbErr> {
        self.limit(self.db.execute_unprepared(sql)).await
    }

    async fn query_one_raw(&self, statement: Statement) -> Result<Option<QueryResult>, DbErr> {
        self.limit(self.db.query_one_raw(statement)).await
    }

    async fn query_all_raw(&self, statement: Statement) -> Result<Vec<QueryResult>, DbErr> {
        self.limit(self.db.query_all_raw(statement)).await
    }
}

/// Until when a pool's connections were made that are not trusted any more.
#[derive(Clone, Debug, Default)]
pub(super) struct Trust(Arc<Mutex<Option<Instant>>>);

impl Trust {
    /// Has a PostgreSQL pool ask its connections whether they live, for a short time only, and close those that it
    /// is not to trust.
    pub(super) fn guard(&self, pool: PoolOptions<Postgres>) -> PoolOptions<Postgres> {
        let (taken, given_back) = (self.clone(), self.clone());
        pool.before_acquire(move |connection, about| {
            let trust = taken.clone();
            Box::pin(async move { trust.ask(connection, about.age).await })
        })
        // The pool asks once more by itself, and waits for ever: not of one that is silent by now.
        .after_release(move |connection, about| {
            let trust = given_back.clone();
            Box::pin(async move { trust.ask(connection, about.age).await })
        })
    }

    /// An error has the pool close the connection without a word to the server, which might not be heard.
    async fn ask(&self, connection: &mut PgConnection, age: Duration) -> Result<bool, SqlxError> {
        if self.has_ended(age) {
            return Err(SqlxError::Protocol("a connection of its age has gone silent".to_owned()));
        }
        if let Ok(alive) = timeout(ALIVE, connection.ping()).await {
            return alive.map(|()| true);
        }
        self.end();
        Err(SqlxError::Protocol("it has gone silent".to_owned()))
    }

    /// Trusts nothing that there is now.
    fn end(&self) {
        self.end_at(Instant::now());
    }

    fn end_at(&self, at: Instant) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(at);
    }

    /// Whether a connection of this age is not to be trusted.
    fn has_ended(&self, age: Duration) -> bool {
        let ended = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        ended.is_some_and(|ended| ended.elapsed() <= age)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_made_after_the_silence_is_trusted() {
        let trust = Trust::default();
        assert!(!trust.has_ended(Duration::from_hours(1)));
        trust.end_at(Instant::now().checked_sub(Duration::from_mins(10)).unwrap());
        assert!(trust.has_ended(Duration::from_mins(11)));
        assert!(trust.has_ended(Duration::from_hours(1)));
        assert!(!trust.has_ended(Duration::from_mins(9)));
    }
}
