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
