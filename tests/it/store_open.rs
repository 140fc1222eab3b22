//! Opening a database: what is made, what is refused, and how it is opened.

use std::{os::unix::fs::PermissionsExt, time::Duration};

use migration::Migrator;
use sea_orm::{ConnectionTrait, DbBackend, Statement};
use sea_orm_migration::MigratorTrait as _;
use tokio_util::task::TaskTracker;
use wagate::{
    clock::Clock,
    store::{
        Patience, Store,
        connect::{OpenError, Options},
    },
};

use crate::database::{self, Database, Kind, on, on_each};

async fn open(options: Options) -> Result<Store, OpenError> {
    Store::open(options, database::vault(), Clock::system(), &TaskTracker::new()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_database_is_brought_up_to_date_once() {
    on_each(async |database: &Database| {
        let first = database.open().await;
        first.store.ping().await.unwrap();
        first.close().await;
        let steps = database.count("SELECT count(*) FROM seaql_migrations").await;
        assert!(steps >= 4);

        let again = database.open().await;
        again.close().await;
        assert_eq!(database.count("SELECT count(*) FROM seaql_migrations").await, steps);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_daemons_that_start_together_migrate_one_after_the_other() {
    on(Kind::Postgres, async |database: &Database| {
        let (one, other) = tokio::join!(database.open(), database.open());
        one.close().await;
        other.close().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_waits_for_another_s_migration_gives_up_with_a_clear_line() {
    on(Kind::Postgres, async |database: &Database| {
        let other = database.connect().await;
        for (lock, line) in [
            ("131260229973093", "another daemon has been migrating the database for 0 seconds"),
            ("131260229973094", "another daemon has been starting on this database for 0 seconds"),
        ] {
            let hold = format!("SELECT pg_advisory_lock({lock})");
            other.execute_unprepared(&hold).await.unwrap();
            let patience = Duration::from_millis(300);
            let options = Options { patience, ..Options::new(database.url.as_str()) };
            let refusal = match open(options).await {
                Err(refusal) => refusal.to_string(),
                Ok(store) => {
                    let refusal = store.starting().await.unwrap_err();
                    store.close().await;
                    format!("{:?}", std::error::Error::source(&refusal).unwrap())
                }
            };
            assert!(refusal.contains(line), "{refusal}");
            let free = format!("SELECT pg_advisory_unlock({lock})");
            other.execute_unprepared(&free).await.unwrap();
        }
        // And whoever waits long enough has his turn.
        other.execute_unprepared("SELECT pg_advisory_lock(131260229973093)").await.unwrap();
        let (opened, ()) = tokio::join!(database.open(), async {
            tokio::task::yield_now().await;
            other.execute_unprepared("SELECT pg_advisory_unlock(131260229973093)").await.unwrap();
        });
        opened.close().await;
    })
    .await;
}

/// A proxy that pools by transaction gives a connection to the next one when a transaction has ended, with whatever was left on it.
#[tokio::test(flavor = "multi_thread")]
async fn a_turn_is_of_a_transaction_and_not_of_a_connection_that_others_may_get() {
    on(Kind::Postgres, async |database: &Database| {
        let opened = database.open().await;
        let held = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND granted \
                    AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";
        assert_eq!(database.count(held).await, 0, "the turn to migrate is over");
        let starting = opened.store.starting().await.unwrap();
        assert_eq!(database.count(held).await, 1);
        // It ends with its transaction, and keeps nothing from being cleaned up.
        let of = "SELECT count(*) FROM pg_locks AS held JOIN pg_stat_activity AS who USING (pid) \
                  WHERE held.locktype = 'advisory' AND who.state = 'idle in transaction' \
                  AND who.backend_xmin IS NULL AND who.backend_xid IS NULL \
                  AND who.datname = current_database()";
        assert_eq!(database.count(of).await, 1);
        starting.check().await.unwrap();
        // A server that ends transactions for their age ends the connection.
        let end = "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND granted \
                   AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";
        database.connect().await.execute_unprepared(end).await.unwrap();
        let lost = starting.check().await;
        assert!(lost.is_err(), "what follows from a turn that is lost is not done");
        starting.over().await;
        assert_eq!(database.count(held).await, 0);
        opened.close().await;
    })
    .await;
}

/// `PgBouncer` refuses parameters that it does not know when a connection is made.
#[tokio::test(flavor = "multi_thread")]
async fn limits_are_set_in_each_transaction_that_writes_and_nowhere_else() {
    on(Kind::Postgres, async |database: &Database| {
        let opened = database.open().await;
        // What the connection itself was made with would be what they are reset to.
        let asked = "SELECT string_agg(current_setting(name) || ' for ' || reset_val, ', ' ORDER BY name) \
                     FROM pg_settings WHERE name IN ('idle_in_transaction_session_timeout', \
                     'lock_timeout', 'statement_timeout')";
        let ask = || Statement::from_string(DbBackend::Postgres, asked.to_owned());
        let inside: String = opened
            .store
            .writer()
            .run("key", Patience::Fail, move |txn| {
                Box::pin(async move {
                    txn.query_one_raw(ask()).await?.unwrap().try_get_by_index(0)
                })
            })
            .await
            .unwrap();
        assert_eq!(inside, "5s for 0, 10s for 0, 31s for 0");
        opened.close().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_old_schema_is_refused_and_left_alone_when_migrating_is_off() {
    on_each(async |database: &Database| {
        let options = Options { migrate: false, ..Options::new(database.url.as_str()) };
        let refusal = open(options).await.unwrap_err();
        assert!(matches!(&refusal, OpenError::Pending(steps) if steps.len() >= 4), "{refusal}");
        assert!(refusal.to_string().contains("m20261122_000001"));
        let tables = match database.kind {
            Kind::Sqlite => "SELECT count(*) FROM sqlite_master",
            Kind::Postgres => "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'",
        };
        assert_eq!(database.count(tables).await, 0);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_newer_than_the_program_is_refused() {
    on_each(async |database: &Database| {
        database.open().await.close().await;
        database
            .execute("INSERT INTO seaql_migrations VALUES ('m20990101_000001_future', 0)")
            .await;
        for migrate in [true, false] {
            let options = Options { migrate, ..Options::new(database.url.as_str()) };
            let refusal = open(options).await.unwrap_err();
            assert!(matches!(refusal, OpenError::Newer(_)), "{refusal}");
            assert!(refusal.to_string().contains("m20990101_000001_future"));
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_file_is_ours_alone_and_opened_for_safety() {
    on(Kind::Sqlite, async |database: &Database| {
        let opened = database.open().await;
        for name in ["wagate.db", "wagate.db-wal", "wagate.db-shm"] {
            let file = database.path.with_file_name(name);
            let mode = std::fs::metadata(&file).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{name}");
        }
        let pragmas = [
            ("journal_mode", "wal"),
            ("synchronous", "2"),
            ("foreign_keys", "1"),
            ("busy_timeout", "5000"),
        ];
        for (pragma, expected) in pragmas {
            let value = opened
                .store
                .writer()
                .run("pragma", Patience::Fail, move |txn| {
                    Box::pin(async move {
                        let sql = format!("SELECT CAST({pragma} AS TEXT) FROM pragma_{pragma}");
                        let sql = Statement::from_string(DbBackend::Sqlite, sql);
                        let row = txn.query_one_raw(sql).await?.unwrap();
                        row.try_get_by_index::<String>(0)
                    })
                })
                .await;
            // The pragma's column is called otherwise: `timeout`.
            let value = if pragma == "busy_timeout" { Ok(expected.to_owned()) } else { value };
            assert_eq!(value.unwrap(), expected, "{pragma}");
        }
        opened.close().await;
    })
    .await;
}

#[tokio::test]
async fn what_cannot_be_opened_is_said_in_one_line_without_the_password() {
    let missing = open(Options::new("sqlite:///no/such/folder/wagate.db")).await.unwrap_err();
    assert_eq!(missing.to_string(), "cannot open the database file /no/such/folder/wagate.db");
    let other = open(Options::new("mysql://wagate:hunter2@localhost/wagate")).await.unwrap_err();
    assert!(matches!(other, OpenError::Scheme));
    let refused = open(Options::new("postgres://wagate:hunter2@127.0.0.1:1/wagate")).await;
    let refused = refused.unwrap_err();
    assert!(matches!(refused, OpenError::Connect(_)));
    let chain = format!("{refused} {refused:?} {other} {other:?}");
    assert!(!chain.contains("hunter2"), "{chain}");
}

/// Every step is one transaction, its own entry in the list of steps included.
#[tokio::test(flavor = "multi_thread")]
async fn a_step_that_fails_half_way_leaves_the_old_schema() {
    for step in Migrator::migrations() {
        assert_eq!(step.use_transaction(), Some(true), "{} is atomic", step.name());
    }
    on_each(async |database: &Database| {
        crate::upgrade::load(database, "0.1.0").await;
        // What the step's second statement wants to make is there already.
        let obstacle = "CREATE INDEX \"idx-idempotency-created_at\" ON idempotency (key)";
        database.execute(obstacle).await;
        let before = columns(database).await;
        let refusal = open(Options::new(database.url.as_str())).await.unwrap_err();
        assert!(matches!(refusal, OpenError::Migrate(_)), "{refusal:?}");
        assert!(!before.contains("retired_seq"));
        assert_eq!(columns(database).await, before);
        let steps = "SELECT count(*) FROM seaql_migrations WHERE version LIKE '%retention'";
        assert_eq!(database.count(steps).await, 0);

        database.execute("DROP INDEX \"idx-idempotency-created_at\"").await;
        database.open().await.close().await;
        assert!(columns(database).await.contains("retired_seq"));
    })
    .await;
}

/// The names of the columns that the step adds to.
async fn columns(database: &Database) -> String {
    let ask = match database.kind {
        Kind::Sqlite => "SELECT name FROM pragma_table_info('organization')",
        Kind::Postgres => {
            "SELECT column_name::text FROM information_schema.columns \
             WHERE table_name = 'organization'"
        }
    };
    let rows = database.query(ask).await;
    let mut names: Vec<String> = rows.iter().map(|row| row.try_get_by_index(0).unwrap()).collect();
    names.sort();
    names.join(" ")
}
