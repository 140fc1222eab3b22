//! Retries in both directions.

use wagate_simulator::{Fault, Lasting, ReceiptKind};
use whatsapp_rust::wacore::types::events::Event;

use crate::world::{ALICE, BOB, World};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_contact_asks_again_and_decrypts_the_second_copy() {
    let world = World::start().await;
    let client = world.linked().await;
    let id = client.send(BOB, "clear").await;
    world.bob.wait_for_received(|it| it.id == id).await.unwrap();

    world.bob.fail_next(1);
    let id = client.send(BOB, "garbled at first").await;
    let sent = world.bob.wait_for_received(|it| it.id == id).await.unwrap();
    assert_eq!(sent.text.as_deref(), Some("garbled at first"));
    assert_eq!(sent.retries, 1);
    // The session is a new one and goes on.
    let id = client.send(BOB, "clear again").await;
    world.bob.wait_for_received(|it| it.id == id).await.unwrap();
    client.shutdown().await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_member_asks_again_and_decrypts_the_second_copy() {
    let world = World::start().await;
    let group = world.sim.group("Two", &[ALICE, BOB]).unwrap();
    let client = world.linked().await;
    // The client books who has its chain after sending; a retry that comes first would be undone.
    let id = client.send(&group.jid(), "clear").await;
    world.bob.wait_for_received(|it| it.id == id).await.unwrap();
    client.acknowledged(&id).await;

    world.bob.fail_next(1);
    let id = client.send(&group.jid(), "garbled at first").await;
    let sent = world.bob.wait_for_received(|it| it.id == id).await.unwrap();
    assert_eq!(sent.retries, 1);
    let id = client.send(&group.jid(), "clear again").await;
    world.bob.wait_for_received(|it| it.id == id).await.unwrap();
    client.shutdown().await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_cannot_read_gets_the_message_again() {
    let world = World::start().await;
    let client = world.linked().await;
    world.bob.send_text(ALICE, "first").await.unwrap();
    client.text("first").await;

    world.alice.fault(Fault::CorruptCiphertext, Lasting::Once).await;
    let id = world.bob.send_text(ALICE, "corrupted on the way").await.unwrap();
    client
        .wait("an undecryptable message", |event| {
            matches!(event, Event::UndecryptableMessage(_)).then_some(())
        })
        .await;
    world.alice.wait_for_receipt(&id, ReceiptKind::Retry).await.unwrap();
    assert_eq!(client.text("corrupted on the way").await.0, id);
    world.bob.wait_for_receipt(&id, ReceiptKind::Delivered).await.unwrap();
    client.shutdown().await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_corrupted_first_message_comes_again_as_well() {
    let world = World::start().await;
    let client = world.linked().await;
    world.alice.fault(Fault::CorruptCiphertext, Lasting::Once).await;
    let id = world.bob.send_text(ALICE, "opens the session").await.unwrap();
    world.alice.wait_for_receipt(&id, ReceiptKind::Retry).await.unwrap();
    assert_eq!(client.text("opens the session").await.0, id);
    client.shutdown().await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_corrupted_group_message_comes_again_as_well() {
    let world = World::start().await;
    let group = world.sim.group("Two", &[ALICE, BOB]).unwrap();
    let client = world.linked().await;
    world.bob.send_group(&group.jid(), "first").await.unwrap();
    client.text("first").await;
    world.alice.fault(Fault::CorruptCiphertext, Lasting::Once).await;
    let id = world.bob.send_group(&group.jid(), "corrupted on the way").await.unwrap();
    world.alice.wait_for_receipt(&id, ReceiptKind::Retry).await.unwrap();
    assert_eq!(client.text("corrupted on the way").await.0, id);
    world.bob.send_group(&group.jid(), "after").await.unwrap();
    client.text("after").await;
    client.shutdown().await;
    world.end().await;
}
