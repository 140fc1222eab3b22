//! What a message is encrypted with is on disk before anybody has the message.

use std::time::Duration;

use serde_json::json;
use wagate_simulator::{Options, Simulator};

use crate::{
    crash_wire::{all_there, connect, logged},
    database::on_each,
    process::{BLOCK_AT, Installation, aborted, was_killed},
    world::{ALICE, BOB},
};

/// Much longer than a frame takes that waits for nobody.
const LEAVES: Duration = Duration::from_secs(2);

#[tokio::test(flavor = "multi_thread")]
async fn no_message_leaves_before_the_ratchet_that_it_was_encrypted_with_is_on_disk() {
    on_each(async |database| {
        before_the_ratchet(database.server_url()).await;
    })
    .await;
}

async fn before_the_ratchet(database: Option<&str>) {
    let whatsapp = Simulator::start(Options::default()).await.unwrap();
    let directory = tempfile::tempdir().unwrap();
    let installation = Installation::new(directory.path(), database, &whatsapp);
    let bob = whatsapp.contact(BOB).unwrap();

    let daemon = installation.start();
    let phone = connect(&daemon, &whatsapp).await;
    // Both have a Signal session with the other, as they have in the middle of their lives.
    let written = [bob.send_text(ALICE, "first").await.unwrap()];
    all_there(&daemon, &written).await;
    phone.wait_confirmed().await.unwrap();
    daemon.terminate().await;

    // Whoever writes ratchets comes no further than to the write.
    let faults = [(BLOCK_AT, "signal.before_flush:1"), ("TOKIO_WORKER_THREADS", "6")];
    let daemon = installation.try_start(&faults).unwrap();
    daemon.connected("sales").await.unwrap();
    let body = json!({ "to": BOB, "text": "answer", "queue": true });
    let sending = daemon.post("/api/whatsapp/session/sales/messages", body);
    let blocked = "Blocked at signal.before_flush";
    tokio::select! {
        // It may be accepted before it is sent.
        () = async { sending.await; std::future::pending().await } => {}
        () = logged(&installation, blocked, |log| log.contains(blocked)) => {}
    }
    let ended = daemon.end_within(LEAVES).await;
    assert!(was_killed(ended) && !aborted(ended), "{ended}");
    assert!(bob.received().is_empty(), "{:?}", bob.received());

    let daemon = installation.start();
    daemon.connected("sales").await.unwrap();
    bob.wait_for_received(|it| it.text.as_deref() == Some("answer")).await.unwrap();
    assert_eq!(bob.received().len(), 1);
    daemon.terminate().await;
    assert!(whatsapp.violations().is_empty(), "{:?}", whatsapp.violations());
    whatsapp.stop().await;
}
