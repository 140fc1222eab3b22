//! What clients elsewhere post: every event of the seed and the rest, recorded through the one door.
//!
//! `external_input.rs` has what is wrong with a post, `external_repeated.rs` what comes again or too late.

use std::time::Duration;

use serde_json::{Value, json};

use crate::{database::on_each, http_app::App, receiver::Receiver, webhooks_api::endpoint};

pub(crate) const ALICE: &str = "6281234567890@c.us";
pub(crate) const BOB: &str = "6289876543210@c.us";

pub(crate) async fn status(app: &App, id: &str) -> Value {
    app.get(&format!("/api/whatsapp/session/status/{id}")).await.json()["data"].clone()
}

async fn messages(app: &App, id: &str) -> Vec<Value> {
    let path = format!("/api/whatsapp/session/{id}/messages?limit=500");
    app.get(&path).await.json()["data"].as_array().unwrap().clone()
}

pub(crate) async fn feed(app: &App, id: &str) -> Vec<(String, Value)> {
    let path = format!("/api/whatsapp/session/{id}/events/page?after=0&limit=1000");
    let page = app.get(&path).await.json();
    let events = page["data"].as_array().unwrap().iter();
    let named = events.map(|it| (it["event"].as_str().unwrap().to_owned(), it["data"].clone()));
    named.filter(|(name, _)| !name.contains('.')).collect()
}

pub(crate) fn message(id: &str, from: &str, to: &str) -> Value {
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
        let told = feed(&app, "shop").await;
        // The seed's `ready` says no number: whom a message is to is what it says itself.
        let (_, heard) = told.iter().find(|(name, _)| name == "message").unwrap();
        let heard = &heard["message"];
        assert_eq!((&heard["from"], &heard["to"]), (&json!(ALICE), &json!(BOB)));
        let names: Vec<_> = told.into_iter().map(|(name, _)| name).collect();
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
        // Whose number the session has is not known: whom it is to is what it says itself.
        let withdrawn = feed(&app, "shop").await.pop().unwrap().1;
        assert_eq!((&withdrawn["message"]["type"], &withdrawn["message"]["to"]), (&json!("revoke"), &json!(BOB)));
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
