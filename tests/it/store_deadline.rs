//! A unit of work that takes too long is found and refused, alone; a database that takes too long is waited for.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use sea_orm::{ConnectionTrait, TransactionTrait};
use tokio::sync::Semaphore;
use wagate::store::{Error, Patience, Store};

use crate::database::{Database, Kind, Opened, on, on_each};

const DEADLINE: Duration = Duration::from_millis(400);

async fn open(database: &Database) -> Opened {
    let opened = database.open_with(|options| {
        options.deadline = DEADLINE;
        options.lanes = 1;
    });
    let opened = opened.await;
    database.execute("CREATE TABLE probe (n BIGINT)").await;
    opened
}

async fn write(store: &Store, key: &str, n: u32, patience: Patience) -> Result<(), Error> {
    let unit = store.writer().run(key, patience, move |txn| {
        Box::pin(async move {
            txn.execute_unprepared(&format!("INSERT INTO probe VALUES ({n})")).await.map(drop)
        })
    });
    unit.await
}

/// Writes, and then waits for ever the first `times` that it is run. How often it was is counted.
async fn hang(
    store: &Store,
    patience: Patience,
    times: u32,
    runs: &Arc<AtomicU32>,
) -> Result<(), Error> {
    let runs = runs.clone();
    let unit = store.writer().run("slow", patience, move |txn| {
        let run = runs.fetch_add(1, Ordering::Relaxed);
        Box::pin(async move {
            txn.execute_unprepared("INSERT INTO probe VALUES (1000)").await?;
            if run < times {
                std::future::pending::<()>().await;
            }
            Ok(())
        })
    });
    unit.await
}

/// Holds the lane until it is let go, so that what is handed over meanwhile is one group.
async fn hold(store: &Store, gate: Arc<Semaphore>) {
    let unit = store.writer().run("gate", Patience::Fail, move |_| {
        let gate = gate.clone();
        Box::pin(async move {
            // It stays open: the unit may be run again, with those that have joined it.
            drop(gate.acquire().await.unwrap());
            Ok(())
        })
    });
    unit.await.unwrap();
}

/// One that hangs, in the middle of twenty that do not.
async fn among_others(
    opened: &Opened,
    patience: Patience,
    times: u32,
    runs: &Arc<AtomicU32>,
) -> Result<(), Error> {
    let store = &opened.store;
    let gate = Arc::new(Semaphore::new(0));
    let held = hold(store, gate.clone());
    let neighbours = async |from: u32| {
        let writes = (from..from + 10).map(|n| {
            let key = if n % 5 == 0 { "slow".to_owned() } else { format!("key {n}") };
            async move { write(store, &key, n, patience).await }
        });
        for answer in join_all(writes).await {
            answer.unwrap();
        }
    };
    let others = async {
        // Until everybody is queued.
        while store.writer().waiting() < 22 {
            tokio::task::yield_now().await;
        }
        gate.add_permits(1);
    };
    let ((), (), slow, (), ()) = tokio::join!(
        held,
        neighbours(0),
        hang(store, patience, times, runs),
        neighbours(10),
        others
    );
    slow
}

#[tokio::test(flavor = "multi_thread")]
async fn a_unit_that_takes_too_long_is_refused_alone() {
    for patience in [Patience::Fail, Patience::Wait] {
        on_each(async |database: &Database| {
            let opened = open(database).await;
            let runs = Arc::default();
            let slow = among_others(&opened, patience, u32::MAX, &runs);
            let slow = tokio::time::timeout(Duration::from_mins(1), slow).await.unwrap();
            assert!(matches!(slow, Err(Error::TooLong)), "{slow:?}");
            let runs = runs.load(Ordering::Relaxed);
            assert!(runs <= 3, "it was run {runs} times");
            assert_eq!(database.count("SELECT count(*) FROM probe").await, 20);
            assert_eq!(database.count("SELECT count(DISTINCT n) FROM probe").await, 20);
            // The lane goes on as before: in groups.
            write(&opened.store, "key", 2000, patience).await.unwrap();
            opened.close().await;
        })
        .await;
    }
}

