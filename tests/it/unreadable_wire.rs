//! Messages that cannot be decrypted, for a while or for good: nobody waits for one without being told.

use serde_json::{Value, json};
use wagate_simulator::{Fault, Lasting, Phone, ReceiptKind};

use crate::world::{self, ALICE, BOB, World};

/// What was said of messages on a session: each event's name and the message's id.
async fn said(world: &World) -> Vec<(String, String)> {
    let events = world.events("sales").await.into_iter();
    let about = events
        .filter(|(name, _)| matches!(&**name, "message" | "message_create" | "message_ciphertext"));
    about.map(|(name, data)| (name, data["message"]["id"].as_str().unwrap().to_owned())).collect()
}

fn pair(name: &str, id: &str) -> (String, String) {
    (name.to_owned(), id.to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_cannot_be_read_at_first_is_said_so_and_comes_under_the_same_id() {
    world::on_each(async |world| {
        let phone = world.connect("sales", ALICE).await;
        let bob = world.whatsapp.contact(BOB).unwrap();
        let fine = bob.send_text(ALICE, "fine").await.unwrap();
        world.until_messages("sales", 1).await;
        phone.fault(Fault::CorruptCiphertext, Lasting::Once).await;
        let garbled = bob.send_text(ALICE, "garbled").await.unwrap();
        world.until_messages("sales", 2).await;

        let expected = [
            pair("message", &fine),
            pair("message_ciphertext", &garbled),
            pair("message", &garbled),
        ];
        assert_eq!(said(world).await, expected);
        let events = world.events("sales").await;
        let (_, data) = events.iter().find(|(name, _)| name == "message_ciphertext").unwrap();
        let message = &data["message"];
        assert_eq!(message["from"], format!("{BOB}@c.us"), "{message}");
        assert_eq!(message["to"], format!("{ALICE}@c.us"), "{message}");
        assert_eq!(message["type"], "ciphertext");
        assert_eq!(message["fromMe"], false);
        assert_eq!(message["unavailable"], false);
        let figures = world.get("/metrics").await.body;
        let figures = figures.as_str().unwrap();
        assert!(figures.contains("wagate_messages_undecryptable_total 1\n"), "{figures}");
        // Whose keys do not fit, is to be seen at the session, also when the process has ended since.
        world.connect("other", "15550004444").await;
        world.stop_daemon().await;
        world.start_daemon().await;
        assert_eq!(world.status("sales").await["undecryptableMessages"], 1);
        assert_eq!(world.status("other").await["undecryptableMessages"], 0);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_can_never_be_read_is_said_once_and_delays_no_other() {
    world::on_each(async |world| {
        let phone = world.connect("sales", ALICE).await;
        let bob = world.whatsapp.contact(BOB).unwrap();
        let carol = world.whatsapp.contact("15550003333").unwrap();
        phone.fault(Fault::CorruptCiphertext, Lasting::UntilCleared).await;
        let lost = bob.send_text(ALICE, "never to be read").await.unwrap();
        world
            .until("word of it", async || {
                let said = said(world).await;
                if said.is_empty() { Err(Value::Null) } else { Ok(()) }
            })
            .await;
        // Its sender is asked for it again, until it is plain that this does not help.
        phone.wait_for_receipt(&lost, ReceiptKind::Retry).await.unwrap();
        phone.wait_confirmed().await.unwrap();
        world.stop_daemon().await;
        phone.wait_offline().await.unwrap();
        world.start_daemon().await;
        world.until_status("sales", "session_connected").await;
        world.whatsapp.clear_faults(None);

        let next = carol.send_text(ALICE, "this one can be").await.unwrap();
        let messages = world.until_messages("sales", 1).await;
        assert_eq!(messages[0]["waId"], next);
        let expected = [pair("message_ciphertext", &lost), pair("message", &next)];
        assert_eq!(said(world).await, expected);
    })
    .await;
}

/// The phone has an answer from us: what it writes can be read with our session with it only. Answers how much
/// was said of messages by then.
async fn answer_the_phone(world: &World, phone: &Phone) -> usize {
    let sent = world.send("sales", BOB, "hello").await;
    world.until_ack("sales", &sent, 2).await;
    phone.wait_for_sent(|sent| sent.copied_to_phone).await.unwrap();
    said(world).await.len()
}

/// Loses the Signal sessions of all devices, as when a part of a database is.
async fn lose_signal_sessions(world: &mut World, phone: &Phone) {
    world.stop_daemon().await;
    phone.wait_offline().await.unwrap();
    world.execute("DELETE FROM wa_session").await;
}

/// Waits until so much was said of messages on the session.
async fn until_said(world: &World, count: usize) -> Vec<(String, String)> {
    world
        .until("what is said of messages", async || {
            let said = said(world).await;
            if said.len() >= count { Ok(said) } else { Err(json!(said)) }
        })
        .await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_account_s_phone_wrote_is_asked_of_it_when_the_session_with_it_is_lost() {
    world::on_each(async |world| {
        let phone = world.connect("sales", ALICE).await;
        world.whatsapp.contact(BOB).unwrap();
        let so_far = answer_the_phone(world, &phone).await;
        let before = phone.send_text(BOB, "before").await.unwrap();
        world.until_messages("sales", 2).await;
        lose_signal_sessions(world, &phone).await;

        // One while we are away, one that comes live.
        let offline = phone.send_text(BOB, "while away").await.unwrap();
        world.start_daemon().await;
        world.until_status("sales", "session_connected").await;
        world.until_messages("sales", 3).await;
        phone.wait_asked_for(&offline, 1).await.unwrap();
        let live = phone.send_text(BOB, "live").await.unwrap();
        let messages = world.until_messages("sales", 4).await;

        let texts: Vec<_> = messages.iter().map(|it| it["body"].as_str().unwrap()).collect();
        assert_eq!(texts, ["hello", "before", "while away", "live"]);
        for message in &messages {
            assert_eq!(message["fromMe"], true, "{message}");
            assert_eq!(message["chat"], format!("{BOB}@c.us"), "{message}");
        }
        // The request has given the phone a session, under which the last one came.
        let expected = [
            pair("message_create", &before),
            pair("message_ciphertext", &offline),
            pair("message_create", &offline),
            pair("message_create", &live),
        ];
        assert_eq!(said(world).await[so_far..], expected);
        let events = world.events("sales").await;
        let (_, data) = events.iter().find(|(name, _)| name == "message_ciphertext").unwrap();
        assert_eq!(data["message"]["fromMe"], true);
        assert_eq!(data["message"]["to"], format!("{BOB}@c.us"));
        assert_eq!(phone.asked_for(), [offline]);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_live_message_of_the_phone_that_cannot_be_read_is_asked_of_it_at_once() {
    world::on_each(async |world| {
        let phone = world.connect("sales", ALICE).await;
        world.whatsapp.contact(BOB).unwrap();
        phone.fault(Fault::CorruptCiphertext, Lasting::Once).await;
        let garbled = phone.send_text(BOB, "garbled").await.unwrap();
        let messages = world.until_messages("sales", 1).await;
        assert_eq!(messages[0]["body"], "garbled");
        assert_eq!(
            said(world).await,
            [pair("message_ciphertext", &garbled), pair("message_create", &garbled)]
        );
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_phone_that_does_not_answer_is_asked_twice_and_the_message_is_said_to_be_unreadable() {
    world::on_each(async |world| {
        let phone = world.connect("sales", ALICE).await;
        // Somebody with whom there is no Signal session that could be lost.
        let carol = world.whatsapp.contact("15550003333").unwrap();
        world.whatsapp.contact(BOB).unwrap();
        let so_far = answer_the_phone(world, &phone).await;
        phone.set_resends(false);
        lose_signal_sessions(world, &phone).await;
        let lost = phone.send_text(BOB, "lost").await.unwrap();
        world.start_daemon().await;
        world.until_status("sales", "session_connected").await;
        let said_first = until_said(world, so_far + 1).await;
        assert_eq!(said_first[so_far..], [pair("message_ciphertext", &lost)]);
        phone.wait_asked_for(&lost, 1).await.unwrap();
        let figures = world.get("/metrics").await.body;
        let figures = figures.as_str().unwrap();
        assert!(figures.contains("wagate_messages_undecryptable_total 1\n"), "{figures}");

        // The first request may have been lost with its connection; two were not.
        for (logins, asked) in [(3, 2), (4, 2)] {
            phone.fault(Fault::Drop, Lasting::Once).await;
            phone.wait_logged_in(logins).await.unwrap();
            world.until_status("sales", "session_connected").await;
            phone.wait_asked_for(&lost, asked).await.unwrap();
        }
        let fine = carol.send_text(ALICE, "fine").await.unwrap();
        world.until_messages("sales", 2).await;
        assert_eq!(phone.asked_for(), [lost.clone(), lost.clone()]);
        assert_eq!(
            said(world).await[so_far..],
            [pair("message_ciphertext", &lost), pair("message", &fine)]
        );

        // A new process asks once more: it cannot know whether the last one did.
        phone.set_resends(true);
        world.stop_daemon().await;
        world.start_daemon().await;
        world.until_messages("sales", 3).await;
        let expected = [
            pair("message_ciphertext", &lost),
            pair("message", &fine),
            pair("message_create", &lost),
        ];
        assert_eq!(said(world).await[so_far..], expected);
    })
    .await;
}
