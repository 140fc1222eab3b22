//! What clients elsewhere post: every event of the seed and the rest, read strictly, recorded once, and through
//! the one door.

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};

use crate::{
    database::on_each,
    http_app::{Answer, App},
    receiver::Receiver,
    webhooks_api::endpoint,
};

const ALICE: &str = "6281234567890@c.us";
const BOB: &str = "6289876543210@c.us";

async fn status(app: &App, id: &str) -> Value {
    app.get(&format!("/api/whatsapp/session/status/{id}")).await.json()["data"].clone()
}

async fn messages(app: &App, id: &str) -> Vec<Value> {
    let path = format!("/api/whatsapp/session/{id}/messages?limit=500");
    app.get(&path).await.json()["data"].as_array().unwrap().clone()
}

async fn feed(app: &App, id: &str) -> Vec<(String, Value)> {
    let path = format!("/api/whatsapp/session/{id}/events/page?after=0&limit=1000");
    let page = app.get(&path).await.json();
    let events = page["data"].as_array().unwrap().iter();
    let named = events.map(|it| (it["event"].as_str().unwrap().to_owned(), it["data"].clone()));
    named.filter(|(name, _)| !name.contains('.')).collect()
}

fn message(id: &str, from: &str, to: &str) -> Value {
    json!({ "message": {
        "id": id, "body": "Hello World", "from": from, "to": to, "timestamp": 1_640_995_200,
    } })
}

/// The seed's own payloads, in the seed's own order.
#[tokio::test]
async fn the_nine_events_of_the_seed_do_what_the_seed_says() {
    on_each(async |database| {
        let app = App::start(database).await;
        app.external("shop", json!({})).await;
        let told = async |event: &str, data: Value| {
            let answer = app.tell("shop", event, data).await;
            assert_eq!(answer.status, 200, "{}", answer.text());
            assert_eq!(answer.json()["data"]["recorded"], true, "{}", answer.text());
            app.clock.advance(Duration::from_secs(1));
            status(&app, "shop").await
        };
        let seen = told("qr", json!({ "qr": "1@ABC123..." })).await;
        assert_eq!(seen["status"], "qr_generated");
        assert_eq!(seen["message"], "QR code generated, scan to connect");
        assert_eq!((&seen["qr"], &seen["needsQR"]), (&json!("1@ABC123..."), &json!(true)));
        assert!(seen["qrImage"].as_str().unwrap().starts_with("data:image/png;base64,"));
        let seen = told("authenticated", json!({})).await;
        assert_eq!(seen["status"], "loading");
        let seen =
            told("loading_screen", json!({ "percent": 75, "message": "Loading session..." })).await;
        assert_eq!((&seen["isLoading"], &seen["loadingPercent"]), (&json!(true), &json!(75)));
        assert_eq!(seen["message"], "Loading session...");
        let seen = told("ready", json!({})).await;
        assert_eq!(seen["status"], "session_connected");
        assert_eq!((&seen["isConnected"], &seen["qr"]), (&json!(true), &Value::Null));
        let seen = told("message", message("msg_123", ALICE, BOB)).await;
        assert_eq!(seen["isConnected"], true);
        let own = json!({ "message": {
            "id": "msg_124", "body": "Hi", "from": BOB, "to": ALICE, "fromMe": true,
            "timestamp": 1_640_995_201,
        } });
        told("message_create", own.clone()).await;
        told("message_ack", json!({ "message": own["message"], "ack": 2 })).await;
        told("call", json!({ "call": { "id": "call_123", "from": ALICE } })).await;
        let seen = told("change_state", json!({ "state": "connecting" })).await;
        assert_eq!((&seen["status"], &seen["isLoading"]), (&json!("connecting"), &json!(true)));
        let seen = told("disconnected", json!({ "reason": "User logged out" })).await;
        assert_eq!(seen["status"], "session_not_connected");
        assert_eq!(seen["message"], "User logged out");
        assert_eq!(seen["lastDisconnect"]["reason"], "User logged out");
        let seen = told("auth_failure", json!({ "msg": "Invalid QR scan" })).await;
        assert_eq!((&seen["status"], &seen["hasError"]), (&json!("auth_failure"), &json!(true)));
        assert_eq!(seen["message"], "Invalid QR scan");

        let rows = messages(&app, "shop").await;
        assert_eq!(rows.len(), 2);
        let of = |id: &str| rows.iter().find(|row| row["waId"] == id).unwrap();
        let heard = of("msg_123");
        assert_eq!((&heard["direction"], &heard["from"]), (&json!("inbound"), &json!(ALICE)));
        assert_eq!(
            (&heard["body"], &heard["timestamp"]),
            (&json!("Hello World"), &json!("2022-01-01T00:00:00.000Z"))
        );
        let sent = of("msg_124");
        assert_eq!((&sent["direction"], &sent["ack"]), (&json!("outbound"), &json!(2)));
        let names: Vec<_> = feed(&app, "shop").await.into_iter().map(|(name, _)| name).collect();
        assert_eq!(
            names,
            [
                "qr",
                "authenticated",
                "loading_screen",
                "ready",
                "message",
                "message_create",
                "message_ack",
                "call",
                "change_state",
                "disconnected",
                "auth_failure"
            ]
        );
        app.close().await;
    })
    .await;
}

