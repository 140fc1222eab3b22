//! Groups: sender keys from the client and from contacts.

use wagate_simulator::{ReceiptKind, ReceiptPolicy};
use whatsapp_rust::wacore::types::events::Event;
use whatsapp_rust::wacore::types::presence::ReceiptType;

use crate::world::{ALICE, BOB, CAROL, World};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_text_is_decrypted_by_every_member() {
    let world = World::start().await;
    let carol = world.sim.contact(CAROL).unwrap();
    carol.set_receipts(ReceiptPolicy::Read);
    let group = world.sim.group("Three", &[ALICE, BOB, CAROL]).unwrap();
    let client = world.linked().await;

    let first = client.send(&group.jid(), "hello all").await;
    let sent = |id: String| {
        world.alice.wait_for_sent(move |it| {
            it.id == id && it.decrypted_by.len() == 2 && it.copied_to_phone
        })
    };
    let sent_first = sent(first.clone()).await.unwrap();
    assert_eq!(sent_first.text.as_deref(), Some("hello all"));
    let second = client.send(&group.jid(), "and again").await;
    sent(second.clone()).await.unwrap();

    let reader = client
        .wait("Carol has read it", |event| match event {
            Event::Receipt(it) => {
                let read = it.r#type == ReceiptType::Read;
                (read && it.message_ids.contains(&second)).then(|| it.source.sender.clone())
            }
            _ => None,
        })
        .await;
    assert_eq!(reader.user, carol.lid());
    client.shutdown().await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn contacts_write_to_a_group_under_their_own_chains() {
    let world = World::start().await;
    let carol = world.sim.contact(CAROL).unwrap();
    let group = world.sim.group("Three", &[ALICE, BOB, CAROL]).unwrap();
    let client = world.linked().await;

    for round in 0..3 {
        let id = world.bob.send_group(&group.jid(), &format!("Bob {round}")).await.unwrap();
        let (seen, sender) = client.text(&format!("Bob {round}")).await;
        assert_eq!((seen, sender.user.as_str()), (id.clone(), world.bob.lid()));
        world.bob.wait_for_receipt(&id, ReceiptKind::Delivered).await.unwrap();
    }
    carol.send_group(&group.jid(), "Carol").await.unwrap();
    client.text("Carol").await;
    carol.wait_for_received(|it| it.text.as_deref() == Some("Bob 2")).await.unwrap();
    client.shutdown().await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_who_joins_late_reads_what_comes_after() {
    let world = World::start().await;
    let carol = world.sim.contact(CAROL).unwrap();
    let group = world.sim.group("Two", &[ALICE, BOB]).unwrap();
    let client = world.linked().await;
    let id = client.send(&group.jid(), "between us").await;
    world.bob.wait_for_received(|it| it.id == id).await.unwrap();

    group.add(CAROL).unwrap();
    client.wait("the join", |event| matches!(event, Event::GroupUpdate(_)).then_some(())).await;
    let id = client.send(&group.jid(), "welcome").await;
    carol.wait_for_received(|it| it.id == id).await.unwrap();
    assert_eq!(carol.received().len(), 1);
    assert_eq!(group.members().len(), 3);
    client.shutdown().await;
    world.end().await;
}
