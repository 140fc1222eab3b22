//! The writer: groups, isolation, order, outages.

use std::{collections::BTreeMap, sync::Arc};

use entity::{
    UnixMillis,
    id::MessageId,
    kind::MessageKind,
    session,
    state::{Direction, MessageStatus},
};
use futures_util::{FutureExt, StreamExt, future::join_all, stream::FuturesUnordered};
use sea_orm::{ConnectionTrait, DatabaseTransaction, DbErr};
use tokio::sync::Semaphore;
use wagate::{
    event::{Event, NewMessage},
    store::{
        Error, Patience, Store,
        events::{NewEvent, Recorded},
    },
};

use crate::database::{Database, Kind, Opened, on, on_each};

/// Opens a store with a table to write to. Its rows carry no key on purpose: a unit that took
/// effect twice shows.
pub(crate) async fn open(database: &Database) -> Opened {
    let opened = database.open().await;
    let id = match database.kind {
        Kind::Sqlite => "INTEGER PRIMARY KEY AUTOINCREMENT",
        Kind::Postgres => "BIGSERIAL PRIMARY KEY",
    };
    database.execute(&format!("CREATE TABLE probe (id {id}, key TEXT, n BIGINT)")).await;
    opened
}

async fn insert(txn: &DatabaseTransaction, key: &str, n: u32) -> Result<(), DbErr> {
    txn.execute_unprepared(&format!("INSERT INTO probe (key, n) VALUES ('{key}', {n})"))
        .await
        .map(drop)
}

pub(crate) async fn write(
    store: &Store,
    key: &str,
    n: u32,
    patience: Patience,
) -> Result<u32, Error> {
    let of = key.to_owned();
    store
        .writer()
        .run(key, patience, move |txn| {
            let of = of.clone();
            Box::pin(async move { insert(txn, &of, n).await.map(|()| n) })
        })
        .await
}

/// How often each number is in the table.
pub(crate) async fn written(database: &Database) -> BTreeMap<i64, u32> {
    let mut counts = BTreeMap::new();
    for row in database.query("SELECT n FROM probe").await {
        *counts.entry(row.try_get_by_index(0).unwrap()).or_default() += 1;
    }
    counts
}

