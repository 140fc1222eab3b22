//! What clients elsewhere post again, or too late.

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};

use crate::{
    database::on_each,
    external_receiver::{ALICE, BOB, message, status},
    http_app::{Answer, App},
};

#[tokio::test]
async fn a_repeated_event_is_recorded_once() {
    on_each(async |database| {
        let app = App::start(database).await;
        app.external("shop", json!({})).await;
        let duplicate = async |event: &str, data: Value| {
            app.clock.advance(Duration::from_secs(1));
            let answer = app.tell("shop", event, data).await;
            assert_eq!(answer.status, 200, "{}", answer.text());
            answer.json()["data"]["duplicate"].as_bool().unwrap()
        };
        // A message by its id, whatever it is called and whatever else is in it.
        assert!(!duplicate("message", message("3EB0", ALICE, BOB)).await);
        assert!(duplicate("message", message("3EB0", ALICE, BOB)).await);
        assert!(duplicate("message_create", message("false_6281234567890@c.us_3EB0", ALICE, BOB)).await);
        // An acknowledgement by message and level.
        let own = json!({ "id": "3EB1", "from": BOB, "to": ALICE, "fromMe": true, "timestamp": 1_640_995_200 });
        assert!(!duplicate("message_ack", json!({ "message": own, "ack": 3 })).await);
        assert!(duplicate("message_ack", json!({ "message": own, "ack": 3 })).await);
        let lower = app.tell("shop", "message_ack", json!({ "message": own, "ack": 1 })).await.json();
        assert_eq!(lower["data"]["recorded"], false, "a level never goes down");
        assert_eq!(lower["data"]["duplicate"], true, "more than that was told");
        // A code, also long after another state.
        assert!(!duplicate("qr", json!({ "qr": "2@one" })).await);
        assert!(!duplicate("ready", json!({})).await);
        assert!(duplicate("ready", json!({})).await);
        assert!(duplicate("qr", json!({ "qr": "2@one" })).await);
        // What is so again, after something else was so, is no repetition.
        assert!(!duplicate("disconnected", json!({ "reason": "LOGOUT" })).await);
        assert!(!duplicate("ready", json!({})).await);
        assert_eq!(status(&app, "shop").await["status"], "session_connected");

        // By what the client calls it, whatever it says.
        let named = async |key: &str, state: &str| {
            let body = json!({ "event": "change_state", "data": { "state": state } });
            let request = app.request(Method::POST, "/api/whatsapp/webhook/shop");
            let request = crate::http_app::json(request, &body).header("idempotency-key", key);
            Answer::to(request).await.json()["data"]["duplicate"].as_bool().unwrap()
        };
        assert!(!named("event-1", "TIMEOUT").await);
        assert!(!named("event-2", "CONNECTED").await);
        assert!(named("event-1", "TIMEOUT").await);
        assert_eq!(status(&app, "shop").await["status"], "session_connected");
        app.close().await;
    })
    .await;
}

#[tokio::test]
async fn what_is_older_than_the_state_does_not_move_it_backwards() {
    on_each(async |database| {
        let app = App::start(database).await;
        app.external("shop", json!({})).await;
        let now = app.clock.now().as_secs();
        let at = async |event: &str, data: Value, at: Value| {
            let body = json!({ "event": event, "data": data, "timestamp": at });
            app.post("/api/whatsapp/webhook/shop", body).await.json()["data"].clone()
        };
        at("ready", json!({}), json!(now - 60)).await;
        let late = at("qr", json!({ "qr": "2@old" }), json!(now - 90)).await;
        assert_eq!((&late["outdated"], &late["recorded"]), (&json!(true), &json!(false)));
        assert_eq!(late["status"], "session_connected");
        let late = at("disconnected", json!({ "reason": "x" }), json!((now - 61) * 1000)).await;
        assert_eq!(late["status"], "session_connected");
        // What it says of whose session it is is as true as ever.
        let info = json!({ "phoneNumber": "6289876543210", "pushName": "Shop" });
        let late = at("ready", info, json!(now - 70)).await;
        assert_eq!(late["outdated"], true);
        let seen = status(&app, "shop").await;
        assert_eq!(
            (&seen["phoneNumber"], &seen["pushName"]),
            (&json!("6289876543210"), &json!("Shop"))
        );
        // At the same second, who comes last is right.
        let same = at("disconnected", json!({ "reason": "x" }), json!(now - 60)).await;
        assert_eq!(same["status"], "session_not_connected");
        // A clock that is ahead does not shut out what follows.
        at("ready", json!({}), json!(now + 86_400)).await;
        app.clock.advance(Duration::from_secs(1));
        let next = app.tell("shop", "disconnected", json!({ "reason": "LOGOUT" })).await.json();
        assert_eq!(next["data"]["status"], "session_not_connected");
        app.close().await;
    })
    .await;
}

