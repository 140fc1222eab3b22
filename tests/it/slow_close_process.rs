//! What has happened is said before what is left of it is put away.

use std::time::{Duration, Instant};

use wagate_simulator::{Fault, Lasting, Options, Simulator};

use crate::{
    process::{HOLD_AT, Installation},
    world::ALICE,
};

/// A client that does not close is waited for, for fifteen seconds; then it is done without.
const CLOSE: Duration = Duration::from_secs(15);

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
    assert_eq!(lost["reconnecting"], true, "{lost}");
    assert_eq!(lost["lastDisconnect"]["reason"], "connection_lost", "{lost}");

    // Its device is opened again when it has been given up, and not before.
    daemon.connected("sales").await.unwrap();
    let took = begun.elapsed();
    assert!(took >= CLOSE && took < CLOSE * 2, "it took {took:?}");
    assert_eq!(phone.logins().len(), 2);
    let violations = whatsapp.violations();
    assert!(violations.is_empty(), "protocol errors: {violations:#?}");
    drop(daemon);
    whatsapp.stop().await;
}