#[tokio::test]
async fn every_state_of_the_table_is_the_status_that_the_table_says() {
    on_each(async |database| {
        let app = App::start(database).await;
        app.external("shop", json!({})).await;
        for (state, expected) in [
            ("OPENING", "connecting"),
            ("CONNECTED", "session_connected"),
            ("TIMEOUT", "connecting"),
            ("UNPAIRED", "session_not_connected"),
            ("PAIRING", "connecting"),
            ("UNPAIRED_IDLE", "session_not_connected"),
            ("reconnecting", "connecting"),
            ("CONFLICT", "session_not_connected"),
            ("TOS_BLOCK", "error"),
            ("connected", "session_connected"),
            ("SMB_TOS_BLOCK", "error"),
            ("PROXYBLOCK", "error"),
            ("DEPRECATED_VERSION", "error"),
        ] {
            app.tell("shop", "change_state", json!({ "state": state })).await;
            let seen = status(&app, "shop").await;
            assert_eq!(seen["status"], expected, "{state}");
            assert_eq!(seen["reconnecting"], state == "reconnecting", "{state}");
            assert_eq!(seen["hasError"], expected == "error", "{state}");
        }
        app.close().await;
    })
    .await;
}

#[tokio::test]
async fn what_is_wrong_with_a_payload_is_told_at_once_with_pointers_and_changes_nothing() {
    on_each(async |database| {
        let app = App::start(database).await;
        app.external("shop", json!({})).await;
        let before = app.row("shop").await;
        let path = "/api/whatsapp/webhook/shop";
        app.post(path, json!({})).await.invalid(&["/event"]);
        app.post(path, json!({ "event": 7, "data": [] })).await.invalid(&["/event", "/data"]);
        app.post(path, json!({ "event": "ready", "timestamp": "soon" }))
            .await
            .invalid(&["/timestamp"]);
        let told = async |event: &str, data: Value, pointers: &[&str]| {
            app.tell("shop", event, data).await.invalid(pointers);
        };
        told("qr", json!({}), &["/data/qr"]).await;
        told("qr", json!({ "qr": "" }), &["/data/qr"]).await;
        told(
            "loading_screen",
            json!({ "percent": 101, "message": 7 }),
            &["/data/percent", "/data/message"],
        )
        .await;
        told("change_state", json!({ "state": "PAIRED" }), &["/data/state"]).await;
        told("disconnected", json!({ "reason": {} }), &["/data/reason"]).await;
        told("auth_failure", json!({ "msg": 1 }), &["/data/msg"]).await;
        told("ready", json!({ "phoneNumber": "12" }), &["/data/phoneNumber"]).await;
        told("message", json!({ "message": "hello" }), &["/data/message"]).await;
        told(
            "message",
            json!({ "message": { "id": 7, "body": 7, "timestamp": "x", "fromMe": "no" } }),
            &[
                "/data/message/id",
                "/data/message/from",
                "/data/message/body",
                "/data/message/fromMe",
                "/data/message/timestamp",
            ],
        )
        .await;
        told(
            "message_create",
            json!({ "message": { "id": "a", "from": BOB } }),
            &["/data/message/to"],
        )
        .await;
        told("message_ack", json!({ "message": {}, "ack": 5 }), &["/data/message/id", "/data/ack"])
            .await;
        told("message_ack", json!({ "message": {}, "ack": 1 }), &["/data/message/id"]).await;
        told(
            "message_reaction",
            json!({ "reaction": {} }),
            &["/data/reaction/reaction", "/data/reaction/msgId", "/data/reaction/senderId"],
        )
        .await;
        told(
            "message_revoke",
            json!({ "message": {} }),
            &["/data/message/id", "/data/message/from"],
        )
        .await;
        told("call", json!({ "call": { "id": "" } }), &["/data/call/id", "/data/call/from"]).await;
        told(
            "group_join",
            json!({ "recipientIds": ["x@y", 7] }),
            &["/data/chatId", "/data/recipientIds/1"],
        )
        .await;

        let malformed = app.request(Method::POST, path).header("content-type", "application/json");
        let problem =
            Answer::to(malformed.body("{\n  \"event\": }")).await.problem(400, "MALFORMED_JSON");
        let detail = problem["errors"][0]["detail"].as_str().unwrap();
        assert!(detail.contains("line 2 column 12"), "{detail}");
        let large = json!({ "event": "x", "data": { "x": "y".repeat(1 << 20) } });
        app.post(path, large).await.problem(413, "BODY_TOO_LARGE");
        let form = app
            .request(Method::POST, path)
            .header("content-type", "application/x-www-form-urlencoded");
        Answer::to(form.body("event=ready")).await.problem(415, "UNSUPPORTED_MEDIA_TYPE");

        assert_eq!(app.row("shop").await, before);
        assert!(feed(&app, "shop").await.is_empty());
        app.close().await;
    })
    .await;
}

