//! SQLite's log: nobody's commit copies it, it does not grow for ever, and it loses nothing.

use std::{
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use sea_orm::{ConnectionTrait, DbBackend, Statement, TransactionTrait};
use tokio_util::task::TaskTracker;
use wagate::{
    clock::Clock,
    store::{Patience, Store, connect},
};

use crate::database::{self, Database, Kind, Opened, on};

const MEBIBYTE: u64 = 1024 * 1024;

/// When a commit is copied, however few there were.
const COPIED: Duration = Duration::from_secs(5);

/// When a large log is cut off.
const IDLE: Duration = Duration::from_secs(30);

fn size(path: &Path) -> u64 {
    std::fs::metadata(path).map_or(0, |file| file.len())
}

fn log_of(database: &Database) -> PathBuf {
    database.path.with_file_name("wagate.db-wal")
}

/// One commit of so many bytes.
async fn write(opened: &Opened, bytes: u64) {
    let insert = format!("INSERT INTO large VALUES (randomblob({bytes}))");
    let unit = opened.store.writer().run("large", Patience::Fail, move |txn| {
        let insert = insert.clone();
        Box::pin(async move {
            txn.execute_unprepared("CREATE TABLE IF NOT EXISTS large (bytes BLOB)").await?;
            txn.execute_unprepared(&insert).await.map(drop)
        })
    });
    unit.await.unwrap();
}

/// Lets the time pass after which the log is taken care of, and waits until that has been done.
async fn pass(opened: &Opened, time: Duration) {
    let mut checkpoints = opened.store.writer().checkpoints();
    let before = *checkpoints.borrow_and_update();
    opened.clock.advance(time);
    checkpoints.wait_for(|count| *count > before).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn no_commit_copies_the_log_and_another_connection_does() {
    on(Kind::Sqlite, async |database: &Database| {
        let opened = database.open().await;
        pass(&opened, COPIED).await;
        let file = size(&database.path);
        // Twice what SQLite would copy in the commit that comes to it, and one more to be sure.
        write(&opened, 8 * MEBIBYTE).await;
        write(&opened, 1).await;
        assert_eq!(size(&database.path), file, "a commit copied the log");
        assert!(size(&log_of(database)) > 8 * MEBIBYTE);

        pass(&opened, COPIED).await;
        assert!(size(&database.path) > file + 8 * MEBIBYTE);
        opened.close().await;
        assert_eq!(size(&log_of(database)), 0, "whoever closes last leaves no log");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn after_the_end_the_file_is_whole_whoever_still_has_it_open() {
    on(Kind::Sqlite, async |database: &Database| {
        let opened = database.open().await;
        let other = database.connect().await;
        write(&opened, MEBIBYTE).await;
        opened.close().await;
        assert_eq!(size(&log_of(database)), 0, "what was written last is in the log alone");
        assert!(size(&database.path) > MEBIBYTE);
        other.close().await.unwrap();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_groups_are_copied_without_waiting_for_the_time() {
    on(Kind::Sqlite, async |database: &Database| {
        let opened = database.open().await;
        pass(&opened, COPIED).await;
        let mut checkpoints = opened.store.writer().checkpoints();
        let before = *checkpoints.borrow_and_update();
        for _ in 0..32 {
            write(&opened, 1).await;
        }
        checkpoints.wait_for(|count| *count > before).await.unwrap();
        opened.close().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_is_begun_anew_and_cut_off_when_nobody_writes() {
    on(Kind::Sqlite, async |database: &Database| {
        let opened = database.open().await;
        for _ in 0..5 {
            write(&opened, 20 * MEBIBYTE).await;
            pass(&opened, COPIED).await;
        }
        let log = size(&log_of(database));
        assert!(log < 25 * MEBIBYTE, "a hundred mebibytes left a log of {log}");
        pass(&opened, IDLE).await;
        assert_eq!(size(&log_of(database)), 0);
        opened.close().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_takes_long_holds_up_the_log_and_nobody_who_writes() {
    on(Kind::Sqlite, async |database: &Database| {
        let opened = database.open().await;
        write(&opened, 1).await;
        let reader = database.connect().await;
        let reading = reader.begin().await.unwrap();
        let ask = Statement::from_string(reader.get_database_backend(), "SELECT * FROM large");
        assert_eq!(reading.query_all_raw(ask.clone()).await.unwrap().len(), 1);

        for _ in 0..3 {
            write(&opened, 20 * MEBIBYTE).await;
            pass(&opened, COPIED).await;
        }
        assert!(size(&log_of(database)) > 60 * MEBIBYTE, "the reader may need it");
        assert_eq!(reading.query_all_raw(ask).await.unwrap().len(), 1);
        reading.rollback().await.unwrap();
        reader.close().await.unwrap();

        write(&opened, 1).await;
        pass(&opened, COPIED).await;
        pass(&opened, IDLE).await;
        assert_eq!(size(&log_of(database)), 0);
        opened.close().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_is_killed_with_a_large_log_has_lost_nothing() {
    on(Kind::Sqlite, async |database: &Database| {
        let opened = database.open().await;
        for _ in 0..10 {
            write(&opened, MEBIBYTE).await;
        }
        assert!(size(&log_of(database)) > 10 * MEBIBYTE);
        // What a kill leaves on the disk. Another process copies: who closes a file of the database
        // in this one would take its locks.
        let directory = tempfile::tempdir().unwrap();
        let left = directory.path().join("wagate.db");
        for (from, to) in [
            (database.path.clone(), left.clone()),
            (log_of(database), left.with_extension("db-wal")),
        ] {
            assert!(Command::new("cp").arg(from).arg(to).status().unwrap().success());
        }
        let options = connect::Options::new(format!("sqlite://{}", left.display()));
        let (clock, tracker) = (Clock::system(), TaskTracker::new());
        let found = Store::open(options, database::vault(), clock, &tracker).await.unwrap();
        let count = found.writer().run("count", Patience::Fail, |txn| {
            let ask = "SELECT count(*) FROM large";
            let ask = Statement::from_string(DbBackend::Sqlite, ask);
            Box::pin(
                async move { txn.query_one_raw(ask).await?.unwrap().try_get_by_index::<i64>(0) },
            )
        });
        assert_eq!(count.await.unwrap(), 10);
        found.close().await;
        opened.close().await;
    })
    .await;
}
