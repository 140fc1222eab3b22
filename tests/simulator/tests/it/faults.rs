//! Faults on demand.

use std::time::{Duration, Instant};

use wagate_simulator::{Error, Fault, Lasting, Options, Scope, ViolationKind};
use whatsapp_rust::pair_code::PairCodeOptions;
use whatsapp_rust::wacore::types::events::Event;

use crate::Client;
use crate::world::{ALICE, BOB, World};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dropped_client_comes_back_and_loses_nothing() {
    let world = World::start().await;
    let client = world.linked().await;
    world.alice.fault(Fault::Drop, Lasting::Once).await;
    world.alice.wait_offline().await.unwrap();
    world.bob.send_text(ALICE, "in between").await.unwrap();
    world.alice.wait_logged_in(2).await.unwrap();
    client.text("in between").await;
    client.shutdown().await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_black_hole_swallows_a_connection_until_it_is_dialled_again() {
    let world = World::start().await;
    let client = world.linked().await;
    world.alice.fault(Fault::BlackHole, Lasting::Once).await;
    world.bob.send_text(ALICE, "into the hole").await.unwrap();
    // The client's own watchdog takes long; a test may be the watchdog.
    client.inner().reconnect().await;
    world.alice.wait_logged_in(2).await.unwrap();
    client.text("into the hole").await;
    client.shutdown().await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_server_is_noticed_and_the_next_dial_succeeds() {
    let world = World::start().await;
    world.sim.fault(Scope::Everyone, Fault::SilentHandshake, Lasting::Once).await;
    let client = Client::fresh(&world.sim.url()).await;
    // The client gives up on the handshake by its own clock.
    let qr = client.qr().await;
    world.alice.scan(&qr).await.unwrap();
    client.connected(1).await;
    assert!(world.sim.info().connections >= 3);
    client.shutdown().await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_server_delays_every_stanza() {
    let world = World::start().await;
    let client = world.linked().await;
    world.alice.fault(Fault::Slow { millis: 200 }, Lasting::UntilCleared).await;
    let before = Instant::now();
    world.bob.send_text(ALICE, "slowly").await.unwrap();
    client.text("slowly").await;
    assert!(before.elapsed() >= Duration::from_millis(200));
    world.sim.clear_faults(None);
    client.shutdown().await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replaced_client_stops() {
    let world = World::start().await;
    let client = world.linked().await;
    world.alice.fault(Fault::Replaced, Lasting::Once).await;
    let replaced = |event: &Event| matches!(event, Event::StreamReplaced(_)).then_some(());
    client.wait("StreamReplaced", replaced).await;
    client.shutdown().await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_clients_of_one_device_are_found_out() {
    let options = Options { replace_grace: Duration::from_millis(50), ..Options::default() };
    let world = World::with(options).await;
    let first = world.linked().await;
    let second = Client::with_store(&world.sim.url(), first.store.clone()).await;
    let replaced = |event: &Event| matches!(event, Event::StreamReplaced(_)).then_some(());
    first.wait("StreamReplaced", replaced).await;
    second.connected(1).await;
    assert_eq!(world.sim.online_devices().len(), 1);
    assert_eq!(world.sim.logins(), 2);
    first.shutdown().await;
    second.shutdown().await;
    world.end_with(&[ViolationKind::LoggedInTwice]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_removed_device_is_told_and_stays_out() {
    let world = World::start().await;
    let client = world.linked().await;
    world.alice.fault(Fault::Removed, Lasting::Once).await;
    let out = |event: &Event| matches!(event, Event::LoggedOut(_)).then_some(());
    client.wait("LoggedOut", out).await;
    assert!(world.alice.devices().is_empty());
    client.shutdown().await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_login_says_so() {
    let world = World::start().await;
    let client = world.linked().await;
    let store = client.shutdown().await;
    world.alice.wait_offline().await.unwrap();
    world.alice.fault(Fault::Failure { reason: 401 }, Lasting::Once).await;
    let client = Client::with_store(&world.sim.url(), store).await;
    let out = |event: &Event| match event {
        Event::LoggedOut(out) => Some(out.on_connect),
        _ => None,
    };
    assert!(client.wait("LoggedOut", out).await);
    client.shutdown().await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_code_may_be_refused_and_may_be_wrong() {
    let world = World::start().await;
    let client = Client::fresh(&world.sim.url()).await;
    client.qr().await;
    let options = || PairCodeOptions { phone_number: ALICE.to_owned(), ..Default::default() };
    let refuse = Fault::RefusePairingCode { code: 429 };
    world.sim.fault(Scope::Everyone, refuse, Lasting::Once).await;
    client.inner().pair_with_code(options()).await.unwrap_err();

    let code = client.inner().pair_with_code(options()).await.unwrap();
    let wrong = if code.starts_with('1') { "2AAAAAAA" } else { "1AAAAAAA" };
    let entered = world.alice.enter_code(wrong).await;
    assert!(matches!(entered, Err(Error::WrongCode)), "{entered:?}");
    client.shutdown().await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn duplicates_and_overtaking_leave_each_message_once() {
    let world = World::start().await;
    let client = world.linked().await;
    world.bob.send_text(ALICE, "zero").await.unwrap();
    client.text("zero").await;
    world.alice.fault(Fault::DuplicateDelivery, Lasting::Once).await;
    world.bob.send_text(ALICE, "twice").await.unwrap();
    client.text("twice").await;
    world.alice.fault(Fault::ReorderDelivery, Lasting::Once).await;
    world.bob.send_text(ALICE, "second").await.unwrap();
    world.bob.send_text(ALICE, "first").await.unwrap();
    client.text("second").await;
    client.text("first").await;
    world.bob.send_text(ALICE, "last").await.unwrap();
    client.text("last").await;
    assert_eq!(client.texts(), ["zero", "twice", "first", "second", "last"]);
    // Nothing comes after this one, but the end of the fault.
    world.alice.fault(Fault::ReorderDelivery, Lasting::Once).await;
    world.bob.send_text(ALICE, "alone").await.unwrap();
    world.sim.clear_faults(None);
    client.text("alone").await;
    client.shutdown().await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_may_be_refused_and_its_ack_lost() {
    let world = World::start().await;
    let client = world.linked().await;
    world.alice.fault(Fault::ErrorAck { code: 463 }, Lasting::Once).await;
    let id = client.send(BOB, "refused").await;
    assert!(client.acknowledged(&id).await.is_some());

    world.alice.fault(Fault::LoseAck, Lasting::Once).await;
    let lost = client.send(BOB, "never acknowledged").await;
    let next = client.send(BOB, "acknowledged").await;
    assert_eq!(client.acknowledged(&next).await, None);
    world.bob.wait_for_received(|it| it.id == lost).await.unwrap();
    assert!(world.bob.received().iter().all(|it| it.id != id));
    assert_eq!(client.count(|it| matches!(it, Event::ServerAck(ack) if ack.id == lost)), 0);
    client.shutdown().await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_away_keeps_its_accounts() {
    let world = World::start().await;
    let client = world.linked().await;
    world.sim.close().await;
    world.alice.wait_offline().await.unwrap();
    world.bob.send_text(ALICE, "meanwhile").await.unwrap();
    world.sim.reopen().await.unwrap();
    world.alice.wait_logged_in(2).await.unwrap();
    client.text("meanwhile").await;
    client.shutdown().await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_to_nobody_is_noticed() {
    let world = World::start().await;
    let client = world.linked().await;
    // The client asks for the devices, finds none, and sends a message nobody can read.
    let id = client.send("15559998877", "anyone?").await;
    assert!(client.acknowledged(&id).await.is_some());
    client.shutdown().await;
    world.end_with(&[ViolationKind::UnknownUser]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wait_in_vain_says_what_was_seen() {
    let options = Options { deadline: Duration::from_millis(50), ..Options::default() };
    let world = World::with(options).await;
    let error = world.alice.wait_logged_in(1).await.unwrap_err();
    assert!(matches!(error, Error::Deadline { .. }));
    assert!(error.to_string().contains("0 logins"), "{error}");
    world.end().await;
}