#[tokio::test]
async fn an_event_without_a_name_here_is_kept_and_answered_with_202() {
    on_each(async |database| {
        let app = App::start(database).await;
        app.external("shop", json!({})).await;
        let data = json!({ "anything": [1, { "is": null }] });
        let first = app.tell("shop", "contact_changed", data.clone()).await;
        assert_eq!(first.status, 202);
        let again = app.tell("shop", "contact_changed", data.clone()).await;
        assert_eq!(
            (again.status.as_u16(), &again.json()["data"]["duplicate"]),
            (200, &json!(true))
        );
        let kept = feed(&app, "shop").await;
        assert_eq!(
            kept,
            [("unknown".to_owned(), json!({ "event": "contact_changed", "data": data }))]
        );
        // Later it may be so again.
        app.clock.advance(Duration::from_mins(21));
        assert_eq!(app.tell("shop", "contact_changed", data).await.status, 202);
        app.close().await;
    })
    .await;
}

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
async fn reactions_withdrawals_and_groups_are_kept_as_those_of_embedded_sessions_are() {
    on_each(async |database| {
        let app = App::start(database).await;
        app.external("shop", json!({})).await;
        let group = "120363000000000001@g.us";
        let of_group = json!({ "message": {
            "id": { "fromMe": false, "remote": group, "id": "3EB0", "_serialized": "false_120363000000000001@g.us_3EB0_6281234567890@c.us" },
            "from": group, "to": BOB, "author": ALICE, "body": "all", "type": "chat",
            "notifyName": "Ada", "hasMedia": false, "mentionedIds": [], "timestamp": 1_640_995_200,
        } });
        app.tell("shop", "message", of_group.clone()).await;
        let reaction = json!({ "reaction": {
            "id": { "fromMe": false, "remote": group, "id": "3EB1" }, "reaction": "👍",
            "msgId": { "fromMe": false, "remote": group, "id": "3EB0" }, "senderId": ALICE,
            "timestamp": 1_640_995_201, "orphan": 0, "read": false,
        } });
        app.tell("shop", "message_reaction", reaction).await;
        app.tell("shop", "message_revoke", of_group).await;
        let rows = messages(&app, "shop").await;
        assert_eq!(rows.len(), 3);
        let of = |kind: &str| rows.iter().find(|row| row["type"] == kind).unwrap();
        assert_eq!((&of("text")["chat"], &of("text")["from"]), (&json!(group), &json!(ALICE)));
        assert_eq!(of("text")["pushName"], "Ada");
        assert_eq!((&of("reaction")["body"], &of("reaction")["targetId"]), (&json!("👍"), &json!("3EB0")));
        assert_eq!(of("reaction")["chat"], group);
        assert_eq!(of("revoke")["targetId"], "3EB0");

        let notice = json!({ "notification": {
            "id": { "remote": group, "id": "3EB2" }, "chatId": group, "author": ALICE,
            "recipientIds": [BOB], "type": "add", "timestamp": 1_640_995_202,
        } });
        app.tell("shop", "group_join", notice.clone()).await;
        let again = app.tell("shop", "group_join", notice).await.json();
        assert_eq!(again["data"]["duplicate"], true);
        let kept = feed(&app, "shop").await;
        let (name, data) = kept.last().unwrap();
        assert_eq!(name, "group_join");
        assert_eq!(data["group"]["participants"], json!([BOB]));
        app.close().await;
    })
    .await;
}

#[tokio::test]
async fn what_is_posted_goes_to_webhooks_and_says_whose_number_it_is() {
    on_each(async |database| {
        let app = App::start(database).await;
        let receiver = Receiver::start().await;
        let body = json!({
            "url": receiver.url(), "format": "flat", "event_types": ["message"],
            "phone_numbers": ["6289876543210"],
        });
        endpoint(&app, body).await;
        app.external("shop", json!({})).await;
        let info = json!({ "info": { "wid": { "user": "6289876543210", "_serialized": BOB }, "pushname": "Shop" } });
        app.tell("shop", "ready", info).await;
        let seen = status(&app, "shop").await;
        assert_eq!((&seen["phoneNumber"], &seen["pushName"]), (&json!("6289876543210"), &json!("Shop")));
        app.tell("shop", "message", message("msg_123", ALICE, BOB)).await;
        app.tell("shop", "message", message("msg_123", ALICE, BOB)).await;
        app.deliveries.drive().await.unwrap();
        let requests = receiver.arrived(1).await;
        let told = requests[0].json();
        assert_eq!((&told["message_id"], &told["content"]), (&json!("msg_123"), &json!("Hello World")));
        assert_eq!((&told["from"], &told["to"]), (&json!("6281234567890"), &json!("6289876543210")));
        assert_eq!(told["timestamp"], "2022-01-01T00:00:00Z");
        app.close().await;
    })
    .await;
}
