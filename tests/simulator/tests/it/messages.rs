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
    assert_eq!(client.acknowledged(&id).await, None);
    receipt(&client, &id, ReceiptType::Delivered).await;
    receipt(&client, &id, ReceiptType::Read).await;

    world.bob.receipt(ALICE, std::slice::from_ref(&id), &ReceiptKind::Played).unwrap();
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
    world.alice.wait_confirmed().await.unwrap();
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
    world.alice.wait_confirmed().await.unwrap();
    client.shutdown().await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reactions_edits_and_revokes_of_the_client_are_told_apart() {
    let world = World::start().await;
    let client = world.linked().await;
    let inner = client.inner();
    let bob = crate::client::jid(BOB);
    let id = client.send(BOB, "wrng").await;
    let kind = |kind: MessageKind| {
        let id = id.clone();
        world.bob.wait_for_received(move |it| it.kind == kind && it.target.as_deref() == Some(&id))
    };
    inner.edit_message(&bob, &id, wagate_simulator::text("wrong")).await.unwrap();
    assert_eq!(kind(MessageKind::Edit).await.unwrap().text.as_deref(), Some("wrong"));
    let key = waproto::whatsapp::MessageKey {
        remote_jid: Some(bob.to_string()),
        from_me: Some(true),
        id: Some(id.clone()),
        ..Default::default()
    };
    inner.send_reaction(bob.clone(), key, "👍").await.unwrap();
    assert_eq!(kind(MessageKind::Reaction).await.unwrap().text.as_deref(), Some("👍"));
    inner.revoke_message(bob, &id, whatsapp_rust::send::RevokeType::Sender).await.unwrap();
    kind(MessageKind::Revoke).await.unwrap();
    client.shutdown().await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reactions_edits_and_revokes_of_a_contact_arrive() {
    let world = World::start().await;
    let client = world.linked().await;
    let id = world.bob.send_text(ALICE, "wrng").await.unwrap();
    client.text("wrng").await;
    world.bob.edit(ALICE, &id, "wrong").await.unwrap();
    world.bob.react(ALICE, &id, "👎").await.unwrap();
    world.bob.revoke(ALICE, &id).await.unwrap();
    client
        .wait_all("an edit, a reaction and a revoke", |events| {
            let messages: Vec<_> = events
                .iter()
                .filter_map(|event| match &**event {
                    Event::Messages(batch) => Some(batch.iter().cloned().collect::<Vec<_>>()),
                    _ => None,
                })
                .flatten()
                .collect();
            let reacted = messages.iter().any(|it| it.message.reaction_message.is_set());
            let protocol =
                messages.iter().filter(|it| it.message.protocol_message.is_set()).count();
            (reacted && protocol >= 2).then_some(())
        })
        .await;
    client.shutdown().await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn typing_is_seen_in_both_directions() {
    let world = World::start().await;
    let client = world.linked().await;
    let bob = crate::client::jid(BOB);
    client.inner().chatstate().send_composing(&bob).await.unwrap();
    world.alice.wait_for_typing(|it| it.state == "composing").await.unwrap();
    client.inner().chatstate().send_recording(&bob).await.unwrap();
    world.alice.wait_for_typing(|it| it.state == "recording").await.unwrap();

    world.bob.typing(ALICE, wagate_simulator::TypingState::Composing).unwrap();
    let typing = |event: &Event| matches!(event, Event::ChatPresence(_)).then_some(());
    client.wait("typing", typing).await;
    client.shutdown().await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn read_receipts_of_the_client_reach_the_contact() {
    let world = World::start().await;
    let client = world.linked().await;
    let ids = world.bob.send_many(ALICE, "read me", 3).await.unwrap();
    client.text("read me 2").await;
    let bob = crate::client::jid(BOB);
    let list: Vec<&str> = ids.iter().map(String::as_str).collect();
    client.inner().mark_as_read(&bob, None, &list).await.unwrap();
    for id in &ids {
        world.bob.wait_for_receipt(id, ReceiptKind::Read).await.unwrap();
    }
    client.shutdown().await;
    world.end().await;
}
