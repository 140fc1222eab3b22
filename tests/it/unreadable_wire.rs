//! Messages that cannot be decrypted, for a while or for good: nobody waits for one without being told.

use serde_json::Value;
use wagate_simulator::{Fault, Lasting, ReceiptKind};

use crate::world::{self, ALICE, BOB, World};

/// What was said of messages on a session: each event's name and the message's id.
async fn said(world: &World) -> Vec<(String, String)> {
    let events = world.events("sales").await.into_iter();
    let about = events.filter(|(name, _)| matches!(&**name, "message" | "message_ciphertext"));
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
