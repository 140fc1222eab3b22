//! Connections that read, and that come back when they have gone silent.
//!
//! A connection whose other end vanishes without a word, behind a firewall or a proxy, answers nothing any more and
//! breaks nothing: whoever waits for it waits until the system gives it up, which takes hours. So each statement has
//! a deadline, and so has each question of ours whether a connection still lives (`trust.rs`). Neither the driver nor
//! the pool has one. That is for PostgreSQL: what SQLite runs goes on when nobody waits for it any more.
//!
//! A connection whose statement was cut off is never used again: it may be silent, and if it is not, the answer to
//! that statement is still to come. The pool does not say which one it was. So all that were made before are
//! replaced, each when it is next taken or given back: the others of the same path are most likely silent too.
//!
//! The pool itself asks a connection that is given back, without end: one that falls silent at that very moment keeps its
//! place. When none has become free for so long, the pool is given up with all that it has, for a new one.

use std::{
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use async_trait::async_trait;
use sea_orm::{
    ConnAcquireErr, ConnectOptions, ConnectionTrait, Database, DatabaseConnection, DbBackend,
    DbErr, ExecResult, QueryResult, Statement,
};
use tokio::time::{Instant, timeout};

use super::{group::timed_out, trust::Trust};

/// How long connections are waited for at the end. Nothing is lost with one that reads.
const GOODBYE: Duration = Duration::from_secs(2);

/// The pool, with a deadline for each statement.
#[derive(Clone, Debug)]
pub(crate) struct Reader {
    pool: Arc<Pool>,
    deadline: Duration,
}

impl Reader {
    /// Opens the pool, whose connections are guarded by `trust`. Each statement, with the wait for a free connection, takes
    /// `deadline` at most.
    pub(super) async fn open(
        options: ConnectOptions,
        trust: Trust,
        deadline: Duration,
    ) -> Result<Self, DbErr> {
        let db = Database::connect(options.clone()).await?;
        let current = RwLock::new(Current { db, since: Instant::now() });
        let pool = Pool { options, trust, deadline, current };
        Ok(Self { pool: Arc::new(pool), deadline })
    }

    /// The same with less time: for whoever only wants to know whether there is an answer.
    pub(super) fn within(&self, deadline: Duration) -> Self {
        Self { deadline: self.deadline.min(deadline), ..self.clone() }
    }

    /// Closes every connection, and waits a moment for those that are in use: whoever is asked for a sign of life, by
    /// the pool itself, may never give it.
    pub(super) async fn close(&self) {
        let current = self.pool.current();
        timeout(GOODBYE, current.db.close_by_ref()).await.ok();
    }

    /// Asks; once more of a new pool, if the old one had no connection left.
    async fn ask<T, Answer>(
        &self,
        ask: impl Fn(DatabaseConnection) -> Answer + Send,
    ) -> Result<T, DbErr>
    where
        Answer: Future<Output = Result<T, DbErr>> + Send,
    {
        let Current { db, since } = self.pool.current();
        match self.limit(ask(db)).await {
            Err(DbErr::ConnectionAcquire(ConnAcquireErr::Timeout))
                if self.pool.replace(since).await =>
            {
                self.limit(ask(self.pool.current().db)).await
            }
            answer => answer,
        }
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
        self.pool.trust.end();
        Err(timed_out(self.deadline))
    }
}

#[async_trait]
impl ConnectionTrait for Reader {
    fn get_database_backend(&self) -> DbBackend {
        self.pool.current().db.get_database_backend()
    }

    async fn execute_raw(&self, statement: Statement) -> Result<ExecResult, DbErr> {
        self.ask(|db| {
            let statement = statement.clone();
            async move { db.execute_raw(statement).await }
        })
        .await
    }

    async fn execute_unprepared(&self, sql: &str) -> Result<ExecResult, DbErr> {
        self.ask(|db| async move { db.execute_unprepared(sql).await }).await
    }

    async fn query_one_raw(&self, statement: Statement) -> Result<Option<QueryResult>, DbErr> {
        self.ask(|db| {
            let statement = statement.clone();
            async move { db.query_one_raw(statement).await }
        })
        .await
    }

    async fn query_all_raw(&self, statement: Statement) -> Result<Vec<QueryResult>, DbErr> {
        self.ask(|db| {
            let statement = statement.clone();
            async move { db.query_all_raw(statement).await }
        })
        .await
    }
}

/// The connections, and how to have others.
#[derive(Debug)]
struct Pool {
    options: ConnectOptions,
    trust: Trust,
    /// How long a statement has a connection at most.
    deadline: Duration,
    current: RwLock<Current>,
}

#[derive(Clone, Debug)]
struct Current {
    db: DatabaseConnection,
    since: Instant,
}

impl Pool {
    fn current(&self) -> Current {
        self.current.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether there is another pool than the one of `since`, which had no connection to give.
    ///
    /// A young one is not given up: those who have its connections may be slow. With those of an older one there are
    /// twice as many connections as are allowed at most, for as long as a statement may take.
    async fn replace(&self, since: Instant) -> bool {
        let is_another = |current: &Current| current.since != since;
        if is_another(&self.current()) {
            return true;
        }
        if self.current().db.get_database_backend() == DbBackend::Sqlite
            || since.elapsed() < self.deadline
        {
            return false;
        }
        let Ok(db) = Database::connect(self.options.clone()).await else { return false };
        let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
        if !is_another(&current) {
            tracing::warn!("No connection that reads has become free; opening others");
            *current = Current { db, since: Instant::now() };
        }
        true
    }
}
