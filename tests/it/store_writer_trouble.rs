//! The writer while connections break and the database is away: nothing is lost, and nothing is there twice.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::Duration,
};

use futures_util::{FutureExt, future::join_all};
use sea_orm::ConnectionTrait;
use tokio::sync::Semaphore;
use wagate::store::{Error, Patience};

use crate::{
    database::{Database, Kind, on, on_each},
    store_writer::{once_each, open, write, written},
};

/// Connections break under load, again and again, also in the middle of a commit. Nobody notices,
/// and everything is there once.
#[tokio::test(flavor = "multi_thread")]
async fn broken_connections_lose_nothing_and_repeat_nothing() {
    on(Kind::Postgres, async |database: &Database| {
        let opened = open(database).await;
        let done = Arc::new(AtomicBool::new(false));
        let number = Arc::new(AtomicU32::new(0));
        let writers = (0..16).map(|writer| {
            let (store, done, number) = (opened.store.clone(), done.clone(), number.clone());
            async move {
                while !done.load(Ordering::Relaxed) {
                    let n = number.fetch_add(1, Ordering::Relaxed);
                    write(&store, &format!("key{writer}"), n, Patience::Wait).await.unwrap();
                }
            }
        });
        let breaker = async {
            let server = database.connect().await;
            let name = database.name();
            for _ in 0..60 {
                tokio::time::sleep(Duration::from_millis(20)).await;
                server
                    .execute_unprepared(&format!(
                        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
                         WHERE datname = '{name}' AND application_name = 'wagate'"
                    ))
                    .await
                    .unwrap();
            }
            done.store(true, Ordering::Relaxed);
        };
        tokio::join!(join_all(writers), breaker);
        let total = i64::from(number.load(Ordering::Relaxed));
        assert_eq!(written(database).await, once_each(0..total));
        assert!(opened.store.writer().stats().retries > 10);
        opened.close().await;
    })
    .await;
}

/// Takes the database away, or gives it back.
async fn present(database: &Database, present: bool) {
    match database.kind {
        Kind::Postgres => {
            let name = database.name();
            database
                .execute_on_server(&format!("ALTER DATABASE {name} ALLOW_CONNECTIONS {present}"))
                .await;
            database
                .execute_on_server(&format!(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'"
                ))
                .await;
        }
        Kind::Sqlite => {
            let away = database.path.with_file_name("away");
            let (from, to) =
                if present { (&away, &database.path) } else { (&database.path, &away) };
            std::fs::rename(from, to).unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outage_is_waited_out_by_those_who_wait() {
    on_each(async |database: &Database| {
        let opened = open(database).await;
        let key = "key".repeat(1000);
        write(&opened.store, &key, 0, Patience::Fail).await.unwrap();

        // Holds the lane until the database is away. On SQLite its connection is then as on a full
        // disk, with no page more; who opens a new one finds no file.
        let [begun, gate] = [0, 0].map(|permits| Arc::new(Semaphore::new(permits)));
        let trouble = match database.kind {
            Kind::Sqlite => "PRAGMA max_page_count = 1",
            Kind::Postgres => "SELECT 1",
        };
        let mut waiting = vec![
            opened
                .store
                .writer()
                .run(&key, Patience::Wait, {
                    let (begun, gate) = (begun.clone(), gate.clone());
                    move |txn| {
                        let (begun, gate) = (begun.clone(), gate.clone());
                        Box::pin(async move {
                            txn.execute_unprepared(trouble).await?;
                            begun.add_permits(1);
                            drop(gate.acquire().await);
                            Ok(0)
                        })
                    }
                })
                .boxed(),
        ];
        assert!(waiting[0].as_mut().now_or_never().is_none());
        drop(begun.acquire().await.unwrap());

        // Far more than a group, and behind them one who will not wait.
        for n in 1..800 {
            let mut write = write(&opened.store, &key, n, Patience::Wait).boxed();
            assert!(write.as_mut().now_or_never().is_none());
            waiting.push(write);
        }
        let mut impatient = write(&opened.store, &key, 5000, Patience::Fail).boxed();
        assert!(impatient.as_mut().now_or_never().is_none());
        present(database, false).await;
        gate.close();

        let mut waiting = join_all(waiting);
        let refused = async {
            // The second comes while the lane pauses; both are told soon.
            for write in [impatient, write(&opened.store, &key, 5000, Patience::Fail).boxed()] {
                let answer = tokio::time::timeout(Duration::from_secs(8), write).await.unwrap();
                assert!(matches!(answer, Err(Error::Unavailable(_))), "{answer:?}");
            }
            assert!(opened.store.ping().await.is_err());
        };
        tokio::select! {
            () = refused => {}
            _ = &mut waiting => panic!("written without a database"),
        }
        present(database, true).await;
        let answers = tokio::time::timeout(Duration::from_secs(30), waiting).await.unwrap();
        for answer in answers {
            answer.unwrap();
        }
        opened.store.ping().await.unwrap();
        assert_eq!(written(database).await, once_each(0..800));
        opened.close().await;
    })
    .await;
}
