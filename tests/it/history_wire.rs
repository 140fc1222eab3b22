//! The past of a newly paired account, on the real wire: what is kept of it, and what it costs.

use futures_util::future::join_all;
use serde_json::{Value, json};
use tokio::time::timeout;
use wagate::{config::HistoryMode, session::HistoryStats};
use wagate_simulator::{
    Carriage, History, HistoryChat, HistoryKind, Options, Phone, ReceiptKind, SentMessage,
};

use crate::{
    database::{self, Kind},
    world::{ALICE, BOB, CAROL, DEADLINE, World},
};

/// Seconds since the epoch: an hour ago, or `days` before that.
fn ago(days: u64) -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    now.as_secs() - 3_600 - days * 86_400
}

fn chunk(chat: HistoryChat) -> History {
    History::new(HistoryKind::Recent, Carriage::Download).chat(chat)
}

/// Runs a test on each database there is, with this much of the past kept.
async fn on_each(mode: HistoryMode, test: impl AsyncFn(&mut World)) {
    for kind in [Kind::Sqlite, Kind::Postgres] {
        database::on(kind, async |database| {
            let mut world = World::start_with(database, Options::default(), |config| {
                config.history.mode = mode;
                config.history.days = 10;
                config.history.messages_per_chat = 3;
            })
            .await;
            test(&mut world).await;
            world.end().await;
        })
        .await;
    }
}

/// Hands a chunk to the session's device, and waits until the phone is told that it has arrived.
async fn hand_down(phone: &Phone, chunk: History) {
    let id = phone.send_history(chunk).await.unwrap();
    phone.wait_for_receipt(&id, ReceiptKind::HistSync).await.unwrap();
}

/// Texts of all messages, the oldest first.
fn bodies(messages: &[Value]) -> Vec<&str> {
    messages.iter().map(|message| message["body"].as_str().unwrap()).collect()
}

/// What was done, once nothing is under way.
async fn stats(world: &World) -> HistoryStats {
    let daemon = world.daemon.as_ref().expect("the daemon runs");
    let at_rest = async {
        loop {
            let stats = daemon.history_stats();
            if (stats.bytes, stats.reading) == (0, 0) {
                return stats;
            }
            tokio::task::yield_now().await;
        }
    };
    timeout(DEADLINE, at_rest).await.expect("what is under way ends")
}

