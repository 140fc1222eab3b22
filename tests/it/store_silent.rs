//! Connections that fall silent, as behind a firewall that has forgotten them: nothing comes back, and nothing breaks.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use reqwest::StatusCode;
use serde_json::json;
use wagate::store::{Error, Store};

use crate::{
    database::{Database, Kind, Opened, on},
    node::{Cluster, Gate, LEASE, number},
    world::{BOB, DEADLINE},
};

const READERS: u32 = 3;

/// Longer than a connection is asked whether it lives.
const DEADLINE_OF_A_STATEMENT: Duration = Duration::from_secs(5);

async fn open(database: &Database, gate: &Gate) -> Opened {
    let opened = database.open_with(|options| {
        options.url = gate.url(&database.url);
        options.deadline = DEADLINE_OF_A_STATEMENT;
        options.readers = READERS;
        options.lanes = 1;
    });
    opened.await
}

async fn read(store: &Store) -> Result<(), Error> {
    store.sessions().count_all().await.map(drop)
}

/// As many at once as there are connections, and more.
async fn all_read(store: &Store) -> Vec<Result<(), Error>> {
    join_all((0..2 * READERS).map(|_| read(store))).await
}

#[tokio::test(flavor = "multi_thread")]
async fn reads_come_back_when_every_connection_has_fallen_silent() {
    on(Kind::Postgres, async |database: &Database| {
        let gate = Gate::new(&database.url).await;
        let opened = open(database, &gate).await;
        let store = &opened.store;
        let session = opened.session("sales").await;
        // Again and again: a place that is lost with its connection would be missed at last.
        for _ in 0..2 {
            // Of those that do nothing, the next to read finds out.
            for answer in all_read(store).await {
                answer.unwrap();
            }
            gate.swallow();
            let begun = Instant::now();
            for answer in all_read(store).await {
                answer.unwrap();
            }
            assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());

            // Those that wait for an answer are told that there is none, or ask again.
            gate.shut();
            let reading = async {
                let sessions = store.sessions();
                let waits = sessions.wait_by_key(&session.id);
                tokio::join!(read(store), read(store), waits)
            };
            let cut = async {
                // Once they have been sent, or never: either way they are answered.
                tokio::task::yield_now().await;
                gate.swallow();
                gate.open();
            };
            let answers = async { tokio::join!(reading, cut).0 };
            let (one, other, waits) = tokio::time::timeout(DEADLINE, answers).await.unwrap();
            for answer in [one, other] {
                assert!(matches!(answer, Ok(()) | Err(Error::Unavailable(_))), "{answer:?}");
            }
            assert_eq!(waits.unwrap().unwrap().id, session.id);
            for answer in all_read(store).await {
                answer.unwrap();
            }
            store.ping().await.unwrap();
        }
        opened.close().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_statement_that_takes_too_long_is_given_up_and_its_connection_with_it() {
    on(Kind::Postgres, async |database: &Database| {
        let gate = Gate::new(&database.url).await;
        let opened = open(database, &gate).await;
        let store = &opened.store;
        let lock = database.connect().await;
        let pids = async || {
            let pids = "SELECT pid FROM pg_stat_activity WHERE application_name = 'wagate' AND datname = \
                        current_database() AND backend_type = 'client backend' ORDER BY pid";
            let rows = database.query(pids).await;
            rows.iter().map(|row| row.try_get_by_index::<i32>(0).unwrap()).collect::<Vec<_>>()
        };
        for answer in all_read(store).await {
            answer.unwrap();
        }
        let before = pids().await;
        sea_orm::ConnectionTrait::execute_unprepared(&lock, "BEGIN; LOCK TABLE session")
            .await
            .unwrap();
        let begun = Instant::now();
        for answer in join_all((0..READERS).map(|_| read(store))).await {
            assert!(matches!(answer, Err(Error::Unavailable(_))), "{answer:?}");
        }
        assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
        sea_orm::ConnectionTrait::execute_unprepared(&lock, "ROLLBACK").await.unwrap();
        for answer in all_read(store).await {
            answer.unwrap();
        }
        // The writer's is the same; no reader's is, once the server has noticed.
        let replaced = async {
            let kept = async || pids().await.iter().filter(|pid| before.contains(pid)).count();
            while kept().await > 1 {}
        };
        tokio::time::timeout(DEADLINE, replaced).await.unwrap();
        opened.close().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_whose_connections_fall_silent_goes_on_by_itself() {
    on(Kind::Postgres, async |database: &Database| {
        let cluster = Cluster::new(database, LEASE).await;
        let gate = Gate::new(&database.url).await;
        let node = cluster.start_through("a", &gate.url(&database.url));
        let names = ["sales".to_owned()];
        node.create("sales").await;
        let phone = cluster.pair(&node, &names).await.remove(0);
        let bob = cluster.whatsapp.contact(BOB).unwrap();

        gate.swallow();
        // While the session lives, and then until it lives again.
        bob.send_text(&number(0), "into the silence").await.unwrap();
        node.until_some("ready", async || match node.get("/readyz").await {
            (StatusCode::NO_CONTENT, _) => Ok(()),
            (status, body) => Err(json!([status.as_u16(), body])),
        })
        .await;
        node.until_some("the message", async || {
            let messages = node.messages("sales").await;
            let heard = messages.iter().any(|message| message["body"] == "into the silence");
            if heard { Ok(()) } else { Err(json!(messages)) }
        })
        .await;
        node.until_connected(&names).await;
        let (status, sent) = node.send("sales", BOB, "out of it").await;
        assert!(status.is_success(), "{status} {sent}");
        phone.wait_for_sent(|sent| sent.text.as_deref() == Some("out of it")).await.unwrap();
        // The keeper's loops as well: what is written by nobody's request is seen to.
        database.execute("UPDATE session SET desired_state = 'stopped'").await;
        phone.wait_offline().await.unwrap();
        node.terminate().await;
        cluster.end().await;
    })
    .await;
}
