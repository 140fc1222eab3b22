//! Messages and acknowledgements, on the real wire.

use futures_util::future::join_all;
use reqwest::{Method, StatusCode};
use serde_json::json;
use wagate_simulator::{Fault, Lasting, ReceiptPolicy};

use crate::world::{self, ALICE, Answer, BOB};

#[tokio::test(flavor = "multi_thread")]
async fn a_message_is_kept_before_whatsapp_is_told_that_we_have_it() {
    world::on_each(async |world| {
        let phone = world.connect("sales", ALICE).await;
        let bob = world.whatsapp.contact(BOB).unwrap();
        bob.set_name("Bob");
        let id = bob.send_text(ALICE, "hello 👋").await.unwrap();

        let message = world.until_messages("sales", 1).await.remove(0);
        assert_eq!(message["waId"], id);
        assert_eq!(message["body"], "hello 👋");
        assert_eq!(message["direction"], "inbound");
        assert_eq!(message["type"], "text");
        assert_eq!(message["from"], format!("{BOB}@c.us"));
        assert_eq!(message["pushName"], "Bob");
        assert_eq!(message["offline"], false);

        phone.wait_for_receipts(1).await.unwrap();
        let events = world.events("sales").await;
        let (_, data) = events.iter().find(|(name, _)| name == "message").unwrap();
        assert_eq!(data["message"]["id"], id);
        assert_eq!(data["message"]["body"], "hello 👋");
        assert_eq!(data["message"]["from"], format!("{BOB}@c.us"));
        assert_eq!(data["message"]["to"], format!("{ALICE}@c.us"));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sent_message_climbs_from_sent_to_read() {
    world::on_each(async |world| {
        let phone = world.connect("sales", ALICE).await;
        let bob = world.whatsapp.contact(BOB).unwrap();
        bob.set_receipts(ReceiptPolicy::Read);

        let id = world.send("sales", BOB, "hi Bob").await;
        let got = phone.wait_for_sent(|sent| sent.text.as_deref() == Some("hi Bob")).await.unwrap();
        let read = world.until_ack("sales", &id, 3).await;
        assert_eq!(read["status"], "read");
        assert_eq!(read["waId"], got.id, "the id we chose is the one it was sent under");

        let acks: Vec<i64> = world
            .events("sales")
            .await
            .iter()
            .filter(|(name, _)| name == "message_ack")
            .map(|(_, data)| data["ack"].as_i64().unwrap())
            .collect();
        assert!(acks.is_sorted() && acks.last() == Some(&3), "{acks:?}");
        // Whoever goes by events knows the message by the id that he was given for it.
        let events = world.events("sales").await;
        let about = events.iter().filter(|(name, _)| name.starts_with("message_"));
        let named: Vec<_> = about.map(|(_, data)| &data["message"]["messageId"]).collect();
        assert!(named.len() >= 2 && named.iter().all(|it| **it == id.as_str()), "{named:?}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_came_while_we_were_away_is_kept_in_order_and_marked() {
    world::on_each(async |world| {
        let phone = world.connect("sales", ALICE).await;
        world.stop_daemon().await;
        phone.wait_offline().await.unwrap();
        let bob = world.whatsapp.contact(BOB).unwrap();
        bob.send_many(ALICE, "offline", 100).await.unwrap();

        world.start_daemon().await;
        let messages = world.until_messages("sales", 100).await;
        for (n, message) in messages.iter().enumerate() {
            let body = message["body"].as_str().unwrap();
            assert!(body.starts_with("offline "), "{body}");
            assert_eq!(message["offline"], true, "message {n}");
        }
        let numbers: Vec<u32> = messages
            .iter()
            .map(|message| message["body"].as_str().unwrap()[8..].parse().unwrap())
            .collect();
        assert!(numbers.is_sorted(), "{numbers:?}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_delivered_twice_is_one_message() {
    world::on_each(async |world| {
        let phone = world.connect("sales", ALICE).await;
        let bob = world.whatsapp.contact(BOB).unwrap();
        phone.fault(Fault::DuplicateDelivery, Lasting::Once).await;
        bob.send_text(ALICE, "once").await.unwrap();
        bob.send_text(ALICE, "after").await.unwrap();
        let messages = world.until_messages("sales", 2).await;
        assert_eq!((&messages[0]["body"], &messages[1]["body"]), (&json!("once"), &json!("after")));
        let events = world.events("sales").await;
        assert_eq!(events.iter().filter(|(name, _)| name == "message").count(), 2);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_cannot_be_read_at_first_is_asked_for_again() {
    world::on_each(async |world| {
        let phone = world.connect("sales", ALICE).await;
        let bob = world.whatsapp.contact(BOB).unwrap();
        bob.send_text(ALICE, "fine").await.unwrap();
        world.until_messages("sales", 1).await;
        phone.fault(Fault::CorruptCiphertext, Lasting::Once).await;
        bob.send_text(ALICE, "garbled").await.unwrap();
        let messages = world.until_messages("sales", 2).await;
        assert_eq!(messages[1]["body"], "garbled");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_message_says_so() {
    world::on_each(async |world| {
        let phone = world.connect("sales", ALICE).await;
        world.whatsapp.contact(BOB).unwrap();
        phone.fault(Fault::ErrorAck { code: 479 }, Lasting::Once).await;
        let id = world.send("sales", BOB, "refused").await;
        let refused = world.until_ack("sales", &id, -1).await;
        assert_eq!(refused["status"], "failed");
        assert_eq!(refused["error"], "479");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_acknowledgement_is_made_up_for_by_the_next_connection() {
    world::on_each(async |world| {
        let phone = world.connect("sales", ALICE).await;
        let bob = world.whatsapp.contact(BOB).unwrap();
        bob.set_receipts(ReceiptPolicy::None);
        phone.fault(Fault::LoseAck, Lasting::Once).await;
        let id = world.send("sales", BOB, "did it arrive?").await;
        phone.wait_for_sent(|sent| sent.text.is_some()).await.unwrap();

        phone.fault(Fault::Drop, Lasting::Once).await;
        phone.wait_logged_in(2).await.unwrap();
        world.until_ack("sales", &id, 1).await;
        let sent = phone.sent();
        assert!(sent.iter().all(|message| message.id == sent[0].id), "always the same id");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_key_sends_once_and_another_request_with_it_is_refused() {
    world::on_each(async |world| {
        let phone = world.connect("sales", ALICE).await;
        world.whatsapp.contact(BOB).unwrap();
        let send = |text: &str| {
            Answer::of(
                world
                    .request(Method::POST, "/api/whatsapp/session/sales/messages")
                    .header("idempotency-key", "order-17")
                    .json(&json!({ "to": BOB, "text": text })),
            )
        };
        let answers = join_all((0..10).map(|_| send("your order"))).await;
        let id = &answers[0].body["data"]["id"];
        for answer in &answers {
            assert!(answer.status.is_success(), "{} {}", answer.status, answer.body);
            assert_eq!(&answer.body["data"]["id"], id);
        }
        let new = answers.iter().filter(|answer| answer.status == StatusCode::CREATED).count();
        assert_eq!(new, 1);

        assert_eq!(send("another order").await.status, StatusCode::UNPROCESSABLE_ENTITY);
        world.until_ack("sales", id.as_str().unwrap(), 2).await;
        assert_eq!(phone.sent().len(), 1);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_send_while_not_connected_is_refused_or_queued_as_asked() {
    world::on_each(async |world| {
        let phone = world.connect("sales", ALICE).await;
        world.whatsapp.contact(BOB).unwrap();
        world.post("/api/whatsapp/session/sales/stop", json!({})).await;
        phone.wait_offline().await.unwrap();

        let path = "/api/whatsapp/session/sales/messages";
        let refused = world.post(path, json!({ "to": BOB, "text": "now" })).await;
        assert_eq!(refused.status, StatusCode::CONFLICT);
        assert_eq!(refused.body["status"], 409);

        let mut queued = Vec::new();
        for n in 0..5 {
            let body = json!({ "to": BOB, "text": format!("later {n}"), "queue": true });
            let answer = world.post(path, body).await;
            assert_eq!(answer.status, StatusCode::ACCEPTED, "{}", answer.body);
            assert_eq!(answer.body["data"]["status"], "queued");
            queued.push(answer.body["data"]["id"].as_str().unwrap().to_owned());
        }
        world.post("/api/whatsapp/session/sales/start", json!({})).await;
        for id in &queued {
            world.until_ack("sales", id, 2).await;
        }
        let texts: Vec<_> = phone.sent().into_iter().filter_map(|sent| sent.text).collect();
        assert_eq!(texts, ["later 0", "later 1", "later 2", "later 3", "later 4"]);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_sent_on_the_phone_is_a_message_of_ours() {
    world::on_each(async |world| {
        let phone = world.connect("sales", ALICE).await;
        world.whatsapp.contact(BOB).unwrap();
        phone.send_text(BOB, "from my phone").await.unwrap();
        let message = world.until_messages("sales", 1).await.remove(0);
        assert_eq!(message["fromMe"], true);
        assert_eq!(message["direction"], "outbound");
        assert_eq!(message["to"], format!("{BOB}@c.us"));
        let events = world.events("sales").await;
        assert!(events.iter().any(|(name, _)| name == "message_create"));
        assert!(events.iter().all(|(name, _)| name != "message"));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn groups_work_both_ways() {
    world::on_each(async |world| {
        let phone = world.connect("sales", ALICE).await;
        let bob = world.whatsapp.contact(BOB).unwrap();
        let carol = world.whatsapp.contact("15550003333").unwrap();
        let group = world.whatsapp.group("Friends", &[ALICE, BOB, carol.number()]).unwrap();

        bob.send_group(&group.jid(), "hello all").await.unwrap();
        let message = world.until_messages("sales", 1).await.remove(0);
        assert_eq!(message["body"], "hello all");
        assert_eq!(message["chat"], group.jid());
        assert_eq!(message["from"], format!("{BOB}@c.us"));

        let id = world.send("sales", &group.jid(), "hello from me").await;
        let sent = phone
            .wait_for_sent(|sent| sent.text.as_deref() == Some("hello from me"))
            .await
            .unwrap();
        let mut readers = sent.decrypted_by.clone();
        readers.sort();
        assert_eq!(readers, [BOB, carol.number()]);
        world.until_ack("sales", &id, 2).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_sessions_of_one_account_see_what_the_other_sends() {
    world::on_each(async |world| {
        let phone = world.connect("first", ALICE).await;
        world.connect("second", ALICE).await;
        world.whatsapp.contact(BOB).unwrap();
        world.send("first", BOB, "from the first").await;
        phone.wait_for_sent(|sent| sent.text.is_some()).await.unwrap();
        let message = world.until_messages("second", 1).await.remove(0);
        assert_eq!(message["fromMe"], true);
        assert_eq!(message["body"], "from the first");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_the_server_will_not_take_fails_alone() {
    world::on_each(async |world| {
        let phone = world.connect("sales", ALICE).await;
        world.whatsapp.contact(BOB).unwrap();
        // A group that there is not: its members cannot be asked for.
        let path = "/api/whatsapp/session/sales/messages";
        let lost = json!({ "to": "120363999999999999@g.us", "text": "anyone?" });
        let answer = world.post(path, lost).await;
        assert_eq!(answer.status, StatusCode::CREATED, "{}", answer.body);
        let failed = &answer.body["data"];
        let [status, ack, error] = ["status", "ack", "error"].map(|field| failed[field].clone());
        assert_eq!((status, ack, error), ("failed".into(), (-1).into(), "not_sendable".into()));
        // Whoever goes by events is told the same, of a message that was announced.
        let events = world.events("sales").await;
        let of_it = |(name, data): &(String, serde_json::Value)| {
            let id = data["message"]["id"].as_str()?;
            (id == failed["waId"].as_str()?).then(|| (name.clone(), data["ack"].clone()))
        };
        let told: Vec<_> = events.iter().filter_map(of_it).collect();
        assert_eq!(told.len(), 2, "{events:#?}");
        assert_eq!(told[0].0, "message_create");
        assert_eq!(told[1], ("message_ack".to_owned(), (-1).into()));

        let id = world.send("sales", BOB, "and this one?").await;
        phone.wait_for_sent(|sent| sent.text.as_deref() == Some("and this one?")).await.unwrap();
        world.until_ack("sales", &id, 2).await;
        let messages = world.get(&format!("{path}?limit=10")).await.body["data"].clone();
        let statuses: Vec<_> =
            messages.as_array().unwrap().iter().map(|message| &message["status"]).collect();
        assert!(!statuses.contains(&&json!("queued")), "{statuses:?}");
        world.whatsapp.take_violations();
    })
    .await;
}
