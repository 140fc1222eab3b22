//! What is wrong with what clients elsewhere post: told at once, all of it, and where.

use reqwest::Method;
use serde_json::{Value, json};

use crate::{
    database::on_each,
    external_receiver::{BOB, feed},
    http_app::{Answer, App},
};

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
        for wrong in [
            "12",
            "6281234567890@lid",
            "120363000000000001@g.us",
            "120363000000000001@newsletter",
            "status@broadcast",
            "6281234567890:@c.us",
            "6281234567890:x@c.us",
            "6281234567890:12",
            "6281234567890@c.us@c.us",
            "@c.us",
        ] {
            told("ready", json!({ "phoneNumber": wrong }), &["/data/phoneNumber"]).await;
        }
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
async fn a_number_may_be_written_as_the_address_of_its_account_and_of_one_of_its_devices() {
    on_each(async |database| {
        let app = App::start(database).await;
        for (number, written) in [
            "6281234567890",
            "+62 812-3456-7890",
            "6281234567890@c.us",
            "6281234567890@s.whatsapp.net",
            "6281234567890:12@s.whatsapp.net",
            "6281234567890:3@c.us",
        ]
        .into_iter()
        .enumerate()
        {
            let id = format!("shop-{number}");
            app.external(&id, json!({})).await;
            let told = app.tell(&id, "ready", json!({ "phoneNumber": written })).await;
            assert_eq!(told.status, 200, "{written}: {}", told.text());
            let row = app.row(&id).await;
            assert_eq!(row.phone_number.as_deref(), Some("6281234567890"), "{written}");
            assert_eq!(row.account_jid.as_deref(), Some("6281234567890@s.whatsapp.net"));
        }
        app.close().await;
    })
    .await;
}

#[tokio::test]
async fn an_event_without_a_name_here_is_kept_whatever_it_carries() {
    on_each(async |database| {
        let app = App::start(database).await;
        app.external("shop", json!({})).await;
        let kept = [
            json!("loud"),
            json!(7),
            json!(false),
            json!([1, { "a": null }]),
            Value::Null,
            json!({ "timestamp": "soon", "message": 7 }),
        ];
        for (number, data) in kept.iter().enumerate() {
            let told = app.tell("shop", &format!("new_{number}"), data.clone()).await;
            assert_eq!(told.status, 202, "{data}: {}", told.text());
        }
        let body = json!({ "event": "bare" });
        assert_eq!(app.post("/api/whatsapp/webhook/shop", body).await.status, 202);
        let told = feed(&app, "shop").await;
        let data: Vec<_> = told.iter().map(|(_, data)| data["data"].clone()).collect();
        assert_eq!(data[..6], kept);
        assert!(told.iter().all(|(name, _)| name == "unknown"));
        // Of one with a name it must be as it must.
        app.tell("shop", "ready", json!("loud")).await.invalid(&["/data"]);
        app.close().await;
    })
    .await;
}
