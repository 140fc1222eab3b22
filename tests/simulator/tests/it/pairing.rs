//! Linking, logging in, and being unlinked.

use wagate_simulator::{Error, NoisePattern};
use whatsapp_rust::pair_code::PairCodeOptions;
use whatsapp_rust::wacore::types::events::Event;

use crate::world::ALICE;
use crate::{Client, World};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_scanned_client_logs_in_once_and_knows_its_name() {
    let world = World::start().await;
    world.alice.set_name("Alice of the Simulator");
    let client = world.linked().await;

    client.wait("PairSuccess", |event| matches!(event, Event::PairSuccess(_)).then_some(())).await;
    let logins = world.alice.logins();
    assert_eq!(logins.len(), 1, "{logins:?}");
    // The chain is only kept once registered, so the first login knows no server key yet.
    assert_eq!(logins[0].pattern, NoisePattern::Xx);
    // It uploads its keys once it is logged in: all of them at once.
    crate::client::until("its keys", || world.alice.devices().iter().any(|it| it.keys > 0)).await;
    let devices = world.alice.devices();
    assert_eq!(devices.len(), 1);
    assert!(devices[0].online && devices[0].keys >= 800, "{devices:?}");
    client
        .wait("its push name", |event| matches!(event, Event::SelfPushNameUpdated(_)).then_some(()))
        .await;

    client.shutdown().await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_code_typed_into_the_phone_links_as_well() {
    let world = World::start().await;
    let client = Client::fresh(&world.sim.url()).await;
    client.qr().await;
    let options = PairCodeOptions { phone_number: ALICE.to_owned(), ..Default::default() };
    let code = client.inner().pair_with_code(options).await.unwrap();

    let device = world.alice.enter_code(&code).await.unwrap();
    assert_eq!(device, 1);
    client.connected(1).await;
    client.shutdown().await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_code_nobody_shows_is_refused() {
    let world = World::start().await;
    assert!(matches!(world.alice.scan("nonsense").await, Err(Error::BadQr(_))));
    assert!(matches!(world.alice.enter_code("ABCD1234").await, Err(Error::NoCode(_))));

    let client = Client::fresh(&world.sim.url()).await;
    let qr = client.qr().await;
    let other = Client::fresh(&world.sim.url()).await;
    let foreign = other.qr().await;
    let (reference, _) = qr.split_once(',').unwrap();
    let (_, keys) = foreign.split_once(',').unwrap();
    let mixed = format!("{reference},{keys}");
    assert!(matches!(world.alice.scan(&mixed).await, Err(Error::ForeignQr)));

    client.shutdown().await;
    world.sim.phone("15550009999").unwrap();
    other.shutdown().await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restarted_client_resumes_with_ik_and_shows_its_route() {
    let world = World::start().await;
    let client = world.linked().await;
    let client = world.restarted(client).await;
    client.connected(1).await;
    let client = world.restarted(client).await;
    client.connected(1).await;

    let logins = world.alice.logins();
    assert_eq!(logins.len(), 3);
    assert_eq!(logins[2].pattern, NoisePattern::Ik);
    assert!(logins[2].routed);
    client.shutdown().await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_with_an_old_server_key_falls_back() {
    let world = World::start().await;
    let client = world.linked().await;
    let client = world.restarted(client).await;
    client.connected(1).await;
    let store = client.shutdown().await;
    world.alice.wait_offline().await.unwrap();

    world.sim.rotate_server_key();
    let client = Client::with_store(&world.sim.url(), store).await;
    client.connected(1).await;
    assert_eq!(world.alice.logins().last().unwrap().pattern, NoisePattern::XxFallback);
    client.shutdown().await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unlinked_client_is_told_and_refused_afterwards() {
    let world = World::start().await;
    let client = world.linked().await;
    world.alice.unlink(1).unwrap();
    client.wait("LoggedOut", |event| matches!(event, Event::LoggedOut(_)).then_some(())).await;
    assert!(matches!(world.alice.unlink(1), Err(Error::UnknownDevice(_))));

    let store = client.shutdown().await;
    let client = Client::with_store(&world.sim.url(), store).await;
    let reason = client
        .wait("LoggedOut on connect", |event| match event {
            Event::LoggedOut(out) => Some(out.on_connect),
            _ => None,
        })
        .await;
    assert!(reason);
    client.shutdown().await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_logs_out_is_unlinked() {
    let world = World::start().await;
    let client = world.linked().await;
    client.inner().logout().await;
    world.alice.wait_offline().await.unwrap();
    assert!(world.alice.devices().is_empty());
    client.shutdown().await;
    world.end().await;
}
