//! Phone numbers and LIDs, and LIDs that become known late.

use wagate_simulator::{Addressing, Options, ReceiptKind};

use crate::world::{ALICE, BOB, World};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_contact_that_writes_by_lid_is_answered() {
    let world = World::start().await;
    world.bob.set_addressing(Addressing::Lid);
    let client = world.linked().await;
    let id = world.bob.send_text(ALICE, "from a LID").await.unwrap();
    let (_, sender) = client.text("from a LID").await;
    assert_eq!((sender.is_lid(), sender.user.as_str()), (true, world.bob.lid()));
    world.bob.wait_for_receipt(&id, ReceiptKind::Delivered).await.unwrap();

    for to in [format!("{}@lid", world.bob.lid()), BOB.to_owned()] {
        let id = client.send(&to, "an answer").await;
        world.bob.wait_for_received(|it| it.id == id).await.unwrap();
    }
    client.shutdown().await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_contact_whose_lid_becomes_known_late_stays_the_same() {
    let world = World::start().await;
    world.bob.set_lid_known(false);
    let client = world.linked().await;
    let id = client.send(BOB, "to a number").await;
    world.bob.wait_for_received(|it| it.id == id).await.unwrap();
    world.bob.send_text(ALICE, "from a number").await.unwrap();
    client.text("from a number").await;

    world.bob.set_lid_known(true);
    world.bob.set_addressing(Addressing::Lid);
    let id = world.bob.send_text(ALICE, "from a LID now").await.unwrap();
    client.text("from a LID now").await;
    world.bob.wait_for_receipt(&id, ReceiptKind::Delivered).await.unwrap();
    let id = client.send(BOB, "to the same").await;
    world.bob.wait_for_received(|it| it.id == id).await.unwrap();
    client.shutdown().await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_account_without_a_lid_gets_one_at_a_later_login() {
    let world = World::start().await;
    world.alice.set_lid_known(false);
    let client = world.linked().await;
    let id = client.send(BOB, "without").await;
    world.bob.wait_for_received(|it| it.id == id).await.unwrap();

    world.alice.set_lid_known(true);
    let client = world.restarted(client).await;
    client.connected(1).await;
    let id = client.send(BOB, "with").await;
    world.bob.wait_for_received(|it| it.id == id).await.unwrap();
    client.shutdown().await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_migrated_account_writes_to_lids() {
    let world = World::with(Options { lid_migrated: true, ..Options::default() }).await;
    let client = world.linked().await;
    world.bob.send_text(ALICE, "hello").await.unwrap();
    client.text("hello").await;
    let id = client.send(BOB, "an answer").await;
    let received = world.bob.wait_for_received(|it| it.id == id).await.unwrap();
    assert!(received.chat.is_lid(), "{}", received.chat);
    client.shutdown().await;
    world.end().await;
}