#[tokio::test]
async fn a_key_is_for_one_body_alone_whatever_it_tells() {
    on_each(async |database| {
        let app = App::start(database).await;
        let other = json!({ "sessionData": { "vps_session_id": "wa_shop" } });
        app.external("shop", other).await;
        app.external("other", json!({})).await;
        let named = async |id: &str, key: &str, body: &Value| {
            let request = app.request(Method::POST, &format!("/api/whatsapp/webhook/{id}"));
            Answer::to(crate::http_app::json(request, body).header("idempotency-key", key)).await
        };
        let of = |event: &str, data: Value| json!({ "event": event, "data": data });
        let own = |id: &str| {
            json!({ "message": {
                "id": id, "from": BOB, "to": ALICE, "fromMe": true, "timestamp": 1_640_995_200,
            } })
        };
        let mut acked = own("3EB7");
        acked["ack"] = json!(2);
        let bodies = [
            of("change_state", json!({ "state": "TIMEOUT" })),
            of("message", message("3EB0", ALICE, BOB)),
            of("message_create", own("3EB1")),
            of("message_ack", acked),
            of("call", json!({ "call": { "id": "c", "from": ALICE } })),
            of("something", json!(7)),
        ];
        for (number, body) in bodies.iter().enumerate() {
            let key = format!("key-{number}");
            let first = named("shop", &key, body).await;
            assert_eq!(first.json()["data"]["recorded"], true, "{}", first.text());
            let again = named("shop", &key, body).await;
            assert_eq!(
                (again.status.as_u16(), &again.json()["data"]["duplicate"]),
                (200, &json!(true))
            );
        }
        let before = (app.row("shop").await, crate::external_receiver::feed(&app, "shop").await);
        app.clock.advance(Duration::from_secs(1));
        for (number, _) in bodies.iter().enumerate() {
            // Another event, the next of the others; one that carries a message that would be new; and a status.
            let mut carries = own("3EB9");
            carries["ack"] = json!(1);
            let next = bodies[(number + 1) % bodies.len()].clone();
            for body in [next, of("message_ack", carries), of("ready", json!({}))] {
                let refused = named("shop", &format!("key-{number}"), &body).await;
                refused.problem(422, "IDEMPOTENCY_KEY_REUSED");
            }
        }
        let body = json!({ "sessionId": "wa_shop", "status": "connected" });
        let report = app.anonymous(Method::POST, "/api/whatsapp/status-webhook");
        let report = crate::http_app::json(report, &body)
            .header("x-webhook-secret", crate::http_app::STATUS_KEY)
            .header("idempotency-key", "key-0");
        Answer::to(report).await.problem(422, "IDEMPOTENCY_KEY_REUSED");
        assert_eq!(
            (app.row("shop").await, crate::external_receiver::feed(&app, "shop").await),
            before
        );
        // Another session's client counts as it likes.
        let theirs = named("other", "key-0", &bodies[1]).await;
        assert_eq!(theirs.json()["data"]["recorded"], true);
        // What was refused for what it says has no key.
        named("shop", "key-9", &of("qr", json!({}))).await.invalid(&["/data/qr"]);
        assert_eq!(named("shop", "key-9", &of("ready", json!({}))).await.status, 200);
        app.close().await;
    })
    .await;
}