/// The watchdog waits for a sign of life, not for all who are in the queue.
#[tokio::test(flavor = "multi_thread")]
async fn a_lane_that_refuses_one_unit_after_the_other_gives_signs_of_life() {
    on_each(async |database: &Database| {
        let opened = open(database).await;
        let (store, runs) = (&opened.store, Arc::default());
        let begun = Instant::now();
        let longest = std::cell::Cell::new(Duration::ZERO);
        let signs = async {
            loop {
                let asked = Instant::now();
                store.lives().await;
                longest.set(longest.get().max(asked.elapsed()));
            }
        };
        let hang = join_all((0..6).map(|_| hang(store, Patience::Fail, u32::MAX, &runs)));
        let answers = tokio::select! {
            answers = hang => answers,
            () = signs => unreachable!("it goes on"),
        };
        let takes = begun.elapsed();
        for answer in answers {
            assert!(matches!(answer, Err(Error::TooLong)), "{answer:?}");
        }
        assert!(takes > 8 * DEADLINE, "{takes:?}");
        assert!(longest.get() < takes / 3, "{:?} of {takes:?}", longest.get());
        opened.close().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_unit_whose_connection_hung_once_is_run_again() {
    on_each(async |database: &Database| {
        let opened = open(database).await;
        // In its group, and once alone.
        let runs = Arc::default();
        among_others(&opened, Patience::Wait, 2, &runs).await.unwrap();
        assert_eq!(runs.load(Ordering::Relaxed), 3);
        assert_eq!(database.count("SELECT count(*) FROM probe").await, 21);
        opened.close().await;
    })
    .await;
}

/// Somebody who alters a table, or empties it, holds it for as long as that takes: nobody is refused for that.
#[tokio::test(flavor = "multi_thread")]
async fn a_unit_that_waits_for_a_lock_is_not_to_blame() {
    on(Kind::Postgres, async |database: &Database| {
        let opened = open(database).await;
        let other = database.connect().await;
        let lock = other.begin().await.unwrap();
        lock.execute_unprepared("LOCK TABLE probe").await.unwrap();
        let mut waits = Box::pin(write(&opened.store, "key", 1, Patience::Wait));
        let long = tokio::time::timeout(4 * DEADLINE, &mut waits).await;
        assert!(long.is_err(), "{long:?}");
        lock.commit().await.unwrap();
        waits.await.unwrap();
        assert_eq!(database.count("SELECT count(*) FROM probe").await, 1);
        opened.close().await;
    })
    .await;
}

/// A statement that takes about so long on this machine, and cannot be broken off: SQLite runs it to its end, with the
/// file's lock, whether anybody waits or not.
async fn long_statement(database: &Database, takes: Duration) -> String {
    let count = |rows: u64| {
        format!(
            "INSERT INTO probe WITH RECURSIVE n(i) AS \
             (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {rows}) SELECT 1000 + sum(i % 2) * 0 FROM n"
        )
    };
    // The quickest of some tries: a machine that is busy for a moment must not make it short.
    let db = database.connect().await;
    let mut each = f64::MAX;
    for _ in 0..5 {
        let begun = Instant::now();
        db.execute_unprepared(&count(200_000)).await.unwrap();
        each = each.min(begun.elapsed().as_secs_f64() / 200_000.0);
    }
    db.execute_unprepared("DELETE FROM probe").await.unwrap();
    db.close().await.unwrap();
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "some millions")]
    let rows = (takes.as_secs_f64() / each) as u64;
    count(rows)
}

/// Runs a statement.
async fn run(store: &Store, statement: String, patience: Patience) -> Result<(), Error> {
    let unit = store.writer().run("slow", patience, move |txn| {
        let statement = statement.clone();
        Box::pin(async move { txn.execute_unprepared(&statement).await.map(drop) })
    });
    unit.await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_statement_that_sqlite_runs_for_long_is_refused_alone_and_what_waits_goes_on() {
    for patience in [Patience::Fail, Patience::Wait] {
        on(Kind::Sqlite, async |database: &Database| {
            let opened = open(database).await;
            // Longer than a group may take, and much longer than the test: it is broken off.
            let takes = DEADLINE * 150;
            let statement = long_statement(database, takes).await;
            let store = &opened.store;
            let slow = run(store, statement, patience);
            let others = join_all((0..10).map(|n| write(store, "key", n, Patience::Wait)));
            let both = async { tokio::join!(slow, others) };
            let (slow, others) = tokio::time::timeout(takes / 2, both).await.unwrap();
            assert!(matches!(slow, Err(Error::TooLong)), "{slow:?}");
            for other in others {
                other.unwrap();
            }
            assert_eq!(database.count("SELECT count(*) FROM probe").await, 10, "and nothing of it");
            // The lane goes on as before.
            write(store, "slow", 2000, Patience::Fail).await.unwrap();
            opened.close().await;
        })
        .await;
    }
}

/// Another process, which has no such limit.
#[tokio::test(flavor = "multi_thread")]
async fn behind_a_statement_that_has_no_end_in_sight_who_will_not_wait_is_told_in_time() {
    on(Kind::Sqlite, async |database: &Database| {
        let opened = open(database).await;
        let store = &opened.store;
        let takes = DEADLINE * 20;
        let statement = long_statement(database, takes).await;
        let other = database.connect().await;
        other.execute_unprepared("BEGIN IMMEDIATE").await.unwrap();
        let begun = Instant::now();
        let slow = async {
            other.execute_unprepared(&statement).await.unwrap();
            let ended = begun.elapsed();
            other.execute_unprepared("ROLLBACK").await.unwrap();
            ended
        };
        let waits = async { (write(store, "key", 1, Patience::Wait).await, begun.elapsed()) };
        let hurries = async { (write(store, "key", 2, Patience::Fail).await, begun.elapsed()) };
        let (slow, waits, hurries) = tokio::join!(slow, waits, hurries);
        assert!(matches!(hurries.0, Err(Error::Unavailable(_))), "{:?}", hurries.0);
        assert!(hurries.1 < takes / 2, "told after {:?}", hurries.1);
        waits.0.unwrap();
        assert!(waits.1 > slow, "it was written when the statement had ended");
        assert_eq!(database.count("SELECT count(*) FROM probe").await, 1);
        opened.close().await;
    })
    .await;
}
