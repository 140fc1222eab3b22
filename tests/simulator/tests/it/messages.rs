//! Messages and receipts, both ways.

use wagate_simulator::{MessageKind, ReceiptKind, ReceiptPolicy};
use whatsapp_rust::wacore::types::events::Event;
use whatsapp_rust::wacore::types::presence::ReceiptType;

use crate::client::Client;
use crate::world::{ALICE, BOB, World};

async fn receipt(client: &Client, id: &str, kind: ReceiptType) {
    client
        .wait(&format!("{kind:?} of {id}"), |event| match event {
            Event::Receipt(it) => {
                (it.r#type == kind && it.message_ids.iter().any(|it| it == id)).then_some(())
            }
            _ => None,
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_text_is_decrypted_by_its_recipient_and_receipted() {
    let world = World::start().await;
    world.bob.set_receipts(ReceiptPolicy::Read);
    let client = world.linked().await;

    let id = client.send(BOB, "hello Bob").await;
    let sent = world.alice.wait_for_sent(|message| message.id == id).await.unwrap();
    assert_eq!(sent.kind, MessageKind::Text);
    assert_eq!(sent.text.as_deref(), Some("hello Bob"));
    let received = world.bob.wait_for_received(|message| message.id == id).await.unwrap();
    assert_eq!(received.decrypted_by, [BOB]);
    client
        .wait("the server's ack", |event| match event {
            Event::ServerAck(ack) => (ack.id == id && ack.error.is_none()).then_some(()),
            _ => None,
        })
        .await;
    receipt(&client, &id, ReceiptType::Delivered).await;
    receipt(&client, &id, ReceiptType::Read).await;

    world.bob.receipt(ALICE, &[id.clone()], &ReceiptKind::Played).unwrap();
    receipt(&client, &id, ReceiptType::Played).await;
    client.shutdown().await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_contacts_text_arrives_and_is_receipted() {
    let world = World::start().await;
    let client = world.linked().await;
    let id = world.bob.send_text(ALICE, "hello Alice").await.unwrap();
    assert_eq!(client.text("hello Alice").await.0, id);
    world.bob.wait_for_receipt(&id, ReceiptKind::Delivered).await.unwrap();
    assert_eq!(world.alice.unacknowledged(), 0);
    client.shutdown().await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_came_while_the_client_was_away_waits_for_it() {
    let world = World::start().await;
    let client = world.linked().await;
    let store = client.shutdown().await;
    world.alice.wait_offline().await.unwrap();
    let ids = world.bob.send_many(ALICE, "while you were away", 20).await.unwrap();
    assert_eq!(world.alice.unacknowledged(), 20);

    let client = Client::with_store(&world.sim.url(), store).await;
    client.text("while you were away 19").await;
    client.connected(1).await;
    for id in &ids {
        world.bob.wait_for_receipt(id, ReceiptKind::Delivered).await.unwrap();
    }
    assert_eq!(client.texts().len(), 20);
    assert_eq!(world.alice.unacknowledged(), 0);
    client.shutdown().await;
    world.end().await;
}