#[tokio::test(flavor = "multi_thread")]
async fn without_being_asked_to_nothing_of_the_past_is_kept() {
    on_each(HistoryMode::Off, async |world| {
        let phone = world.connect("sales", ALICE).await;
        hand_down(&phone, chunk(HistoryChat::with(BOB).received("A1", "long ago", ago(1)))).await;
        world.whatsapp.contact(BOB).unwrap().send_text(ALICE, "today").await.unwrap();
        let messages = world.until_messages("sales", 1).await;
        assert_eq!(bodies(&messages), ["today"]);
        assert_eq!(world.whatsapp.info().media_requests, 0, "it is not even fetched");
        assert_eq!(stats(world).await, HistoryStats::default());
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_whole_past_is_stored_once_and_nobody_is_told_of_it() {
    on_each(HistoryMode::Full, async |world| {
        let alice = world.whatsapp.phone(ALICE).unwrap();
        world.whatsapp.contact(BOB).unwrap();
        world.whatsapp.contact(CAROL).unwrap();
        let mut hidden = HistoryChat::with(CAROL).received("C1", "by a hidden identity", ago(2));
        hidden.by_lid = true;
        let chat = HistoryChat::with(BOB).sent("A2", "an answer", ago(300));
        let chat = chat.received("A1", "a question", ago(301));
        let mut bootstrap = History::new(HistoryKind::InitialBootstrap, Carriage::Inline);
        (bootstrap.progress, bootstrap.chunk) = (Some(60), Some(1));
        let mut recent = chunk(chat.clone().received("A0", "the first", ago(900)));
        recent.progress = Some(100);
        alice.set_history(vec![bootstrap.chat(chat).chat(hidden), recent]);

        world.connect("sales", ALICE).await;
        let messages = world.until_messages("sales", 4).await;
        let expected = ["the first", "a question", "an answer", "by a hidden identity"];
        assert_eq!(bodies(&messages), expected);
        assert!(messages.iter().all(|message| message["history"] == true));
        assert_eq!(messages[2]["direction"], "outbound");
        assert_eq!(messages[2]["from"], format!("{ALICE}@c.us"));
        assert_eq!(messages[3]["chat"], format!("{CAROL}@c.us"), "by the number we know them by");

        let progress = world
            .until("the end of the transfer", async || {
                let events = world.events("sales").await;
                let told = events.iter().filter(|(name, _)| name == "loading_screen");
                let told: Vec<_> = told.map(|(_, data)| data["percent"].clone()).collect();
                if told.contains(&Value::from(100)) { Ok(events) } else { Err(told.into()) }
            })
            .await;
        let names: Vec<_> = progress.iter().map(|(name, _)| name.as_str()).collect();
        assert!(!names.contains(&"message") && !names.contains(&"message_create"), "{names:?}");
        assert_eq!(world.status("sales").await["status"], "session_connected");
        let stats = stats(world).await;
        assert_eq!((stats.stored, stats.known), (4, 2));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_past_of_an_account_that_is_refused_is_none_of_the_session_s_business() {
    on_each(HistoryMode::Full, async |world| {
        world.connect("sales", ALICE).await.unlink_all();
        world.until_status("sales", "session_not_connected").await;
        let started = world.post("/api/whatsapp/session/sales/start", json!({})).await;
        assert!(started.status.is_success(), "{}", started.body);
        let qr = world.until_qr("sales").await;
        world.whatsapp.contact(BOB).unwrap();
        let carol = world.whatsapp.phone(CAROL).unwrap();
        let chat = HistoryChat::with(BOB).received("C1", "for Carol", ago(1));
        let past = History::new(HistoryKind::InitialBootstrap, Carriage::Inline).chat(chat);
        carol.set_history(vec![past]);
        carol.scan(&qr).await.unwrap();
        let refused = world.until_status("sales", "auth_failure").await;
        assert_eq!(refused["lastDisconnect"]["reason"], "other_account", "{refused}");
        assert_eq!(stats(world).await.stored, 0);
        let messages = world.get("/api/whatsapp/session/sales/messages").await.body;
        assert_eq!(messages["data"], Value::Array(Vec::new()));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_limited_past_the_newest_of_each_chat_are_kept() {
    on_each(HistoryMode::Limited, async |world| {
        let phone = world.connect("sales", ALICE).await;
        let chat = HistoryChat::with(BOB)
            .received("A2", "two days old", ago(2))
            .received("A4", "four days old", ago(4))
            .received("A1", "one day old", ago(1))
            .received("A3", "three days old", ago(3));
        let other = HistoryChat::with(CAROL).received("C9", "nine days old", ago(9)).received(
            "C11",
            "eleven days old",
            ago(11),
        );
        hand_down(&phone, chunk(chat.clone()).chat(other)).await;
        // The limit holds over all chunks, and what was there already does not count twice.
        hand_down(&phone, chunk(chat.received("A5", "five days old", ago(5)))).await;
        let messages = world.until_messages("sales", 4).await;
        let expected = ["nine days old", "three days old", "two days old", "one day old"];
        assert_eq!(bodies(&messages), expected);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_came_live_stays_live_and_the_session_is_no_more_active_for_it() {
    on_each(HistoryMode::Full, async |world| {
        let phone = world.connect("sales", ALICE).await;
        let bob = world.whatsapp.contact(BOB).unwrap();
        let live = bob.send_text(ALICE, "hello").await.unwrap();
        world.until_messages("sales", 1).await;
        let ours = world.send("sales", BOB, "hi Bob").await;
        let said = |sent: &SentMessage| sent.text.as_deref() == Some("hi Bob");
        let answer = phone.wait_for_sent(said).await.unwrap().id;
        world.until_ack("sales", &ours, 2).await;
        let before = world.status("sales").await["lastActiveAt"].clone();

        let chat = HistoryChat::with(BOB)
            .sent(&answer, "hi Bob", ago(0))
            .received(&live, "hello", ago(0))
            .received("A1", "earlier", ago(1));
        hand_down(&phone, chunk(chat)).await;
        let messages = world.until_messages("sales", 3).await;
        assert_eq!(bodies(&messages), ["earlier", "hello", "hi Bob"]);
        let flags: Vec<_> = messages.iter().map(|message| message["history"].clone()).collect();
        assert_eq!(flags, [true, false, false]);
        assert_eq!(messages[2]["ack"], 2);
        assert_eq!(world.status("sales").await["lastActiveAt"], before);
        let events = world.events("sales").await;
        assert_eq!(events.iter().filter(|(name, _)| name == "message").count(), 1);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_of_the_past_that_is_delivered_after_all_becomes_live() {
    on_each(HistoryMode::Full, async |world| {
        let phone = world.connect("sales", ALICE).await;
        let bob = world.whatsapp.contact(BOB).unwrap();
        let chat = HistoryChat::with(BOB).received("3EB0OVERLAP", "twice", ago(0));
        hand_down(&phone, chunk(chat)).await;
        world.until_messages("sales", 1).await;
        let message = wagate_simulator::text("twice");
        bob.send_with_id(ALICE, message, Some("3EB0OVERLAP".to_owned())).await.unwrap();
        phone.wait_for_receipt("3EB0OVERLAP", ReceiptKind::Delivered).await.unwrap();
        let messages = world.until_messages("sales", 1).await;
        assert_eq!(messages[0]["history"], false);
        let events = world.events("sales").await;
        assert_eq!(events.iter().filter(|(name, _)| name == "message").count(), 1);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_fetched_or_read_is_counted_and_harms_nobody() {
    on_each(HistoryMode::Full, async |world| {
        let phone = world.connect("sales", ALICE).await;
        let bad = [
            Carriage::Corrupted,
            Carriage::Nonsense,
            Carriage::Missing(404),
            Carriage::Missing(410),
        ];
        for carriage in bad {
            let chat = HistoryChat::with(BOB).generated(1_000, 200, ago(1));
            hand_down(&phone, History { carriage, ..chunk(chat) }).await;
        }
        let chat = HistoryChat::with(BOB).received("G1", "good", ago(1));
        hand_down(&phone, History { carriage: Carriage::Slow(50), ..chunk(chat) }).await;
        let messages = world.until_messages("sales", 1).await;
        assert_eq!(bodies(&messages), ["good"]);
        let stats = stats(world).await;
        assert_eq!((stats.failed, stats.chunks), (4, 1));
        assert_eq!(world.status("sales").await["status"], "session_connected");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_stop_interrupts_is_handed_over_again_and_stored_once() {
    on_each(HistoryMode::Full, async |world| {
        let phone = world.connect("sales", ALICE).await;
        let chat = HistoryChat::with(BOB).generated(450, 300, ago(1));
        let slow = History { carriage: Carriage::Slow(600_000), ..chunk(chat.clone()) };
        let requests = world.whatsapp.info().media_requests;
        phone.send_history(slow).await.unwrap();
        while world.whatsapp.info().media_requests == requests {
            tokio::task::yield_now().await;
        }
        world.stop_daemon().await;
        phone.wait_offline().await.unwrap();
        let told = phone.receipts().into_iter().filter(|it| it.kind == ReceiptKind::HistSync);
        assert_eq!(told.count(), 0, "the phone was not told that it had arrived");

        world.start_daemon().await;
        world.until_status("sales", "session_connected").await;
        for _ in 0..2 {
            hand_down(&phone, chunk(chat.clone())).await;
        }
        world.until_messages("sales", 450).await;
        let stats = stats(world).await;
        assert_eq!((stats.stored, stats.known), (450, 450));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn twenty_pairings_at_once_stay_within_the_memory_they_share() {
    const MEMORY: u64 = 1 << 20;
    for kind in [Kind::Sqlite, Kind::Postgres] {
        database::on(kind, async |database| {
            let world = World::start_with(database, Options::default(), |config| {
                config.history.mode = HistoryMode::Full;
                config.history.memory = "1MiB".parse().unwrap();
                config.history.concurrency = 2;
            })
            .await;
            let pairings = (0..20).map(|n| {
                let (id, number) = (format!("s{n}"), format!("1556{n:07}"));
                let world = &world;
                async move {
                    let phone = world.whatsapp.phone(&number).unwrap();
                    let chat = HistoryChat::with(BOB).generated(500, 900, ago(1));
                    phone.set_history(vec![chunk(chat)]);
                    world.connect(&id, &number).await;
                    // One chunk after another: when this has arrived, so has the first.
                    hand_down(&phone, chunk(HistoryChat::with(BOB))).await;
                }
            });
            join_all(pairings).await;
            let stats = stats(&world).await;
            assert_eq!((stats.stored, stats.failed), (10_000, 0));
            assert!(stats.most_bytes <= MEMORY, "{stats:?}");
            assert!(stats.most_reading <= 2, "{stats:?}");
            world.end().await;
        })
        .await;
    }
}

/// Some hundred KiB when it is unpacked.
fn large(id: &str) -> History {
    let mut chat = HistoryChat::with(BOB);
    for n in 0..100 {
        chat = chat.received(&format!("{id}{n}"), &"x".repeat(900), ago(1));
    }
    chunk(chat)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chunk_that_unpacks_to_more_than_it_may_is_left_out_and_not_asked_for_again() {
    for kind in [Kind::Sqlite, Kind::Postgres] {
        database::on(kind, async |database| {
            let world = World::start_with(database, Options::default(), |config| {
                config.history.mode = HistoryMode::Full;
                config.history.max_chunk = "64KiB".parse().unwrap();
            })
            .await;
            let phone = world.connect("sales", ALICE).await;
            hand_down(&phone, large("L")).await;
            let small = HistoryChat::with(BOB).received("S", "small", ago(1));
            hand_down(&phone, chunk(small)).await;
            assert_eq!(bodies(&world.until_messages("sales", 1).await), ["small"]);
            let stats = stats(&world).await;
            assert_eq!((stats.failed, stats.chunks, stats.stored), (1, 1, 1));
            assert_eq!(world.status("sales").await["status"], "session_connected");
            world.end().await;
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_chunks_of_one_connection_together_unpack_to_no_more_than_they_may() {
    for kind in [Kind::Sqlite, Kind::Postgres] {
        database::on(kind, async |database| {
            let mut world = World::start_with(database, Options::default(), |config| {
                config.history.mode = HistoryMode::Full;
                config.history.max_session = "128KiB".parse().unwrap();
            })
            .await;
            let phone = world.connect("sales", ALICE).await;
            hand_down(&phone, large("A")).await;
            hand_down(&phone, large("B")).await;
            let counts = |stats: HistoryStats| (stats.failed, stats.chunks, stats.stored);
            assert_eq!(counts(stats(&world).await), (1, 1, 100), "the second is too much");
            let small = HistoryChat::with(BOB).received("S", "small", ago(1));
            hand_down(&phone, chunk(small)).await;
            assert_eq!(counts(stats(&world).await), (1, 2, 101), "what is left is enough for it");

            world.stop_daemon().await;
            world.start_daemon().await;
            world.until_status("sales", "session_connected").await;
            hand_down(&phone, large("B")).await;
            assert_eq!(counts(stats(&world).await), (0, 1, 100), "another connection");
            world.end().await;
        })
        .await;
    }
}
