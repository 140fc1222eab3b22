//! Whom a message can be written to: what WhatsApp says of the recipient is known before it is sent.

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use wagate_simulator::{Fault, Lasting};

use crate::{
    care_wire,
    world::{self, ALICE, Answer, BOB, World},
};

const PATH: &str = "/api/whatsapp/session/sales/messages";
const NOBODY: &str = "15559999999";

/// The only message to nobody.
async fn failed(world: &World) -> Value {
    let mut messages = world.get(&format!("{PATH}?chat={NOBODY}")).await.body["data"].take();
    assert_eq!(messages.as_array().unwrap().len(), 1, "{messages}");
    messages[0].take()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_number_that_is_not_on_whatsapp_is_a_mistake_in_the_request_and_nothing_is_sent() {
    world::on_each(async |world| {
        let phone = world.connect("sales", ALICE).await;
        world.whatsapp.contact(BOB).unwrap();
        // Also when it is asked for again, under the same key.
        for _ in 0..2 {
            let send = world.request(Method::POST, PATH).header("idempotency-key", "order-17");
            let answer = Answer::of(send.json(&json!({ "to": NOBODY, "text": "hello?" }))).await;
            assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{}", answer.body);
            assert_eq!(answer.body["code"], "VALIDATION_FAILED");
            assert_eq!(answer.body["errors"][0]["pointer"], "/to", "{}", answer.body);
        }
        let failed = failed(world).await;
        assert_eq!((&failed["status"], &failed["ack"]), (&json!("failed"), &json!(-1)));
        assert_eq!(failed["error"], "not_on_whatsapp");
        let events = world.events("sales").await;
        let acks: Vec<_> = events.iter().filter(|(name, _)| name == "message_ack").collect();
        assert_eq!(acks.len(), 1);
        assert_eq!(acks[0].1["ack"], -1, "{acks:?}");

        let id = world.send("sales", BOB, "hello").await;
        world.until_ack("sales", &id, 2).await;
        let sent: Vec<_> = phone.sent().into_iter().filter_map(|sent| sent.text).collect();
        assert_eq!(sent, ["hello"]);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_left_for_later_to_nobody_fails_when_that_is_known() {
    world::on_each(async |world| {
        let phone = world.connect("sales", ALICE).await;
        world.post("/api/whatsapp/session/sales/stop", json!({})).await;
        phone.wait_offline().await.unwrap();
        let left = world.post(PATH, json!({ "to": NOBODY, "text": "hello?", "queue": true })).await;
        assert_eq!(left.status, StatusCode::ACCEPTED, "{}", left.body);
        world.post("/api/whatsapp/session/sales/start", json!({})).await;
        let id = left.body["data"]["id"].as_str().unwrap();
        let failed = world.until_ack("sales", id, -1).await;
        assert_eq!(failed["error"], "not_on_whatsapp", "{failed}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_written_to_a_part_of_a_recipient_s_devices() {
    care_wire::on_each(async |world| {
        let alice = world.connect("sales", ALICE).await;
        let bob = world.connect("support", BOB).await;
        alice.fault(Fault::RefuseLookup { code: 429 }, Lasting::Times(2)).await;
        let sent = json!({ "to": BOB, "text": "for your phone and your desk", "queue": true });
        let sent = world.post(PATH, sent).await;
        assert_eq!(sent.status, StatusCode::ACCEPTED, "{}", sent.body);
        assert_eq!(sent.body["data"]["error"], "429", "{}", sent.body);
        assert_eq!(bob.as_contact().received().len(), 0, "the phone has not got it either");

        let id = sent.body["data"]["id"].as_str().unwrap();
        let taken = async || {
            let seen = world.get(&format!("{PATH}/{id}")).await.body["data"].clone();
            if seen["ack"].as_i64() > Some(0) { Ok(seen) } else { Err(seen) }
        };
        let (seen, _) = world.pass_until("an acknowledgement", care_wire::SECOND, taken).await;
        assert_eq!(seen["failedAttempts"], 2, "{seen}");
        let received = world.until_messages("support", 1).await;
        assert_eq!(received[0]["body"], "for your phone and your desk");
        assert_eq!(bob.as_contact().received().len(), 1);

        // A refusal that is no matter of time is said at once.
        let carol = "15550003333";
        world.whatsapp.contact(carol).unwrap();
        alice.fault(Fault::RefuseLookup { code: 403 }, Lasting::UntilCleared).await;
        let refused = world.post(PATH, json!({ "to": carol, "text": "hello" })).await;
        assert_eq!(refused.body["data"]["status"], "failed", "{}", refused.body);
        assert_eq!(refused.body["data"]["error"], "not_sendable", "{}", refused.body);
        world.whatsapp.clear_faults(None);
    })
    .await;
}
