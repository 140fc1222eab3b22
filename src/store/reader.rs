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
//! place. When none becomes free, and none has answered anybody for as long as a statement has, the pool is given up for a
//! new one.

use std::{
    sync::{Arc, Mutex, PoisonError, RwLock},
    time::Duration,
};

use async_trait::async_trait;
use futures_util::FutureExt as _;
use sea_orm::{
    ConnectOptions, ConnectionTrait, Database, DatabaseConnection, DbBackend, DbErr, ExecResult,
    QueryResult, Statement,
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
        let current = RwLock::new(Current::new(db));
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

    /// Asks; once more of a new pool, if the old one had no connection left. All of it within the deadline.
    async fn ask<T, Answer>(
        &self,
        ask: impl Fn(DatabaseConnection) -> Answer + Send + Sync,
    ) -> Result<T, DbErr>
    where
        T: Send,
        Answer: Future<Output = Result<T, DbErr>> + Send,
    {
        let asking = async {
            let pool = self.pool.current();
            match ask(pool.db.clone()).await {
                Err(DbErr::ConnectionAcquire(_)) if self.pool.replace(&pool).await => {
                    let pool = self.pool.current();
                    ask(pool.db.clone()).await.inspect(|_| pool.answered())
                }
                answer => answer.inspect(|_| pool.answered()),
            }
        };
        let mut asking = std::pin::pin!(asking);
        if let Ok(answer) = timeout(self.deadline, &mut asking).await {
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
    /// When a statement on one of its connections was last answered; at first, when it was opened.
    answered: Arc<Mutex<Instant>>,
}

impl Current {
    fn new(db: DatabaseConnection) -> Self {
        Self { db, answered: Arc::new(Mutex::new(Instant::now())) }
    }

    fn answered(&self) {
        *self.answered.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    fn silent_for(&self) -> Duration {
        self.answered.lock().unwrap_or_else(PoisonError::into_inner).elapsed()
    }

    fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.answered, &other.answered)
    }
}

impl Pool {
    fn current(&self) -> Current {
        self.current.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether there is another pool than `old`, which had no connection to give.
    ///
    /// One that is merely busy answers somebody within the time that a statement has, and is not given up. What still has
    /// a connection of the old one keeps it for that long at most.
    async fn replace(&self, old: &Current) -> bool {
        if !self.current().is(old) {
            return true;
        }
        if old.db.get_database_backend() == DbBackend::Sqlite || old.silent_for() < self.deadline {
            return false;
        }
        let mut options = self.options.clone();
        // Whoever asks first connects: a server that is away has enough who knock.
        options.connect_lazy(true);
        let Ok(db) = Database::connect(options).await else { return false };
        {
            let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
            if !current.is(old) {
                return true;
            }
            *current = Current::new(db);
        }
        tracing::warn!("No connection that reads has answered anybody; opening others");
        // From here on it gives none away, and closes what it is given back. Nobody waits for the rest.
        old.db.close_by_ref().now_or_never();
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::peer::Peer;

    const DEADLINE: Duration = Duration::from_secs(30);

    /// A pool of one connection, which a statement has; that gets no answer.
    async fn taken(peer: &Peer) -> (Reader, impl Future<Output = Result<ExecResult, DbErr>>) {
        let mut options = ConnectOptions::new(peer.url());
        options.max_connections(1).acquire_timeout(Duration::from_millis(500));
        options.test_before_acquire(false);
        let reader = Reader::open(options, Trust::default(), DEADLINE).await.unwrap();
        reader.execute_unprepared("SELECT 1").await.unwrap();
        // The pool asks it when it is given back, too.
        let pool = reader.pool.current().db.get_postgres_connection_pool().clone();
        while pool.num_idle() == 0 {
            tokio::task::yield_now().await;
        }
        peer.fall_silent();
        let has_it = reader.clone();
        let mut reading = Box::pin(async move { has_it.execute_unprepared("SELECT 2").await });
        tokio::select! {
            biased;
            answer = &mut reading => panic!("it was answered: {answer:?}"),
            () = peer.heard(2) => {}
        }
        (reader, reading)
    }

    /// As if nobody had been answered for so long.
    fn silent_for(pool: &Current, silence: Duration) {
        *pool.answered.lock().unwrap() = Instant::now().checked_sub(silence).unwrap();
    }

    #[tokio::test]
    async fn a_pool_that_has_answered_nobody_for_as_long_as_a_statement_has_is_given_up() {
        let peer = Peer::new().await;
        let (reader, _reading) = taken(&peer).await;
        let old = reader.pool.current();
        silent_for(&old, DEADLINE);
        // One after the other, and at once: there is one new pool.
        reader.execute_unprepared("SELECT 3").await.unwrap();
        let new = reader.pool.current();
        assert!(!new.is(&old));
        assert!(new.silent_for() < DEADLINE);
        assert!(reader.pool.replace(&old).await, "whoever comes late finds another");
        assert!(reader.pool.current().is(&new));
        reader.execute_unprepared("SELECT 4").await.unwrap();
        assert_eq!(peer.connections(), 2);
        assert!(matches!(
            old.db.execute_unprepared("SELECT 5").await,
            Err(DbErr::ConnectionAcquire(_))
        ));
    }

    #[tokio::test]
    async fn a_pool_that_is_busy_and_answers_is_not_given_up() {
        let peer = Peer::new().await;
        let (reader, reading) = taken(&peer).await;
        let pool = reader.pool.current();
        silent_for(&pool, DEADLINE / 2);
        let waits = reader.execute_unprepared("SELECT 3").await;
        assert!(matches!(waits, Err(DbErr::ConnectionAcquire(_))), "{waits:?}");
        assert!(reader.pool.current().is(&pool));
        // An answer to anybody counts.
        silent_for(&pool, DEADLINE);
        peer.speak();
        reading.await.unwrap();
        assert!(pool.silent_for() < DEADLINE);
        reader.execute_unprepared("SELECT 4").await.unwrap();
        assert!(reader.pool.current().is(&pool));
        assert_eq!(peer.connections(), 1);
    }
}
