//! A whole daemon, a simulated WhatsApp and a receiver: what happens on a phone arrives at a URL, whatever
//! the process is killed at.

use std::collections::{BTreeMap, BTreeSet};

use reqwest::StatusCode;
use serde_json::{Value, json};
use wagate_simulator::{Options, ReceiptPolicy, Simulator};

use crate::{
    database::{self, Kind, on_each},
    process::{Installation, Process},
    receiver::{Behaviour, Receiver, Request},
    world::{ALICE, BOB, World, calls_this_machine},
};

fn types(requests: &[Request]) -> BTreeSet<String> {
    requests.iter().map(|it| it.json()["type"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_hears_of_a_session_that_was_stopped_and_started_by_hand_after_the_daemon_s_restart()
 {
    for kind in [Kind::Sqlite, Kind::Postgres] {
        database::on(kind, async |database| {
            let mut world =
                World::start_with(database, Options::default(), calls_this_machine).await;
            let receiver = Receiver::start().await;
            world.connect("sales", ALICE).await;
            let filter = json!({ "url": receiver.url(), "session_ids": ["sales"] });
            let made = world.post("/api/webhooks", filter).await;
            assert_eq!(made.status, StatusCode::CREATED, "{}", made.body);
            let secret = made.body["data"]["secret"].as_str().unwrap().to_owned();
            let ask = async |world: &World, what: &str, then: &str| {
                let path = format!("/api/whatsapp/session/sales/{what}");
                let asked = world.post(&path, json!({})).await;
                assert!(asked.status.is_success(), "{}", asked.body);
                world.until_status("sales", then).await;
            };
            ask(&world, "stop", "session_not_connected").await;
            world.stop_daemon().await;
            world.start_daemon().await;
            ask(&world, "start", "session_connected").await;
            let bob = world.whatsapp.contact(BOB).unwrap();
            bob.send_text(ALICE, "after all that").await.unwrap();
            let text = |it: &Request| it.json()["data"]["message"]["body"].clone();
            let requests = receiver
                .until(|requests| requests.iter().any(|it| text(it) == "after all that"))
                .await;
            for request in &requests {
                assert!(request.is_signed_with(&secret));
            }
            world.end().await;
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_happens_on_a_phone_arrives_at_a_url() {
    for kind in [Kind::Sqlite, Kind::Postgres] {
        database::on(kind, async |database| {
            let mut world =
                World::start_with(database, Options::default(), calls_this_machine).await;
            let receiver = Receiver::start().await;
            let made = world.post("/api/webhooks", json!({ "url": receiver.url() })).await;
            assert_eq!(made.status, StatusCode::CREATED, "{}", made.body);
            let secret = made.body["data"]["secret"].as_str().unwrap().to_owned();

            let bob = world.whatsapp.contact(BOB).unwrap();
            bob.set_receipts(ReceiptPolicy::None);
            world.connect("sales", ALICE).await;
            bob.send_text(ALICE, "hello").await.unwrap();
            // WhatsApp has it, and Bob has not.
            let message = world.send("sales", BOB, "hello?").await;
            world.until_ack("sales", &message, 1).await;
            bob.set_receipts(ReceiptPolicy::Read);
            let message = world.send("sales", BOB, "hello yourself").await;
            world.until_ack("sales", &message, 3).await;

            let wanted = [
                "session.change_state",
                "session.qr",
                "session.authenticated",
                "session.ready",
                "message.received",
                "message.created",
                "message.sent",
                "message.ack",
            ];
            let requests = receiver
                .until(|requests| wanted.iter().all(|it| types(requests).contains(*it)))
                .await;
            for request in &requests {
                assert!(request.is_signed_with(&secret));
            }
            let metrics = world.get("/metrics").await.body;
            let metrics = metrics.as_str().unwrap();
            assert!(
                metrics.contains("wagate_webhook_attempts_total{result=\"success\"}"),
                "{metrics}"
            );
            assert!(metrics.contains("wagate_webhook_oldest_due_seconds"), "{metrics}");

            // What it was told while it was down, it is told when the daemon is back.
            world.stop_daemon().await;
            bob.send_text(ALICE, "while you were away").await.unwrap();
            world.start_daemon().await;
            let text = |it: &Request| it.json()["data"]["message"]["body"].clone();
            receiver
                .until(|requests| requests.iter().any(|it| text(it) == "while you were away"))
                .await;
            world.end().await;
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_of_one_session_goes_on_hearing_of_it_when_it_was_paired_again() {
    for kind in [Kind::Sqlite, Kind::Postgres] {
        database::on(kind, async |database| {
            let world = World::start_with(database, Options::default(), calls_this_machine).await;
            let phone = world.connect("sales", ALICE).await;
            world.connect("other", "15550003333").await;
            let receiver = Receiver::start().await;
            let wanted = json!({ "url": receiver.url(), "session_ids": ["sales"] });
            let made = world.post("/api/webhooks", wanted).await;
            assert_eq!(made.status, StatusCode::CREATED, "{}", made.body);
            let endpoint = made.body["data"]["id"].as_str().unwrap().to_owned();
            let bob = world.whatsapp.contact(BOB).unwrap();
            bob.send_text(ALICE, "before").await.unwrap();
            let said = |requests: &[Request], text: &str| {
                requests.iter().any(|it| it.json()["data"]["message"]["body"] == text)
            };
            receiver.until(|requests| said(requests, "before")).await;

            phone.unlink_all();
            world.until_status("sales", "session_not_connected").await;
            world.post("/api/whatsapp/session/sales/start", json!({})).await;
            let qr = world.until_qr("sales").await;
            phone.scan(&qr).await.unwrap();
            world.until_status("sales", "session_connected").await;
            bob.send_text("15550003333", "not of this session").await.unwrap();
            world.until_messages("other", 1).await;
            bob.send_text(ALICE, "after").await.unwrap();
            let requests = receiver.until(|requests| said(requests, "after")).await;
            assert!(!said(&requests, "not of this session"));
            // Also what the pairing itself has told.
            let told = types(&requests);
            for of_the_pairing in ["session.disconnected", "session.qr", "session.ready"] {
                assert!(told.contains(of_the_pairing), "{told:?}");
            }
            let endpoint = world.get(&format!("/api/webhooks/{endpoint}")).await;
            assert_eq!(endpoint.body["data"]["session_ids"], json!(["sales"]));
            world.end().await;
        })
        .await;
    }
}

/// The first try of each is refused. The process is killed while they wait for the second, and while the second is under
/// way.
#[tokio::test(flavor = "multi_thread")]
async fn killed_while_retries_wait_and_while_they_are_under_way_none_is_lost() {
    on_each(async |database| {
        let whatsapp = Simulator::start(Options::default()).await.unwrap();
        let directory = tempfile::tempdir().unwrap();
        let installation = Installation::new(directory.path(), database.server_url(), &whatsapp);
        let receiver = Receiver::start().await;
        let bob = whatsapp.contact(BOB).unwrap();

        let mut daemon: Process = installation.start();
        let code = daemon.code("sales").await.unwrap();
        whatsapp.phone(ALICE).unwrap().scan(&code).await.unwrap();
        daemon.paired("sales").await.unwrap();
        let body = json!({ "url": receiver.url(), "event_types": ["message.received"] });
        let (status, body) = daemon.post("/api/webhooks", body).await;
        assert_eq!(status, StatusCode::CREATED, "{body}");
        let owed = format!("/api/webhooks/{}/events", body["data"]["id"].as_str().unwrap());
        let all = async |daemon: &Process, is: &dyn Fn(&Value) -> bool| {
            while !daemon.get(&owed).await["data"].as_array().unwrap().iter().all(is) {}
        };

        // Fewer than open the breaker.
        let mut messages = BTreeSet::new();
        for round in 0..2 {
            let first = receiver.count();
            receiver.next([500; 4].map(Behaviour::status));
            for n in 0..4 {
                messages.insert(bob.send_text(ALICE, &format!("{round} {n}")).await.unwrap());
            }
            receiver.arrived(first + 4).await;
            all(&daemon, &|it| it["attempts"].as_i64() >= Some(1)).await;
            daemon.kill();
            let gate = receiver.hold();
            daemon = installation.start();
            receiver.arrived(first + 5).await;
            daemon.kill();
            receiver.release();
            gate.notify_waiters();
            daemon = installation.start();
            daemon.connected("sales").await.unwrap();
            all(&daemon, &|it| it["status"] == "succeeded").await;
        }
        let mut tries: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for request in receiver.requests() {
            let message = request.json()["data"]["message"]["id"].as_str().unwrap().to_owned();
            tries.entry(message).or_default().push(request.id().to_owned());
        }
        assert_eq!(tries.keys().cloned().collect::<BTreeSet<_>>(), messages);
        for (message, ids) in tries {
            assert!(ids.len() >= 2, "{message} was refused once, and taken later: {ids:?}");
            assert!(ids.iter().all(|id| *id == ids[0]), "{message}: {ids:?}");
        }
        daemon.terminate().await;
        whatsapp.stop().await;
    })
    .await;
}

/// Endpoints, and messages of one round: some ten thousand deliveries in all.
const ENDPOINTS: usize = 40;
const ROUNDS: usize = 5;
const BURST: usize = 50;

#[tokio::test(flavor = "multi_thread")]
async fn killed_at_random_during_ten_thousand_deliveries_none_is_lost() {
    on_each(async |database| {
        let whatsapp = Simulator::start(Options::default()).await.unwrap();
        let directory = tempfile::tempdir().unwrap();
        let installation = Installation::new(directory.path(), database.server_url(), &whatsapp);
        let receiver = Receiver::start().await;
        let bob = whatsapp.contact(BOB).unwrap();

        let mut daemon: Process = installation.start();
        let code = daemon.code("sales").await.unwrap();
        whatsapp.phone(ALICE).unwrap().scan(&code).await.unwrap();
        daemon.paired("sales").await.unwrap();
        for n in 0..ENDPOINTS {
            let url = format!("http://{}/{n}", receiver.address);
            let body = json!({ "url": url, "event_types": ["message.received"] });
            let (status, body) = daemon.post("/api/webhooks", body).await;
            assert_eq!(status, StatusCode::CREATED, "{body}");
        }

        let mut sent = BTreeSet::new();
        for round in 0..ROUNDS {
            let seen = receiver.count();
            for n in 0..BURST {
                sent.insert(bob.send_text(ALICE, &format!("{round} {n}")).await.unwrap());
            }
            // At some moment of the round, another one each time.
            let some = rand::random_range(1..BURST * ENDPOINTS / 2);
            receiver.arrived(seen + some).await;
            daemon.kill();
            daemon = installation.start();
            daemon.connected("sales").await.unwrap();
        }

        let all = ENDPOINTS * sent.len();
        let mut count = all;
        let ids = loop {
            let requests = receiver.arrived(count).await;
            let mut ids: BTreeMap<(String, String), BTreeSet<String>> = BTreeMap::new();
            for request in &requests {
                let message = request.json()["data"]["message"]["id"].clone();
                let Value::String(message) = message else { panic!("{message}") };
                let key = (request.line.clone(), message);
                ids.entry(key).or_default().insert(request.id().to_owned());
            }
            if ids.len() >= all {
                eprintln!("{} deliveries arrived, {} of them again", all, requests.len() - all);
                break ids;
            }
            count = requests.len() + 1;
        };
        assert_eq!(ids.len(), all, "nothing that was not sent");
        for ((endpoint, message), ids) in ids {
            assert!(sent.contains(&message));
            assert_eq!(ids.len(), 1, "one id for {message} at {endpoint}, however often it came");
        }
        daemon.terminate().await;
        whatsapp.stop().await;
    })
    .await;
}
