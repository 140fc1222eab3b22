//! The process is killed, at moments nobody chose, and started again on the same state.
//!
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use reqwest::Method;
use serde_json::json;
use wagate_simulator::{Options, Phone, ReceiptPolicy, Simulator};

use crate::{
    database::on_each,
    process::{BLOCK_AT, Installation, KILL_AT, Process, TELL_AT, aborted, was_killed},
    world::{ALICE, BOB, CAROL, DEADLINE},
};

/// How long a ratchet would take to be written, and more.
const FLUSH: Duration = Duration::from_secs(2);

/// Creates the session and links it to Alice's phone.
pub(crate) async fn connect(daemon: &Process, whatsapp: &Simulator) -> Phone {
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

#[tokio::test(flavor = "multi_thread")]
async fn a_ratchet_is_not_written_before_the_message_that_it_took() {
    on_each(async |database| {
        read_and_not_handed_over(database.server_url()).await;
    })
    .await;
}

/// A message is read and, before anybody has it, others are read whose ratchets are written.
async fn read_and_not_handed_over(database: Option<&str>) {
    let whatsapp = Simulator::start(Options::default()).await.unwrap();
    let directory = tempfile::tempdir().unwrap();
    let installation = Installation::new(directory.path(), database, &whatsapp);
    let bob = whatsapp.contact(BOB).unwrap();
    let carol = whatsapp.contact(CAROL).unwrap();

    let daemon = installation.start();
    let phone = connect(&daemon, &whatsapp).await;
    // Both have a Signal session with us, as they have in the middle of their lives.
    let mut written = vec![bob.send_text(ALICE, "first of Bob").await.unwrap()];
    written.push(carol.send_text(ALICE, "first of Carol").await.unwrap());
    all_there(&daemon, &written).await;
    // So that none of them comes once more.
    phone.wait_confirmed().await.unwrap();
    daemon.terminate().await;

    // Bob's is decrypted and goes no further; were its ratchet written with Carol's, it would die right after.
    let faults = [
        // The first is the library's own, which tries whether a message can be kept at all.
        (BLOCK_AT, "inbound.opened:2"),
        (KILL_AT, "signal.flushed:1"),
        (TELL_AT, "signal.copied"),
        ("TOKIO_WORKER_THREADS", "6"),
    ];
    let daemon = installation.try_start(&faults).unwrap();
    daemon.connected("sales").await.unwrap();
    let stuck = bob.send_text(ALICE, "second of Bob").await.unwrap();
    let blocked = "Blocked at inbound.opened";
    logged(&installation, blocked, |log| log.contains(blocked)).await;
    let carols = carol.send_text(ALICE, "second of Carol").await.unwrap();
    all_there(&daemon, std::slice::from_ref(&carols)).await;
    // What was copied since has Bob's ratchet in it.
    let copied = "Came to signal.copied";
    let is_copied = |log: &str| log.split_once(blocked).is_some_and(|(_, it)| it.contains(copied));
    logged(&installation, copied, is_copied).await;
    // Long enough for it to be written; then it is killed.
    let ended = daemon.end_within(FLUSH).await;
    assert!(was_killed(ended) && !aborted(ended), "the ratchet was written: {ended}");
    written.extend([stuck, carols]);

    // WhatsApp delivers it again, and it can be read.
    let daemon = installation.start();
    daemon.connected("sales").await.unwrap();
    written.push(bob.send_text(ALICE, "third of Bob").await.unwrap());
    all_there(&daemon, &written).await;
    daemon.terminate().await;
    assert!(whatsapp.violations().is_empty(), "{:?}", whatsapp.violations());
    whatsapp.stop().await;
}

/// Waits until what is logged satisfies somebody, who looks for `what`.
pub(crate) async fn logged(
    installation: &Installation,
    what: &str,
    satisfied: impl Fn(&str) -> bool,
) {
    let begun = Instant::now();
    while !satisfied(&installation.log()) {
        assert!(begun.elapsed() < DEADLINE, "it was not logged: {what}");
        tokio::task::yield_now().await;
    }
}

/// Waits until these messages are in the table, once each.
pub(crate) async fn all_there(daemon: &Process, written: &[String]) {
    let begun = Instant::now();
    loop {
        let messages = daemon.messages("sales").await;
        let copies = |id: &String| messages.iter().filter(|row| row["waId"] == **id).count();
        let missing: Vec<_> = written.iter().filter(|id| copies(id) != 1).collect();
        if missing.is_empty() {
            return;
        }
        assert!(begun.elapsed() < DEADLINE, "not there once: {missing:?}");
    }
}
