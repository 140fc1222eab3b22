//! How much a process writes into its log: what happens on sessions, and not what is said in them.

use futures_util::future::join_all;
use reqwest::Method;
use serde_json::json;
use wagate::descriptors;
use wagate_simulator::{Fault, Lasting, Options, Simulator};

use crate::{
    process::Installation,
    world::{ALICE, BOB, DEADLINE},
};

const MESSAGES: usize = 100;

#[tokio::test(flavor = "multi_thread")]
async fn messages_add_nothing_to_the_log_however_many_they_are() {
    let whatsapp = Simulator::start(Options::default()).await.unwrap();
    let directory = tempfile::tempdir().unwrap();
    let installation = Installation::new(directory.path(), None, &whatsapp);
    let daemon = installation.start();
    let code = daemon.code("sales").await.unwrap();
    let phone = whatsapp.phone(ALICE).unwrap();
    phone.scan(&code).await.unwrap();
    daemon.paired("sales").await.unwrap();
    let bob = whatsapp.contact(BOB).unwrap();
    let exchange = async |count: usize| {
        bob.send_many(ALICE, "in", count).await.unwrap();
        let send = (0..count).map(async |n| {
            let body = json!({ "to": BOB, "text": format!("out {n}") });
            let sent = daemon.post("/api/whatsapp/session/sales/messages", body).await;
            assert!(sent.0.is_success(), "{}", sent.1);
        });
        join_all(send).await;
        phone.wait_confirmed().await.unwrap();
    };
    // What is said once of a session, or of a first message, is said by then.
    exchange(1).await;
    let before = installation.log();
    exchange(MESSAGES).await;
    let log = installation.log();
    let more: Vec<_> = log.lines().skip(before.lines().count()).collect();
    // A session may have something to say of itself now and then.
    assert!(more.len() < MESSAGES / 20, "{} lines: {more:#?}", more.len());
    daemon.terminate().await;
    whatsapp.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_request_has_one_line_and_the_start_says_how_many_sessions_there_is_room_for() {
    let whatsapp = Simulator::start(Options::default()).await.unwrap();
    let directory = tempfile::tempdir().unwrap();
    let installation = Installation::new(directory.path(), None, &whatsapp);
    let daemon = installation.start();
    let limit = descriptors::limit().expect("the tests have a limit");
    let room = descriptors::sessions_within(limit);
    let said = format!("{limit} descriptors are enough for about {room} sessions");
    assert!(installation.log().contains(&said), "{}", installation.log());
    let asked = [
        (Method::GET, "/", 200),
        (Method::GET, "/api/whatsapp/session/list-realtime", 200),
        (Method::GET, "/api/whatsapp/session/status/nobody", 404),
        (Method::POST, "/livez", 405),
        (Method::GET, "/nowhere", 404),
        // Asked by machines, all day long.
        (Method::GET, "/livez", 204),
        (Method::GET, "/readyz", 204),
    ];
    for (method, path, status) in &asked {
        for _ in 0..3 {
            let answer = daemon.request(method.clone(), path).send().await.unwrap();
            assert_eq!(answer.status(), *status, "{path}");
        }
    }
    daemon.terminate().await;
    let log = std::fs::read_to_string(directory.path().join("log")).unwrap();
    let answered = log.lines().filter(|line| line.contains("Answered")).count();
    assert_eq!(answered, 3 * 5, "{log}");
    whatsapp.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_configured_version_that_whatsapp_refuses_is_an_alarm_in_the_log() {
    let whatsapp = Simulator::start(Options::default()).await.unwrap();
    let directory = tempfile::tempdir().unwrap();
    let installation = Installation::new(directory.path(), None, &whatsapp);
    let daemon = installation.start();
    let code = daemon.code("sales").await.unwrap();
    let phone = whatsapp.phone(ALICE).unwrap();
    phone.scan(&code).await.unwrap();
    daemon.paired("sales").await.unwrap();
    let alarm = "WhatsApp refuses the version in the configuration (whatsapp.version)";
    assert!(!installation.log().contains(alarm));
    phone.fault(Fault::Failure { reason: 405 }, Lasting::Once).await;
    let said = async {
        while !installation.log().contains(alarm) {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(DEADLINE, said).await.expect("it is said");
    daemon.terminate().await;
    whatsapp.stop().await;
}
