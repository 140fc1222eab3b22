//! Other connections in the way: each error that passes by itself is forced by a real one.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use reqwest::Method;
use sea_orm::{ConnectionTrait, DatabaseTransaction, DbErr, TransactionTrait};
use tokio::sync::Semaphore;
use wagate::{http::Limits, store::Patience};

use crate::{
    database::{Database, Kind, Opened, on},
    http_app::{Answer, App},
};

/// A unit of work's first run waits here until the other connection is in its way.
#[derive(Clone)]
struct Meeting {
    runs: Arc<AtomicU32>,
    here: Arc<Semaphore>,
    go: Arc<Semaphore>,
}

impl Meeting {
    fn new() -> Self {
        Self {
            runs: Arc::default(),
            here: Arc::new(Semaphore::new(0)),
            go: Arc::new(Semaphore::new(0)),
        }
    }

    /// The unit's side.
    async fn attend(&self) {
        if self.runs.fetch_add(1, Ordering::SeqCst) == 0 {
            self.here.add_permits(1);
            self.go.acquire().await.unwrap().forget();
        }
    }

    async fn wait(&self) {
        self.here.acquire().await.unwrap().forget();
    }
}

async fn set(txn: &DatabaseTransaction, id: u32) -> Result<(), DbErr> {
    let update = format!("UPDATE pair SET n = n + 1 WHERE id = {id}");
    txn.execute_unprepared(&update).await.map(drop)
}

async fn open(database: &Database) -> Opened {
    let opened = database.open().await;
    database.execute("CREATE TABLE pair (id INTEGER PRIMARY KEY, n BIGINT NOT NULL)").await;
    database.execute("INSERT INTO pair VALUES (1, 0), (2, 0)").await;
    opened
}

/// Waits until somebody waits for a lock.
async fn somebody_is_blocked(database: &Database) {
    let name = database.name();
    let ask = format!(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = '{name}' AND wait_event_type = 'Lock'"
    );
    let blocked = async { while database.count(&ask).await == 0 {} };
    tokio::time::timeout(Duration::from_secs(30), blocked).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deadlock_is_run_again_until_it_passes() {
    on(Kind::Postgres, async |database: &Database| {
        let opened = open(database).await;
        let meeting = Meeting::new();
        let unit = opened.store.writer().run("pair", Patience::Fail, {
            let meeting = meeting.clone();
            move |txn| {
                let meeting = meeting.clone();
                Box::pin(async move {
                    set(txn, 2).await?;
                    meeting.attend().await;
                    set(txn, 1).await
                })
            }
        });
        let other = async {
            let db = database.connect().await;
            let txn = db.begin().await.unwrap();
            // The one that looks for deadlocks first is the one that is ended.
            txn.execute_unprepared("SET LOCAL deadlock_timeout = '1h'").await.unwrap();
            set(&txn, 1).await.unwrap();
            meeting.wait().await;
            let crossing = async {
                set(&txn, 2).await.unwrap();
                txn.commit().await.unwrap();
            };
            let blocked = async {
                somebody_is_blocked(database).await;
                meeting.go.add_permits(1);
            };
            tokio::join!(crossing, blocked);
            db.close().await.unwrap();
        };
        let (done, ()) = tokio::join!(unit, other);
        done.unwrap();
        assert!(meeting.runs.load(Ordering::SeqCst) > 1, "there was no deadlock");
        assert!(opened.store.writer().stats().retries > 0);
        assert_eq!(database.count("SELECT min(n) FROM pair").await, 2);
        assert_eq!(database.count("SELECT max(n) FROM pair").await, 2);
        opened.close().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_serialization_failure_is_run_again() {
    on(Kind::Postgres, async |database: &Database| {
        let opened = open(database).await;
        let meeting = Meeting::new();
        let unit = opened.store.writer().run("pair", Patience::Fail, {
            let meeting = meeting.clone();
            move |txn| {
                let meeting = meeting.clone();
                Box::pin(async move {
                    let strict = "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ";
                    txn.execute_unprepared(strict).await?;
                    // What it sees is fixed from here on.
                    txn.execute_unprepared("SELECT count(*) FROM pair").await?;
                    meeting.attend().await;
                    set(txn, 1).await
                })
            }
        });
        let other = async {
            meeting.wait().await;
            database.execute("UPDATE pair SET n = n + 1 WHERE id = 1").await;
            meeting.go.add_permits(1);
        };
        let (done, ()) = tokio::join!(unit, other);
        done.unwrap();
        assert_eq!(meeting.runs.load(Ordering::SeqCst), 2);
        assert_eq!(opened.store.writer().stats().retries, 1);
        assert_eq!(database.count("SELECT n FROM pair WHERE id = 1").await, 2);
        opened.close().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_busy_sqlite_file_is_waited_for() {
    on(Kind::Sqlite, async |database: &Database| {
        let opened = open(database).await;
        let other = database.connect().await;
        other.execute_unprepared("BEGIN IMMEDIATE").await.unwrap();
        other.execute_unprepared("UPDATE pair SET n = 5 WHERE id = 1").await.unwrap();
        let unit = opened.store.writer().run("pair", Patience::Fail, |txn| Box::pin(set(txn, 1)));
        let release = async {
            tokio::task::yield_now().await;
            other.execute_unprepared("COMMIT").await.unwrap();
        };
        let (done, ()) = tokio::join!(unit, release);
        done.unwrap();
        assert_eq!(database.count("SELECT n FROM pair WHERE id = 1").await, 6);
        other.close().await.unwrap();
        opened.close().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_finds_no_free_connection_is_answered_and_told_when_to_come_back() {
    on(Kind::Postgres, async |database: &Database| {
        let opened = database
            .open_with(|options| {
                options.readers = 1;
                options.acquire_timeout = Duration::from_millis(300);
            })
            .await;
        let app = App::over(opened, Limits::default()).await;
        let created = app.post("/api/whatsapp/session", serde_json::json!({ "sessionId": "s" }));
        assert_eq!(created.await.status, 201);

        // A table that another program holds: whoever reads it waits, with the only connection.
        let other = database.connect().await;
        other.execute_unprepared("BEGIN").await.unwrap();
        other.execute_unprepared("LOCK TABLE message IN ACCESS EXCLUSIVE MODE").await.unwrap();
        let held = Answer::to(app.request(Method::GET, "/api/whatsapp/session/s/messages"));
        let refused = async {
            somebody_is_blocked(database).await;
            let refused = app.get("/api/whatsapp/session/status/s").await;
            other.execute_unprepared("ROLLBACK").await.unwrap();
            refused
        };
        let (held, refused) = tokio::join!(held, refused);
        refused.problem(503, "DATABASE_UNAVAILABLE");
        assert!(!refused.header("retry-after").is_empty());
        assert_eq!(held.status, 200);
        assert_eq!(app.get("/api/whatsapp/session/status/s").await.status, 200);
        other.close().await.unwrap();
        app.close().await;
    })
    .await;
}
