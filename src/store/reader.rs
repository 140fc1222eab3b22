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

use std::time::Duration;

use async_trait::async_trait;
use sea_orm::{
    ConnectionTrait, DatabaseConnection, DbBackend, DbErr, ExecResult, QueryResult, Statement,
};
use tokio::time::timeout;

use super::{group::timed_out, trust::Trust};

/// How long connections are waited for at the end. Nothing is lost with one that reads.
const GOODBYE: Duration = Duration::from_secs(2);

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

    /// Closes every connection, and waits a moment for those that are in use: whoever is asked for a sign of life, by
    /// the pool itself, may never give it.
    pub(super) async fn close(&self) {
        timeout(GOODBYE, self.db.close_by_ref()).await.ok();
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
