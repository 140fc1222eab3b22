//! A panic somewhere in what works for a session: it is said and counted, the session begins anew, and nothing is lost.

use reqwest::{Method, StatusCode};
use serde_json::json;
use wagate_simulator::{Options, Phone, Simulator};

use crate::{
    database::on_each,
    process::{Installation, PANIC_AT, Process},
    world::{ALICE, BOB, CAROL, DEADLINE},
};

/// Waits until the session says that one of its tasks has panicked, and has the operator start it.
async fn panics_and_begins_anew(daemon: &Process) {
    let panicked = daemon.watch("sales", "the panic", |seen| {
        let told = seen["lastDisconnect"]["reason"] == "panicked";
        told.then(|| seen.clone())
    });
    let panicked = panicked.await.expect("the daemon lives");
    assert_eq!(panicked["reconnecting"], true, "{panicked}");
    assert!(panicked["nextAttemptAt"].is_string(), "{panicked}");
    let figures = daemon.request(Method::GET, "/metrics").send().await.unwrap();
    let figures = figures.text().await.unwrap();
    assert!(figures.contains("wagate_session_panics_total 1\n"), "{figures}");
    let start = daemon.post("/api/whatsapp/session/sales/restart", json!({})).await;
    assert_eq!(start.0, StatusCode::OK, "{}", start.1);
    daemon.connected("sales").await.expect("the daemon lives");
}

/// Runs a test with a session that was connected to Alice's phone, and another one.
async fn each(test: impl AsyncFn(&Installation, &Simulator, &Phone)) {
    on_each(async |database| {
        let whatsapp = Simulator::start(Options::default()).await.unwrap();
        let directory = tempfile::tempdir().unwrap();
        let installation = Installation::new(directory.path(), database.server_url(), &whatsapp);
        let daemon = installation.start();
        let code = daemon.code("sales").await.unwrap();
        let phone = whatsapp.phone(ALICE).unwrap();
        phone.scan(&code).await.unwrap();
        daemon.paired("sales").await.unwrap();
        daemon.terminate().await;
        test(&installation, &whatsapp, &phone).await;
        // Where it was is said, and not what the panic says: that one is made of values.
        let log = std::fs::read_to_string(directory.path().join("log")).unwrap();
        assert!(log.contains("A task panicked at src/fault.rs:"), "{log}");
        assert!(!log.contains("a test wants a panic"), "{log}");
        assert!(whatsapp.violations().is_empty(), "{:#?}", whatsapp.violations());
        whatsapp.stop().await;
    })
    .await;
}

/// Starts it, with a panic at a moment.
fn start(installation: &Installation, moment: &str) -> Process {
    let started = installation.try_start(&[(PANIC_AT, moment)]);
    started.unwrap_or_else(|ended| panic!("{ended}\n{}", installation.log()))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_in_the_clients_own_task_is_said_and_counted_and_harms_no_other_session() {
    each(async |installation, whatsapp, _| {
        let daemon = start(installation, "session.dialling:1");
        panics_and_begins_anew(&daemon).await;
        let code = daemon.code("support").await.unwrap();
        whatsapp.phone(CAROL).unwrap().scan(&code).await.unwrap();
        daemon.paired("support").await.unwrap();
        daemon.terminate().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_in_a_task_of_the_library_is_said_and_counted_and_loses_no_message() {
    each(async |installation, whatsapp, _| {
        let bob = whatsapp.contact(BOB).unwrap();
        // Between what the library has read and what it hands over.
        let daemon = start(installation, "signal.copied:1");
        daemon.connected("sales").await.unwrap();
        let mut expected = Vec::new();
        for n in 0..5 {
            expected.push(bob.send_text(ALICE, &format!("{n}")).await.unwrap());
        }
        panics_and_begins_anew(&daemon).await;
        expected.push(bob.send_text(ALICE, "afterwards").await.unwrap());
        let last = expected.last().unwrap().clone();
        let deadline = tokio::time::Instant::now() + DEADLINE;
        let mut after = 0;
        let there: Vec<String> = loop {
            let there = daemon.messages("sales").await;
            let there: Vec<_> =
                there.iter().map(|it| it["waId"].as_str().unwrap().to_owned()).collect();
            if there.contains(&last) {
                break there;
            }
            assert!(tokio::time::Instant::now() < deadline, "{there:?} of {expected:?}");
            let page =
                format!("/api/whatsapp/session/sales/events/page?after={after}&wait=20&limit=1000");
            let page = daemon.get(&page).await;
            if let Some(last) = page["data"].as_array().and_then(|all| all.last()) {
                after = last["seq"].as_i64().unwrap();
            }
        };
        for id in &expected {
            let copies = there.iter().filter(|it| *it == id).count();
            assert_eq!(copies, 1, "{id} of {there:?}");
        }
        daemon.terminate().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_of_who_sends_is_said_and_counted_and_the_message_is_sent_by_the_next_connection() {
    each(async |installation, whatsapp, _| {
        let bob = whatsapp.contact(BOB).unwrap();
        let daemon = start(installation, "outbound.marked:1");
        daemon.connected("sales").await.unwrap();
        let body = json!({ "to": BOB, "text": "hello", "queue": true });
        let queued = daemon.post("/api/whatsapp/session/sales/messages", body).await;
        assert!(queued.0.is_success(), "{}", queued.1);
        panics_and_begins_anew(&daemon).await;
        let heard = bob.wait_for_received(|it| it.text.as_deref() == Some("hello")).await;
        heard.unwrap();
        assert_eq!(bob.received().len(), 1);
        daemon.terminate().await;
    })
    .await;
}
