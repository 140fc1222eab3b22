//! A second signal is quick, whatever a stop is waiting for.

use std::time::{Duration, Instant};

use wagate_simulator::{Options, Simulator};

use crate::{
    process::{HOLD_AT, Installation, Process},
    world::{ALICE, DEADLINE},
};

/// A process that is told again leaves at once; a stop that is held up takes ten seconds and more.
const QUICK: Duration = Duration::from_secs(5);

/// Starts a daemon that comes no further than `place` when it stops, with a session that is connected, and
/// tells it to stop: once, and when it is there, again.
async fn told_twice(place: &str) {
    let whatsapp = Simulator::start(Options::default()).await.unwrap();
    let directory = tempfile::tempdir().unwrap();
    let installation = Installation::new(directory.path(), None, &whatsapp);
    let daemon: Process = installation.try_start(&[(HOLD_AT, place)]).unwrap();
    let code = daemon.code("sales").await.unwrap();
    let phone = whatsapp.phone(ALICE).unwrap();
    phone.scan(&code).await.unwrap();
    daemon.paired("sales").await.unwrap();

    daemon.signal("-TERM");
    let held = format!("Held at {place}");
    let there = async {
        while !installation.log().contains(&held) {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(DEADLINE, there).await.expect("the stop comes there");
    daemon.signal("-TERM");
    let begun = Instant::now();
    let ended = daemon.end_within(DEADLINE).await;
    let took = begun.elapsed();
    assert_eq!(ended.code(), Some(1), "not in good order: {ended}");
    assert!(took < QUICK, "it took {took:?}");

    // What it left is whole: the next one goes on.
    let daemon = installation.start();
    daemon.connected("sales").await.unwrap();
    daemon.terminate().await;
    let violations = whatsapp.violations();
    assert!(violations.is_empty(), "protocol errors: {violations:#?}");
    whatsapp.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_signal_does_not_wait_for_a_session_that_does_not_close() {
    told_twice("session.close").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_signal_does_not_wait_for_a_database_that_does_not_close() {
    told_twice("store.close").await;
}
