//! Messages that WhatsApp does not take at once, on the real wire and by a moved clock.

use std::time::Duration;

use entity::UnixMillis;
use reqwest::StatusCode;
use serde_json::{Value, json};
use wagate::clock::Clock;
use wagate_simulator::{Fault, Lasting, Options, Phone, ReceiptKind, ReceiptPolicy};

use crate::{
    database::{self, Kind},
    world::{ALICE, BOB, World},
};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_mins(1);

/// A world whose time stands still until it is moved.
async fn on_each<F>(test: F)
where
    F: AsyncFn(&mut World),
{
    for kind in [Kind::Sqlite, Kind::Postgres] {
        database::on(kind, async |database| {
            let clock = Clock::manual(UnixMillis(1_795_500_000_000));
            let mut world = World::start_at(clock, database, Options::default(), |_| {}).await;
            test(&mut world).await;
            world.end().await;
        })
        .await;
    }
}

async fn message(world: &World, id: &str) -> Value {
    world.get(&format!("/api/whatsapp/session/sales/messages/{id}")).await.body["data"].clone()
}

/// Asks for a text to be sent, with or without time to wait, and answers the message's id.
async fn send(world: &World, text: &str, queue: bool) -> String {
    let path = "/api/whatsapp/session/sales/messages";
    let sent = world.post(path, json!({ "to": BOB, "text": text, "queue": queue })).await;
    // It may be put off before it is answered.
    assert!(sent.status.is_success(), "{}", sent.body);
    sent.body["data"]["id"].as_str().unwrap().to_owned()
}

/// Waits, without moving time, until a message has a status. That it is put off is no event, and rings no
/// bell, so it is looked for again and again.
async fn until(world: &World, id: &str, status: &str) -> Value {
    pass_until(world, id, status, Duration::ZERO).await.0
}

/// Moves time on until a message has a status.
async fn pass_until(world: &World, id: &str, status: &str, step: Duration) -> (Value, Duration) {
    world
        .pass_until(status, step, async || {
            let seen = message(world, id).await;
            if seen["status"] == status { Ok(seen) } else { Err(seen) }
        })
        .await
}

