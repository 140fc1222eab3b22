//! History: a phone hands its past to a client, and what can go wrong on the way.

use wagate_simulator::{
    Carriage, Fault, History, HistoryChat, HistoryKind, Lasting, ReceiptKind, Scope,
};
use whatsapp_rust::wacore::types::events::{Event, LazyHistorySync};

use crate::world::{ALICE, BOB, CAROL, World};
use crate::{Client, client};

/// A megabyte of text in some thousand messages.
fn a_megabyte() -> HistoryChat {
    HistoryChat::with(BOB).generated(5_000, 200, 1_700_000_000)
}

async fn chunk(client: &Client, wanted: i32) -> LazyHistorySync {
    client
        .wait("HistorySync", |event| match event {
            Event::HistorySync(sync) if sync.sync_type() == wanted => Some((**sync).clone()),
            _ => None,
        })
        .await
}

fn texts(sync: &LazyHistorySync) -> Vec<String> {
    let sync = sync.get().unwrap();
    let messages = sync.conversations.iter().flat_map(|chat| &chat.messages);
    messages
        .filter_map(|it| it.message.as_option()?.message.as_option()?.conversation.clone())
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_companion_is_handed_the_past_of_its_account() {
    let world = World::start().await;
    world.sim.phone(CAROL).unwrap();
    let mut names = History::new(HistoryKind::PushName, Carriage::Inline);
    names.push_names.insert(BOB.to_owned(), "Bob".to_owned());
    let chat = HistoryChat::with(BOB).received("A1", "how are you?", 1_700_000_001);
    let chat = chat.sent("A0", "hello", 1_700_000_000);
    let mut hidden = HistoryChat::with(CAROL).received("C1", "from a LID", 1_700_000_002);
    hidden.by_lid = true;
    let bootstrap = History::new(HistoryKind::InitialBootstrap, Carriage::Inline);
    world.alice.set_history(vec![
        bootstrap.chat(chat).chat(hidden),
        History::new(HistoryKind::Recent, Carriage::Download).chat(a_megabyte()),
        names,
    ]);
    let client = world.linked().await;

    let bootstrap = chunk(&client, 0).await;
    assert_eq!(texts(&bootstrap), ["how are you?", "hello", "from a LID"]);
    let conversations = &bootstrap.get().unwrap().conversations;
    assert_eq!(conversations[0].id, format!("{BOB}@s.whatsapp.net"));
    assert!(conversations[1].id.ends_with("@lid"));
    assert_eq!(bootstrap.get().unwrap().phone_number_to_lid_mappings.len(), 1);
    let recent = chunk(&client, 3).await;
    assert_eq!(texts(&recent).len(), 5_000);
    assert!(recent.decompressed_size() > 1_000_000);
    assert!(recent.compressed_bytes().len() < recent.decompressed_size() / 3);
    let names = chunk(&client, 4).await;
    assert_eq!(names.get().unwrap().pushnames[0].pushname.as_deref(), Some("Bob"));
    // None of it is news.
    assert!(client.texts().is_empty());
    client.shutdown().await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_chunk_is_confirmed_and_says_how_far_the_transfer_is() {
    let world = World::start().await;
    let client = world.linked().await;
    for (kind, number) in [
        (HistoryKind::Full, 2),
        (HistoryKind::OnDemand, 6),
        (HistoryKind::NonBlockingData, 5),
        (HistoryKind::InitialStatusV3, 1),
    ] {
        let mut history = History::new(kind, Carriage::Download);
        (history.progress, history.chunk) = (Some(40), Some(7));
        let history = history.chat(HistoryChat::with(BOB).received("F1", "once", 1_700_000_000));
        let id = world.alice.send_history(history).await.unwrap();
        world.alice.wait_for_receipt(&id, ReceiptKind::HistSync).await.unwrap();
        let sync = chunk(&client, number).await;
        assert_eq!((sync.progress(), sync.chunk_order()), (Some(40), Some(7)));
    }
    client.shutdown().await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_fetched_or_read_is_left_out_and_the_next_chunk_comes() {
    let world = World::start().await;
    let client = world.linked().await;
    for carriage in [
        Carriage::Corrupted,
        Carriage::Nonsense,
        Carriage::Missing(404),
        Carriage::Missing(410),
        Carriage::Missing(500),
    ] {
        let history = History::new(HistoryKind::Full, carriage).chat(a_megabyte());
        world.alice.send_history(history).await.unwrap();
    }
    let good = HistoryChat::with(BOB).received("G1", "good", 1_700_000_000);
    let good = History::new(HistoryKind::Recent, Carriage::Slow(50)).chat(good);
    world.alice.send_history(good).await.unwrap();
    assert_eq!(texts(&chunk(&client, 3).await), ["good"]);
    assert_eq!(client.count(|event| matches!(event, Event::HistorySync(_))), 1);
    client.shutdown().await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_media_host_that_refuses_a_route_is_asked_again_with_a_new_one() {
    let world = World::start().await;
    let client = world.linked().await;
    world.sim.fault(Scope::Everyone, Fault::RefuseMedia { status: 401 }, Lasting::Once).await;
    let chat = HistoryChat::with(BOB).received("R1", "at last", 1_700_000_000);
    let history = History::new(HistoryKind::Recent, Carriage::Download).chat(chat);
    world.alice.send_history(history).await.unwrap();
    assert_eq!(texts(&chunk(&client, 3).await), ["at last"]);
    assert_eq!(world.sim.info().media_requests, 2);
    client.shutdown().await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_megabytes_are_written_without_being_held() {
    let world = World::start().await;
    let client = world.linked().await;
    let chats = (0..10).map(|n| {
        let number = format!("1558{n:07}");
        HistoryChat::with(number).generated(10_000, 900, 1_700_000_000)
    });
    let history = History::new(HistoryKind::Full, Carriage::Download);
    let history = chats.fold(history, History::chat);
    let before = world.sim.info().media_bytes;
    let id = world.alice.send_history(history).await.unwrap();
    world.alice.wait_for_receipt(&id, ReceiptKind::HistSync).await.unwrap();
    // More than this client inflates; that it fetched the blob is all there is to see.
    client::until("the blob to be fetched", || world.sim.info().media_bytes > before).await;
    let fetched = world.sim.info().media_bytes - before;
    assert!((5_000_000..60_000_000).contains(&fetched), "{fetched}");
    client.shutdown().await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn history_overlaps_with_what_is_live() {
    let world = World::start().await;
    let client = world.linked().await;
    let id = world.bob.send_text(ALICE, "live").await.unwrap();
    client.text("live").await;
    let chat = HistoryChat::with(BOB).received(&id, "live", 1_700_000_000);
    let history = History::new(HistoryKind::Recent, Carriage::Inline).chat(chat);
    world.alice.send_history(history).await.unwrap();
    let sync = chunk(&client, 3).await;
    assert_eq!(texts(&sync), ["live"]);
    assert_eq!(client.texts(), ["live"]);
    client.shutdown().await;
    world.end().await;
}
