//! What a daemon has in hand when it is told to stop is there when it has been started again.

use wagate_simulator::{Options, Simulator};

use crate::{
    crash_wire::{all_there, connect, logged},
    database::on_each,
    process::{Installation, SLOW_AT},
    world::{ALICE, BOB},
};

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_is_read_and_not_handed_over_when_the_daemon_stops_is_not_lost() {
    on_each(async |database| {
        in_hand_at_a_stop(database.server_url()).await;
    })
    .await;
}

/// A message is decrypted and, before anybody has it, the daemon is told to stop: its ratchet is written.
async fn in_hand_at_a_stop(database: Option<&str>) {
    let whatsapp = Simulator::start(Options::default()).await.unwrap();
    let directory = tempfile::tempdir().unwrap();
    let installation = Installation::new(directory.path(), database, &whatsapp);
    let bob = whatsapp.contact(BOB).unwrap();

    let daemon = installation.start();
    let phone = connect(&daemon, &whatsapp).await;
    // He has a Signal session with us, as in the middle of its life.
    let mut written = vec![bob.send_text(ALICE, "first").await.unwrap()];
    all_there(&daemon, &written).await;
    phone.wait_confirmed().await.unwrap();
    daemon.terminate().await;

    // The first is the library's own, which tries whether a message can be kept at all.
    let daemon = installation.try_start(&[(SLOW_AT, "inbound.opened:2")]).unwrap();
    daemon.connected("sales").await.unwrap();
    written.push(bob.send_text(ALICE, "in hand").await.unwrap());
    let slow = "Slow at inbound.opened";
    logged(&installation, slow, |log| log.contains(slow)).await;
    daemon.terminate().await;

    let daemon = installation.start();
    daemon.connected("sales").await.unwrap();
    written.push(bob.send_text(ALICE, "after that").await.unwrap());
    phone.wait_confirmed().await.unwrap();
    all_there(&daemon, &written).await;
    daemon.terminate().await;
    assert!(whatsapp.violations().is_empty(), "{:?}", whatsapp.violations());
    whatsapp.stop().await;
}