fn acks(events: &[(String, Value)]) -> Vec<i64> {
    let acks = events.iter().filter(|(name, _)| name == "message_ack");
    acks.map(|(_, data)| data["ack"].as_i64().unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_whatsapp_puts_off_arrives_once_under_its_id_before_what_follows() {
    on_each(async |world| {
        let phone = world.connect("sales", ALICE).await;
        world.whatsapp.contact(BOB).unwrap().set_receipts(ReceiptPolicy::None);
        for (code, text) in [(429, "too many"), (503, "too busy")] {
            phone.fault(Fault::ErrorAck { code }, Lasting::Times(3)).await;
            let id = send(world, text, false).await;
            let waiting = until(world, &id, "queued").await;
            assert_eq!((&waiting["ack"], &waiting["error"]), (&json!(0), &json!(code.to_string())));
            assert_eq!(waiting["failedAttempts"], 1);
            assert!(waiting["nextAttemptAt"].is_string(), "{waiting}");
            // Who does not want to wait hears so at once, and can rely on it.
            let path = "/api/whatsapp/session/sales/messages";
            let now = world.post(path, json!({ "to": BOB, "text": "at once" })).await;
            assert_eq!(now.status, StatusCode::SERVICE_UNAVAILABLE, "{}", now.body);
            let after = format!("after {text}");
            let next = send(world, &after, true).await;
            let (sent, took) = pass_until(world, &id, "sent", SECOND).await;
            assert!(took >= Duration::from_secs(5 + 15 + 30), "{took:?}");
            assert_eq!((&sent["failedAttempts"], &sent["error"]), (&json!(3), &json!(null)));
            pass_until(world, &next, "sent", SECOND).await;
            let arrived = arrived(&phone);
            let last: Vec<_> = arrived.iter().rev().take(2).map(|(_, text)| text.clone()).collect();
            assert_eq!(last, [after, text.to_owned()]);
            let of_it: Vec<_> = arrived.iter().filter(|(_, it)| it == text).collect();
            assert_eq!(of_it.len(), 1, "{arrived:?}");
            assert_eq!(sent["waId"], of_it[0].0, "the id it was stored with");
        }
        let acks = acks(&world.events("sales").await);
        assert!(acks.iter().all(|ack| *ack > 0), "nothing has failed: {acks:?}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_neither_forgets_a_message_that_was_put_off_nor_how_often() {
    on_each(async |world| {
        let phone = world.connect("sales", ALICE).await;
        world.whatsapp.contact(BOB).unwrap().set_receipts(ReceiptPolicy::None);
        phone.fault(Fault::ErrorAck { code: 503 }, Lasting::Times(3)).await;
        let id = send(world, "busy", false).await;
        let is_third = async || {
            let seen = message(world, &id).await;
            if seen["failedAttempts"] == 3 && seen["status"] == "queued" {
                Ok(seen)
            } else {
                Err(seen)
            }
        };
        let (waiting, _) = world.pass_until("the third refusal", SECOND, is_third).await;
        world.stop_daemon().await;
        phone.wait_offline().await.unwrap();
        world.start_daemon().await;
        world.until_status("sales", "session_connected").await;
        let again = message(world, &id).await;
        for field in ["failedAttempts", "nextAttemptAt", "error"] {
            assert_eq!(again[field], waiting[field], "{field}");
        }
        assert_eq!(arrived(&phone), [], "its time has not come");
        let (sent, took) = pass_until(world, &id, "sent", SECOND).await;
        assert!(took >= Duration::from_secs(25), "{took:?}");
        assert_eq!(sent["failedAttempts"], 3);
        assert_eq!(arrived(&phone).len(), 1);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_is_put_off_again_and_again_fails_and_says_why() {
    on_each(async |world| {
        let phone = world.connect("sales", ALICE).await;
        world.whatsapp.contact(BOB).unwrap().set_receipts(ReceiptPolicy::None);
        phone.fault(Fault::ErrorAck { code: 503 }, Lasting::UntilCleared).await;
        let id = send(world, "never", false).await;
        let (seen, _) = pass_until(world, &id, "failed", 5 * SECOND).await;
        assert_eq!((&seen["ack"], &seen["error"]), (&json!(-1), &json!("503")));
        assert_eq!(seen["failedAttempts"], 9);
        world.whatsapp.clear_faults(None);
        let id = send(world, "then", true).await;
        pass_until(world, &id, "sent", 5 * SECOND).await;
        assert_eq!(acks(&world.events("sales").await).iter().filter(|ack| **ack < 0).count(), 1);
        assert!(arrived(&phone).iter().all(|(_, text)| text != "never"));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_is_put_off_too_when_what_it_needs_is_refused_for_the_moment() {
    on_each(async |world| {
        let phone = world.connect("sales", ALICE).await;
        let path = "/api/whatsapp/session/sales/messages";
        let (carol, dave) = ("15550003333", "15550004444");
        world.whatsapp.contact(carol).unwrap().set_receipts(ReceiptPolicy::None);
        phone.fault(Fault::RefuseKeys { code: 503 }, Lasting::Times(2)).await;
        let put_off = json!({ "to": carol, "text": "hello", "queue": true });
        let put_off = world.post(path, put_off).await;
        assert_eq!(put_off.status, StatusCode::ACCEPTED, "{}", put_off.body);
        assert_eq!(put_off.body["data"]["status"], "queued");
        let id = put_off.body["data"]["id"].as_str().unwrap();
        pass_until(world, id, "sent", SECOND).await;
        world.whatsapp.clear_faults(None);

        world.whatsapp.contact(dave).unwrap().set_receipts(ReceiptPolicy::None);
        phone.fault(Fault::RefuseLookup { code: 429 }, Lasting::Once).await;
        let put_off = json!({ "to": dave, "text": "hello", "queue": true });
        let put_off = world.post(path, put_off).await.body["data"].clone();
        assert_eq!((&put_off["status"], &put_off["error"]), (&json!("queued"), &json!("429")));
        pass_until(world, put_off["id"].as_str().unwrap(), "sent", SECOND).await;

        // Who does not want it to wait is told no, and can rely on it.
        phone.fault(Fault::RefuseKeys { code: 429 }, Lasting::UntilCleared).await;
        world.whatsapp.contact("15550005555").unwrap();
        let refused = world.post(path, json!({ "to": "15550005555", "text": "now" })).await;
        assert_eq!(refused.status, StatusCode::SERVICE_UNAVAILABLE, "{}", refused.body);
        world.whatsapp.clear_faults(None);
        world.clock.advance(MINUTE);
        world.whatsapp.contact(BOB).unwrap();
        let id = world.send("sales", BOB, "last").await;
        until_taken(world, &id).await;
        assert!(arrived(&phone).iter().all(|(_, text)| text != "now"));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_is_not_acknowledged_is_sent_again_under_its_id() {
    on_each(async |world| {
        let phone = world.connect("sales", ALICE).await;
        world.whatsapp.contact(BOB).unwrap().set_receipts(ReceiptPolicy::None);
        let logins = phone.logins().len();
        phone.fault(Fault::LoseAck, Lasting::Once).await;
        let id = send(world, "did it arrive?", false).await;
        let (sent, took) = pass_until(world, &id, "sent", 5 * SECOND).await;
        assert!(took >= 30 * SECOND, "{took:?}");
        assert_eq!(sent["failedAttempts"], 1);
        let arrived = arrived(&phone);
        assert!(arrived.iter().all(|(id, _)| sent["waId"] == *id), "{arrived:?}");
        assert_eq!(phone.logins().len(), logins, "over the same connection");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_is_never_acknowledged_says_so() {
    on_each(async |world| {
        let phone = world.connect("sales", ALICE).await;
        world.whatsapp.contact(BOB).unwrap().set_receipts(ReceiptPolicy::None);
        phone.fault(Fault::LoseAck, Lasting::Times(3)).await;
        let id = send(world, "hello?", false).await;
        let (seen, _) = pass_until(world, &id, "failed", 5 * SECOND).await;
        assert_eq!((&seen["ack"], &seen["error"]), (&json!(-1), &json!("unconfirmed")));
        assert_eq!(acks(&world.events("sales").await), [-1]);
        let metrics = world.get("/metrics").await.body;
        let counted = metrics.as_str().unwrap().contains("wagate_sends_unconfirmed_total 3\n");
        assert!(counted, "{metrics}");
        let id = world.send("sales", BOB, "then").await;
        until(world, &id, "sent").await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_acknowledgement_that_comes_late_corrects_what_was_said_of_a_message() {
    on_each(async |world| {
        let phone = world.connect("sales", ALICE).await;
        let bob = world.whatsapp.contact(BOB).unwrap();
        bob.set_receipts(ReceiptPolicy::None);
        let mut said = Vec::new();
        // The server's own word, and a receipt of the recipient's.
        for (level, status) in [(1, "sent"), (2, "delivered")] {
            phone.fault(Fault::LoseAck, Lasting::Times(3)).await;
            let id = send(world, status, false).await;
            let (failed, _) = pass_until(world, &id, "failed", 5 * SECOND).await;
            assert_eq!((&failed["ack"], &failed["error"]), (&json!(-1), &json!("unconfirmed")));
            let wa_id = failed["waId"].as_str().unwrap();
            match level {
                1 => phone.acknowledge_late(BOB, wa_id).unwrap(),
                _ => bob.receipt(ALICE, &[wa_id.to_owned()], &ReceiptKind::Delivered).unwrap(),
            }
            let corrected = until(world, &id, status).await;
            assert_eq!((&corrected["ack"], &corrected["error"]), (&json!(level), &json!(null)));
            // What is delivered was sent, and that is told, too.
            said.push(-1);
            said.extend(1..=level);
        }
        assert_eq!(acks(&world.events("sales").await), said, "it is told as well");
    })
    .await;
}

/// Waits until WhatsApp has a message, whatever its recipient has said.
async fn until_taken(world: &World, id: &str) {
    let taken = async || {
        let seen = message(world, id).await;
        if seen["ack"].as_i64() > Some(0) { Ok(()) } else { Err(seen) }
    };
    world.pass_until("an acknowledgement", SECOND, taken).await;
}

/// Ids and texts of what has arrived, in order.
fn arrived(phone: &Phone) -> Vec<(String, String)> {
    phone.sent().into_iter().filter_map(|sent| Some((sent.id, sent.text?))).collect()
}
