//! How much a process writes into its log: what happens on sessions, and not what is said in them.

use futures_util::future::join_all;
use serde_json::json;
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
