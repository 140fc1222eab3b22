//! What has happened is said before what is left of it is put away.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use wagate_simulator::{Fault, Lasting, Options, Simulator};

use crate::{
    database::{self, Database, Kind},
    node::number,
    process::{HOLD_AT, Installation, Process},
    world::{ALICE, BOB, DEADLINE},
};

/// A client that does not close is waited for, for fifteen seconds; then it is done without.
const CLOSE: Duration = Duration::from_secs(15);

/// What the log says when a client is done without.
const GIVEN_UP: &str = "did not close in time";

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_connection_is_said_before_its_client_has_closed_and_one_that_never_does_is_left() {
    let whatsapp = Simulator::start(Options::default()).await.unwrap();
    let directory = tempfile::tempdir().unwrap();
    let installation = Installation::new(directory.path(), None, &whatsapp);
    let daemon = installation.try_start(&[(HOLD_AT, "session.close")]).unwrap();
    let code = daemon.code("sales").await.unwrap();
    let phone = whatsapp.phone(ALICE).unwrap();
    phone.scan(&code).await.unwrap();
    daemon.paired("sales").await.unwrap();

    let begun = Instant::now();
    phone.fault(Fault::Drop, Lasting::Once).await;
    let lost = daemon
        .watch("sales", "the loss", |seen| (seen["isConnected"] == false).then(|| seen.clone()))
        .await
        .unwrap();
    let took = begun.elapsed();
    assert!(took < CLOSE / 3, "it took {took:?}");
    // However slow the machine is: it has not been given up by then.
    assert!(!installation.log().contains(GIVEN_UP), "{}", installation.log());
    assert_eq!(lost["reconnecting"], true, "{lost}");
    assert_eq!(lost["lastDisconnect"]["reason"], "connection_lost", "{lost}");

    // Its device is opened again when it has been given up, and not before.
    loop {
        let logins = phone.logins().len();
        if installation.log().contains(GIVEN_UP) {
            break;
        }
        assert_eq!(logins, 1, "its device was opened before");
        assert!(begun.elapsed() < DEADLINE, "{}", installation.log());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    daemon.connected("sales").await.unwrap();
    let took = begun.elapsed();
    assert!(took >= CLOSE && took < CLOSE * 2, "it took {took:?}");
    assert_eq!(phone.logins().len(), 2);
    let violations = whatsapp.violations();
    assert!(violations.is_empty(), "protocol errors: {violations:#?}");
    drop(daemon);
    whatsapp.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_closes_a_client_is_said_before_it_has_closed() {
    for kind in [Kind::Sqlite, Kind::Postgres] {
        database::on(kind, close_all).await;
    }
}

async fn close_all(database: &Database) {
    let whatsapp = Simulator::start(Options::default()).await.unwrap();
    let bob = whatsapp.contact(BOB).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let url = (database.kind == Kind::Postgres).then_some(database.url.as_str());
    let installation = Installation::new(directory.path(), url, &whatsapp);
    let daemon = installation.try_start(&[(HOLD_AT, "session.close")]).unwrap();
    let session = "/api/whatsapp/session";
    let asked = [
        ("stopped", Method::POST, "/stop", "session_not_connected", "stopped"),
        ("unlinked", Method::POST, "/logout", "session_not_connected", "logged_out_here"),
        ("erased", Method::DELETE, "", "session_not_connected", "stopped"),
        ("restarted", Method::POST, "/restart", "connecting", ""),
    ];
    let mut phones = Vec::new();
    for (n, (name, ..)) in asked.iter().enumerate() {
        let code = daemon.code(name).await.unwrap();
        let phone = whatsapp.phone(&number(n)).unwrap();
        phone.scan(&code).await.unwrap();
        daemon.paired(name).await.unwrap();
        phones.push(phone);
    }

    let begun = Instant::now();
    let answers = join_all(asked.iter().map(async |(name, method, what, ..)| {
        let path = format!("{session}/{name}{what}");
        daemon.ask(method.clone(), &path, Some(json!({}))).await.expect("the daemon lives")
    }));
    let said = async {
        for (name, _, _, status, reason) in &asked {
            let look = |seen: &Value| (seen["isConnected"] == false).then(|| seen.clone());
            let seen = daemon.watch(name, "its end", look).await.unwrap();
            assert_eq!(seen["status"], *status, "{name}: {seen}");
            let last = seen["lastDisconnect"]["reason"].as_str().unwrap_or_default();
            assert_eq!(last, *reason, "{name}: {seen}");
            let (refused, body) = send(&daemon, name, false).await;
            assert_eq!(refused, StatusCode::CONFLICT, "{name}: {body}");
            assert_eq!(body["code"], "SESSION_NOT_CONNECTED", "{name}: {body}");
        }
        // What may wait is taken, and so is what comes.
        let (taken, body) = send(&daemon, "restarted", true).await;
        assert!(taken.is_success(), "{body}");
        assert_eq!(body["data"]["status"], "queued", "{body}");
        // A client that is abandoned has not closed its socket itself.
        phones[3].fault(Fault::Drop, Lasting::Once).await;
        bob.send_text(&number(3), "to whom it may concern").await.unwrap();
        begun.elapsed()
    };
    let (answers, took) = tokio::join!(answers, said);
    assert!(took < CLOSE / 2, "it took {took:?}");
    assert!(begun.elapsed() >= CLOSE, "they had not closed: {:?}", begun.elapsed());
    for (status, body) in answers {
        assert_eq!(status, StatusCode::OK, "{body}");
    }

    daemon.connected("restarted").await.unwrap();
    phones[3].wait_for_sent(|sent| sent.text.as_deref() == Some("for later")).await.unwrap();
    bob.wait_for_received(|sent| sent.text.as_deref() == Some("for later")).await.unwrap();
    let came = async {
        loop {
            let messages = daemon.messages("restarted").await;
            let came = messages.iter().filter(|it| it["body"] == "to whom it may concern").count();
            if came > 0 {
                return came;
            }
        }
    };
    assert_eq!(tokio::time::timeout(DEADLINE, came).await.unwrap(), 1);
    assert_eq!(phones[3].logins().len(), 2);
    assert!(phones[1].devices().is_empty(), "it was unlinked");
    assert!(phones[2].devices().is_empty(), "it was unlinked");
    let violations = whatsapp.violations();
    assert!(violations.is_empty(), "protocol errors: {violations:#?}");
    drop(daemon);
    whatsapp.stop().await;
}

/// Sends a text; `queue`: when the session is connected again.
async fn send(daemon: &Process, session: &str, queue: bool) -> (StatusCode, Value) {
    let text = if queue { "for later" } else { "too late" };
    let path = format!("/api/whatsapp/session/{session}/messages");
    daemon.post(&path, json!({ "to": BOB, "text": text, "queue": queue })).await
}
