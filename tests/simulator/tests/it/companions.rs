//! Several real clients: companions of one account, and accounts that write to each other.

use wagate_simulator::ReceiptKind;
use whatsapp_rust::wacore::types::events::Event;
use whatsapp_rust::wacore::types::presence::ReceiptType;

use crate::world::{ALICE, BOB, CAROL, World};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_real_clients_write_to_each_other() {
    let world = World::start().await;
    let carol = world.sim.phone(CAROL).unwrap();
    let alices = world.linked().await;
    let carols = world.linked_to(&carol).await;

    let id = alices.send(CAROL, "real to real").await;
    assert_eq!(carols.text("real to real").await.0, id);
    let delivered = |event: &Event| match event {
        Event::Receipt(it) => {
            (it.r#type == ReceiptType::Delivered && it.message_ids.contains(&id)).then_some(())
        }
        _ => None,
    };
    alices.wait("delivered", delivered).await;
    let answer = carols.send(ALICE, "and back").await;
    assert_eq!(alices.text("and back").await.0, answer);
    assert!(world.sim.info().relayed >= 2);
    alices.shutdown().await;
    carols.shutdown().await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn companions_of_one_account_see_each_others_messages() {
    let world = World::start().await;
    let first = world.linked().await;
    // The first knows its device list by now; the second must be announced.
    let id = first.send(BOB, "alone").await;
    world.bob.wait_for_received(|it| it.id == id).await.unwrap();
    let second = world.linked().await;
    first
        .wait("the new device", |event| matches!(event, Event::DeviceListUpdate(_)).then_some(()))
        .await;

    let id = first.send(BOB, "from the first").await;
    assert_eq!(second.text("from the first").await.0, id);
    let id = world.alice.send_text(BOB, "from the phone").await.unwrap();
    assert_eq!(first.text("from the phone").await.0, id);
    assert_eq!(second.text("from the phone").await.0, id);
    let id = world.bob.send_text(ALICE, "to both").await.unwrap();
    first.text("to both").await;
    second.text("to both").await;
    world.bob.wait_for_receipt(&id, ReceiptKind::Delivered).await.unwrap();
    assert_eq!(world.alice.online_devices().len(), 2);

    world.alice.unlink(2).unwrap();
    second.wait("LoggedOut", |event| matches!(event, Event::LoggedOut(_)).then_some(())).await;
    let id = first.send(BOB, "alone again").await;
    world.bob.wait_for_received(|it| it.id == id).await.unwrap();
    first.shutdown().await;
    second.shutdown().await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn real_clients_share_a_group() {
    let world = World::start().await;
    let carol = world.sim.phone(CAROL).unwrap();
    let group = world.sim.group("Three", &[ALICE, BOB, CAROL]).unwrap();
    let alices = world.linked().await;
    let carols = world.linked_to(&carol).await;
    let id = alices.send(&group.jid(), "hello group").await;
    assert_eq!(carols.text("hello group").await.0, id);
    world.bob.wait_for_received(|it| it.id == id).await.unwrap();
    let id = carols.send(&group.jid(), "hello back").await;
    assert_eq!(alices.text("hello back").await.0, id);
    alices.shutdown().await;
    carols.shutdown().await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn app_state_written_by_one_companion_reaches_the_other() {
    let world = World::start().await;
    let first = world.linked().await;
    let second = world.linked().await;
    let bob = crate::client::jid(BOB);
    first.inner().chat_actions().archive_chat(&bob, None).await.unwrap();
    let archived = |event: &Event| matches!(event, Event::ArchiveUpdate(_)).then_some(());
    second.wait("the archived chat", archived).await;
    first.shutdown().await;
    second.shutdown().await;
    world.end().await;
}
