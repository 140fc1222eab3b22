//! What may have to wait for a lock is before nobody who writes for a session.

use std::time::Duration;

use entity::UnixMillis;
use futures_util::future::join_all;
use sea_orm::{ConnectionTrait, TransactionTrait};
use wagate::store::{Patience, retention::Table};

use crate::database::{Database, Kind, on};

#[tokio::test(flavor = "multi_thread")]
async fn retention_that_waits_for_a_lock_keeps_no_session_waiting() {
    on(Kind::Postgres, async |database: &Database| {
        let opened = database.open_with(|options| options.lanes = 2).await;
        let store = &opened.store;
        opened.session("sales").await;
        database.execute("CREATE TABLE probe (n BIGINT)").await;
        let later = UnixMillis(opened.clock.now().0 + 1);
        let mut due = store.retention().due(Table::Audit, later).await.unwrap();
        let due = due.first_mut().expect("that the session was made is written down");

        let other = database.connect().await;
        let lock = other.begin().await.unwrap();
        lock.execute_unprepared("LOCK TABLE audit IN SHARE MODE").await.unwrap();
        let retention = store.retention();
        let mut retiring = Box::pin(retention.retire(due, 10));
        let blocked = async {
            let ask = format!(
                "SELECT count(*) FROM pg_stat_activity WHERE datname = '{}' AND wait_event_type = 'Lock'",
                database.name()
            );
            while database.count(&ask).await == 0 {}
        };
        tokio::select! {
            retired = &mut retiring => panic!("nothing is in its way: {retired:?}"),
            () = blocked => {}
        }
        // As many keys as it takes to come to every lane.
        let writes = (0..16).map(|n| {
            let key = format!("key {n}");
            async move {
                let unit = store.writer().run(&key, Patience::Fail, move |txn| {
                    Box::pin(async move {
                        let insert = format!("INSERT INTO probe VALUES ({n})");
                        txn.execute_unprepared(&insert).await.map(drop)
                    })
                });
                unit.await.unwrap();
            }
        });
        tokio::time::timeout(Duration::from_secs(5), join_all(writes)).await.unwrap();
        lock.commit().await.unwrap();
        assert!(retiring.await.unwrap().rows > 0);
        opened.close().await;
    })
    .await;
}
