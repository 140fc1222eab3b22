//! Many clients at once.

use std::time::Instant;

use futures_util::future::join_all;

use crate::world::{ALICE, World};

/// Enough to show that nothing is serialised by mistake, and quick enough for every run.
const CLIENTS: usize = 30;
const MESSAGES: usize = 50;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_accounts_have_contacts_of_their_own() {
    let world = World::start().await;
    let phones: Vec<_> =
        (0..CLIENTS).map(|n| world.sim.phone(&format!("1556{n:07}")).unwrap()).collect();
    let contacts: Vec<_> =
        (0..CLIENTS).map(|n| world.sim.contact(&format!("1557{n:07}")).unwrap()).collect();
    let clients = join_all(phones.iter().map(|phone| world.linked_to(phone))).await;
    assert_eq!(world.sim.info().online, CLIENTS as u64);
    assert_eq!(world.sim.logins(), CLIENTS, "each linked once and logged in once");

    let (before, start) = (world.sim.info(), Instant::now());
    let sending = phones.iter().zip(&contacts).map(|(phone, contact)| async {
        contact.send_many(phone.number(), "bulk", MESSAGES).await.unwrap();
        phone.wait_for_receipts(MESSAGES).await.unwrap();
    });
    join_all(sending).await;
    let (after, messages) = (world.sim.info(), (CLIENTS * MESSAGES) as u64);
    println!(
        "{messages} messages in {:?}, {} µs of the simulator's CPU each",
        start.elapsed(),
        (after.cpu_nanos - before.cpu_nanos) / messages / 1000,
    );
    assert_eq!(after.messages_out - before.messages_out, messages);

    let answers = clients.iter().zip(&contacts).map(|(client, contact)| async {
        let id = client.send(contact.number(), "thanks").await;
        contact.wait_for_received(|it| it.id == id).await.unwrap();
    });
    join_all(answers).await;
    join_all(clients.into_iter().map(crate::Client::shutdown)).await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_held_back_comes_live_and_in_order() {
    let world = World::start().await;
    let client = world.linked().await;
    world.alice.wait_confirmed().await.unwrap();
    world.sim.hold();
    world.bob.send_many(ALICE, "held", 5).await.unwrap();
    assert_eq!(world.alice.unacknowledged(), 5);
    assert!(client.texts().is_empty());
    world.sim.release();
    client.text("held 4").await;
    let expected: Vec<String> = (0..5).map(|n| format!("held {n}")).collect();
    assert_eq!(client.texts(), expected);
    client.shutdown().await;
    world.end().await;
}