pub(crate) fn once_each(numbers: impl IntoIterator<Item = i64>) -> BTreeMap<i64, u32> {
    numbers.into_iter().map(|n| (n, 1)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_shares_a_commit() {
    on_each(async |database: &Database| {
        let opened = open(database).await;
        let before = opened.store.writer().stats();
        let keys: Vec<String> = (0..1000).map(|n| format!("key{}", n % 50)).collect();
        let writes =
            keys.iter().zip(0..).map(|(key, n)| write(&opened.store, key, n, Patience::Fail));
        for (n, answer) in join_all(writes).await.into_iter().enumerate() {
            assert_eq!(answer.unwrap() as usize, n);
        }
        let after = opened.store.writer().stats();
        assert_eq!(after.units - before.units, 1000);
        let groups = after.groups - before.groups;
        // 64 to a group, in one lane or in four.
        assert!((1000 / 64..150).contains(&groups), "{groups} groups on {database:?}");
        assert_eq!(written(database).await, once_each(0..1000));
        opened.close().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lone_unit_is_committed_alone_and_at_once() {
    on_each(async |database: &Database| {
        let opened = open(database).await;
        let before = opened.store.writer().stats();
        for n in 0..10 {
            write(&opened.store, "key", n, Patience::Fail).await.unwrap();
            // Committed means: to be seen by anybody, now.
            assert_eq!(database.count("SELECT count(*) FROM probe").await, i64::from(n) + 1);
        }
        assert_eq!(opened.store.writer().stats().groups - before.groups, 10);
        opened.close().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_unit_that_fails_or_panics_changes_nothing_and_harms_nobody() {
    on_each(async |database: &Database| {
        let opened = open(database).await;
        let writes = (0..120_u32).map(|n| {
            let store = opened.store.clone();
            async move {
                let answer = store
                    .writer()
                    .run(&format!("key{}", n % 3), Patience::Fail, move |txn| {
                        // Before there is a future at all.
                        assert!(n % 10 != 7, "the unit panics early");
                        Box::pin(async move {
                            insert(txn, "key", n).await?;
                            match n % 10 {
                                3 => Err(DbErr::Custom("the unit changed its mind".to_owned())),
                                4 => {
                                    txn.execute_unprepared("SELECT * FROM nowhere").await.map(drop)
                                }
                                5 => panic!("the unit panics late"),
                                _ => Ok(()),
                            }
                        })
                    })
                    .await;
                (n, answer)
            }
        });
        for (n, answer) in join_all(writes).await {
            match n % 10 {
                3 | 4 | 5 | 7 => assert!(matches!(answer, Err(Error::Database(_))), "{n}"),
                _ => answer.unwrap(),
            }
        }
        let good = (0..120).filter(|n| ![3, 4, 5, 7].contains(&(n % 10)));
        assert_eq!(written(database).await, once_each(good));
        write(&opened.store, "key0", 1000, Patience::Fail).await.unwrap();
        opened.close().await;
    })
    .await;
}

/// PostgreSQL ends a transaction at its first error. A unit that goes on as if nothing had happened
/// must not be told that it was committed, nor take the others with it.
#[tokio::test(flavor = "multi_thread")]
async fn a_unit_that_hides_an_error_fails_alone() {
    on(Kind::Postgres, async |database: &Database| {
        let opened = open(database).await;
        for company in [0, 20] {
            let hiding = opened.store.writer().run("key", Patience::Fail, |txn| {
                Box::pin(async move {
                    insert(txn, "key", 999).await?;
                    // Ignored, which is the point.
                    txn.execute_unprepared("SELECT * FROM nowhere").await.ok();
                    Ok(())
                })
            });
            let others = (0..company).map(|n| write(&opened.store, "key", n, Patience::Fail));
            let (hiding, others) = tokio::join!(hiding, join_all(others));
            assert!(matches!(hiding, Err(Error::Database(_))), "{hiding:?}");
            for other in others {
                other.unwrap();
            }
        }
        assert_eq!(written(database).await, once_each(0..20));
        opened.close().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_that_gives_up_leaves_the_group_alone() {
    on_each(async |database: &Database| {
        let opened = open(database).await;
        let mut writes: Vec<_> =
            (0..200).map(|n| write(&opened.store, "key", n, Patience::Wait).boxed()).collect();
        // Handed over, then forgotten by every second caller.
        for write in &mut writes {
            assert!(write.as_mut().now_or_never().is_none());
        }
        let kept: Vec<_> =
            writes.into_iter().enumerate().filter(|(n, _)| n % 2 == 0).map(|(_, w)| w).collect();
        for answer in join_all(kept).await {
            answer.unwrap();
        }
        opened.close().await;
        // The others were handed over, and so they were written.
        assert_eq!(written(database).await, once_each(0..200));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn units_of_one_key_take_effect_in_order() {
    on_each(async |database: &Database| {
        let opened = open(database).await;
        // Polled once each, in order: that is the order in which they are handed over.
        let store = opened.store.clone();
        let mut writes = FuturesUnordered::new();
        for n in 0..2000 {
            let key = ["a", "b", "c", "d", "e"][n as usize % 5];
            // Without a budget, which would end in the middle and leave some for later.
            let mut write =
                tokio::task::unconstrained(write(&store, key, n, Patience::Wait)).boxed();
            if (&mut write).now_or_never().is_none() {
                writes.push(write);
            }
        }
        while let Some(answer) = writes.next().await {
            answer.unwrap();
        }
        for key in ["a", "b", "c", "d", "e"] {
            let sql = format!("SELECT n FROM probe WHERE key = '{key}' ORDER BY id");
            let rows = database.query(&sql).await;
            let order: Vec<i64> = rows.iter().map(|row| row.try_get_by_index(0).unwrap()).collect();
            assert_eq!(order.len(), 400);
            assert!(order.is_sorted(), "{key}: {order:?}");
        }
        opened.close().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_hands_over_much_keeps_the_others_waiting_for_a_group_and_not_for_all_of_it() {
    on_each(async |database: &Database| {
        let opened = open(database).await;
        let store = opened.store.clone();
        let gate = Arc::new(Semaphore::new(0));
        let held = store.writer().run("much", Patience::Wait, {
            let gate = gate.clone();
            move |_| {
                let gate = gate.clone();
                Box::pin(async move {
                    drop(gate.acquire().await);
                    Ok(())
                })
            }
        });
        let mut held = held.boxed();
        assert!((&mut held).now_or_never().is_none());
        let hand_over = |key: &'static str, n| {
            let store = store.clone();
            let write = async move { write(&store, key, n, Patience::Wait).await };
            let mut write = tokio::task::unconstrained(write).boxed();
            assert!((&mut write).now_or_never().is_none());
            write
        };
        let mut writes: Vec<_> = (0..900).map(|n| hand_over("much", n)).collect();
        writes.push(hand_over("little", 0));
        gate.add_permits(1);
        held.await.unwrap();
        for answer in join_all(writes).await {
            answer.unwrap();
        }
        let before =
            "SELECT COUNT(*) FROM probe WHERE id < (SELECT id FROM probe WHERE key = 'little')";
        let before: i64 = database.query(before).await[0].try_get_by_index(0).unwrap();
        // The group that was under way, and its own.
        assert!(before < 128, "{before} of 900 went first");
        opened.close().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn closing_writes_what_was_handed_over_and_takes_nothing_more() {
    on_each(async |database: &Database| {
        let opened = open(database).await;
        let store = opened.store.clone();
        let mut writes: Vec<_> =
            (0..300).map(|n| write(&store, "key", n, Patience::Wait).boxed()).collect();
        for write in &mut writes {
            assert!(write.as_mut().now_or_never().is_none());
        }
        opened.close().await;
        for answer in join_all(writes).await {
            answer.unwrap();
        }
        let late = write(&store, "key", 1000, Patience::Wait).await;
        assert!(matches!(late, Err(Error::Stopped)), "{late:?}");
        assert!(store.ping().await.is_err());
        assert_eq!(written(database).await, once_each(0..300));
    })
    .await;
}

fn message(session: &session::Model, wa_id: &str) -> NewEvent {
    let at = UnixMillis(1_800_000_000_000);
    NewEvent {
        organization_id: session.organization_id.clone(),
        session_key: session.id.clone(),
        generation: None,
        event: Event::Message(Box::new(NewMessage {
            id: MessageId::new(at, rand::random()),
            wa_id: wa_id.to_owned(),
            chat: "4915112345678@s.whatsapp.net".to_owned(),
            sender: "4915112345678@s.whatsapp.net".to_owned(),
            direction: Direction::Inbound,
            kind: MessageKind::Text,
            body: Some("hello".to_owned()),
            target_wa_id: None,
            interaction: None,
            raw: None,
            push_name: None,
            sent_at: at,
            is_group: false,
            offline: false,
            status: MessageStatus::Received,
        })),
        at,
        care: None,
        posted: None,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn events_share_commits_and_ring_the_bell() {
    on_each(async |database: &Database| {
        let opened = open(database).await;
        let mut sessions = Vec::new();
        for n in 0..10 {
            sessions.push(opened.session(&format!("s{n}")).await);
        }
        let bell = opened.store.writer().bell();
        let before = opened.store.writer().stats();
        let events: Vec<NewEvent> =
            (0..1000).map(|n| message(&sessions[n % 10], &format!("WA{n}"))).collect();
        let writer = opened.store.writer();
        let records = events.iter().map(|event| writer.record(event.clone(), Patience::Wait));
        for recorded in join_all(records).await {
            assert!(matches!(recorded.unwrap(), Recorded::New { .. }));
        }
        assert!(bell.has_changed().unwrap());
        let after = writer.stats();
        assert_eq!(after.events - before.events, 1000);
        let groups = after.groups - before.groups;
        assert!(groups < 200, "{groups} groups on {database:?}");
        assert_eq!(database.count("SELECT count(*) FROM message").await, 1000);

        // Again: all known, nothing new, no bell.
        let bell = writer.bell();
        let records = events.iter().map(|event| writer.record(event.clone(), Patience::Wait));
        for recorded in join_all(records).await {
            assert_eq!(recorded.unwrap(), Recorded::Duplicate);
        }
        assert!(!bell.has_changed().unwrap());
        opened.close().await;
    })
    .await;
}

/// Events go together and units one by one, but not past each other when they are about the same.
#[tokio::test(flavor = "multi_thread")]
async fn an_event_does_not_overtake_a_unit_of_its_session() {
    on_each(async |database: &Database| {
        let opened = open(database).await;
        let session = opened.session("s").await;
        let key = session.id.clone();
        let delete = opened.store.writer().run(key.as_str(), Patience::Wait, {
            let key = key.clone();
            move |txn| {
                let sql = format!("DELETE FROM session WHERE id = '{key}'");
                Box::pin(async move { txn.execute_unprepared(&sql).await.map(drop) })
            }
        });
        let before = opened.store.writer().record(message(&session, "before"), Patience::Wait);
        let after = opened.store.writer().record(message(&session, "after"), Patience::Wait);
        let (before, delete, after) = tokio::join!(biased; before, delete, after);
        assert!(matches!(before.unwrap(), Recorded::New { .. }));
        delete.unwrap();
        assert_eq!(after.unwrap(), Recorded::Stale);
        opened.close().await;
    })
    .await;
}
