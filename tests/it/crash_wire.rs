//! The process is killed, at moments nobody chose, and started again on the same state.
//!
use std::time::Duration;

use futures_util::future::join_all;
use reqwest::Method;
use serde_json::json;
use wagate_simulator::{Options, Phone, ReceiptPolicy, Simulator};

use crate::{
    database::on_each,
    process::{Installation, Process},
    world::{ALICE, BOB, DEADLINE},
};

/// Creates the session and links it to Alice's phone.
async fn connect(daemon: &Process, whatsapp: &Simulator) -> Phone {
    let code = daemon.code("sales").await.unwrap();
    let phone = whatsapp.phone(ALICE).unwrap();
    phone.scan(&code).await.unwrap();
    daemon.paired("sales").await.unwrap();
    phone
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_in_a_burst_both_ways_no_message_is_lost_or_doubled_and_no_counter_used_twice() {
    on_each(async |database| {
        burst_both_ways(database.server_url()).await;
    })
    .await;
}

async fn burst_both_ways(database: Option<&str>) {
    const ROUNDS: usize = 4;
    const BURST: usize = 40;

    let whatsapp = Simulator::start(Options::default()).await.unwrap();
    let directory = tempfile::tempdir().unwrap();
    let installation = Installation::new(directory.path(), database, &whatsapp);
    let bob = whatsapp.contact(BOB).unwrap();
    bob.set_receipts(ReceiptPolicy::Read);

    let mut daemon = installation.start();
    let phone = connect(&daemon, &whatsapp).await;

    let mut expected = Vec::new();
    let mut accepted = Vec::new();
    for round in 0..ROUNDS {
        // Both ways at once; what the daemon has answered with 2xx, it has promised.
        let inbound = async {
            for n in 0..BURST {
                let id = bob.send_text(ALICE, &format!("in {round} {n}")).await.unwrap();
                expected.push(id);
            }
        };
        let outbound = join_all((0..BURST).map(|n| {
            let body = json!({ "to": BOB, "text": format!("out {round} {n}"), "queue": true });
            daemon.request(Method::POST, "/api/whatsapp/session/sales/messages").json(&body).send()
        }));
        // Killed when part of the burst has been confirmed, at a different point each round.
        let enough = phone.wait_for_receipts(round * BURST + 1 + round * 7);
        tokio::pin!(inbound, outbound);
        let mut answers = None;
        let (mut sent, mut confirmed) = (false, false);
        tokio::pin!(enough);
        while !(sent && confirmed) {
            tokio::select! {
                () = &mut inbound, if !sent => sent = true,
                all = &mut outbound, if answers.is_none() => answers = Some(all),
                done = &mut enough, if !confirmed => { done.unwrap(); confirmed = true; }
            }
        }
        daemon.kill();
        let answers = match answers {
            Some(answers) => answers,
            None => outbound.await,
        };
        for (n, answer) in answers.into_iter().enumerate() {
            if let Ok(answer) = answer
                && answer.status().is_success()
            {
                accepted.push(format!("out {round} {n}"));
            }
        }

        daemon = installation.start();
        daemon.connected("sales").await.unwrap();
    }

    // Every later message can be read on both sides.
    let last_in = bob.send_text(ALICE, "last in").await.unwrap();
    expected.push(last_in.clone());
    let (status, _) = daemon
        .post(
            "/api/whatsapp/session/sales/messages",
            json!({ "to": BOB, "text": "last out", "queue": true }),
        )
        .await;
    assert!(status.is_success());
    accepted.push("last out".to_owned());
    phone.wait_for_sent(|sent| sent.text.as_deref() == Some("last out")).await.unwrap();
    let deadline = tokio::time::Instant::now() + DEADLINE;
    let mut after = 0;
    let messages = loop {
        let messages = daemon.messages("sales").await;
        if messages.iter().any(|message| message["waId"] == last_in.as_str()) {
            break messages;
        }
        assert!(tokio::time::Instant::now() < deadline, "the last message did not come");
        let page =
            format!("/api/whatsapp/session/sales/events/page?after={after}&wait=20&limit=1000");
        if let Some(last) = daemon.get(&page).await["data"].as_array().and_then(|all| all.last()) {
            after = last["seq"].as_i64().unwrap();
        }
    };

    let inbound: Vec<_> =
        messages.iter().filter(|message| message["direction"] == "inbound").collect();
    for id in &expected {
        let copies = inbound.iter().filter(|message| message["waId"] == id.as_str()).count();
        assert_eq!(copies, 1, "inbound {id}");
    }
    assert_eq!(inbound.len(), expected.len());
    for text in &accepted {
        let sent = phone.wait_for_sent(|sent| sent.text.as_deref() == Some(text)).await.unwrap();
        let ids = phone.sent().into_iter().filter(|one| one.text.as_deref() == Some(text.as_str()));
        assert!(ids.into_iter().all(|one| one.id == sent.id), "{text} under one id");
    }
    daemon.terminate().await;
    let violations = whatsapp.violations();
    assert!(violations.is_empty(), "{violations:#?}");
    whatsapp.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_at_any_step_of_a_pairing_the_session_starts_again() {
    let whatsapp = Simulator::start(Options::default()).await.unwrap();
    let directory = tempfile::tempdir().unwrap();
    let installation = Installation::new(directory.path(), None, &whatsapp);

    // Right after the request that created it.
    let daemon = installation.start();
    daemon.post("/api/whatsapp/session", json!({ "sessionId": "sales" })).await;
    daemon.kill();

    // While a code is shown.
    let daemon = installation.start();
    assert_ne!(
        daemon.get("/api/whatsapp/session/status/sales").await["data"]["status"],
        "session_connected"
    );
    daemon.shown_code("sales").await.unwrap();
    daemon.kill();

    // Right after the scan: the phone has linked a device that we may not know of.
    let daemon = installation.start();
    let code = daemon.shown_code("sales").await.unwrap();
    let phone = whatsapp.phone(ALICE).unwrap();
    phone.scan(&code).await.unwrap();
    daemon.kill();

    // It was signed, so it is on disk: no second code.
    let daemon = installation.start();
    daemon.connected("sales").await.unwrap();
    whatsapp.contact(BOB).unwrap().send_text(ALICE, "hello").await.unwrap();
    phone.wait_for_receipts(1).await.unwrap();
    daemon.terminate().await;
    whatsapp.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_kill_nothing_says_connected_before_it_is() {
    let whatsapp = Simulator::start(Options::default()).await.unwrap();
    let directory = tempfile::tempdir().unwrap();
    let installation = Installation::new(directory.path(), None, &whatsapp);
    let daemon = installation.start();
    connect(&daemon, &whatsapp).await;
    daemon.kill();

    whatsapp.close().await;
    let daemon = installation.start();
    let seen = daemon.get("/api/whatsapp/session/status/sales").await["data"].clone();
    assert_eq!(seen["status"], "connecting", "{seen}");
    assert_eq!(seen["isConnected"], false);
    let list = daemon.get("/api/whatsapp/session/list-realtime").await;
    assert_eq!(list["summary"]["connected"], 0, "{list}");
    assert_eq!(list["data"][0]["isConnected"], false, "{list}");
    let figures = daemon.request(Method::GET, "/metrics").send().await.unwrap();
    let figures = figures.text().await.unwrap();
    assert!(figures.contains("wagate_sessions{status=\"session_connected\"} 0"), "{figures}");
    whatsapp.reopen().await.unwrap();
    // The waits grow; a restart does not wait.
    daemon.post("/api/whatsapp/session/sales/restart", json!({})).await;
    daemon.connected("sales").await.unwrap();
    daemon.terminate().await;
    whatsapp.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_in_the_middle_of_everything_ends_open_streams_and_loses_nothing() {
    let whatsapp = Simulator::start(Options::default()).await.unwrap();
    let directory = tempfile::tempdir().unwrap();
    let installation = Installation::new(directory.path(), None, &whatsapp);
    let daemon = installation.start();
    let phone = connect(&daemon, &whatsapp).await;

    let mut stream = daemon
        .request(Method::GET, "/api/whatsapp/events")
        .header("accept", "text/event-stream")
        .send()
        .await
        .unwrap();
    let bob = whatsapp.contact(BOB).unwrap();
    let ids = bob.send_many(ALICE, "burst", 50).await.unwrap();
    phone.wait_for_receipts(10).await.unwrap();
    daemon.terminate().await;
    // What a store that closes leaves is whole without its log.
    assert!(installation.state().join("wagate.db").exists());
    let log = std::fs::metadata(installation.state().join("wagate.db-wal"));
    assert_eq!(log.map_or(0, |log| log.len()), 0, "the database was closed");
    // The stream ends instead of hanging until the deadline.
    while tokio::time::timeout(Duration::from_secs(30), stream.chunk())
        .await
        .unwrap()
        .is_ok_and(|chunk| chunk.is_some())
    {}

    let daemon = installation.start();
    daemon.connected("sales").await.unwrap();
    phone.wait_confirmed().await.unwrap();
    let messages = daemon.messages("sales").await;
    for id in &ids {
        let copies = messages.iter().filter(|message| message["waId"] == id.as_str()).count();
        assert_eq!(copies, 1, "{id}");
    }
    daemon.terminate().await;
    let violations = whatsapp.violations();
    assert!(violations.is_empty(), "{violations:#?}");
    whatsapp.stop().await;
}
