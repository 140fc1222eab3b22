//! Sessions that run elsewhere, as a resource: made, shown, changed and deleted; nobody starts them here.

use reqwest::StatusCode;
use serde_json::json;

use crate::{database::on_each, http_app::App};

const VPS: &str = "wa_a545e2c1-0b0e-4b6e-9a7b-5c4d3e2f1a0b";

#[tokio::test]
async fn a_session_that_runs_elsewhere_is_made_shown_changed_and_deleted() {
    on_each(async |database| {
        let app = App::start(database).await;
        let data = json!({ "vps_session_id": VPS, "host": "vps-1" });
        let made = app.external("shop", json!({ "sessionData": data, "userId": "u-1" })).await;
        assert_eq!(made["origin"], "external");
        assert_eq!(made["sessionData"], data);
        assert_eq!(made["webhookAuth"], "token");
        assert_eq!(made["webhookUrl"], "/api/whatsapp/webhook/shop");
        assert_eq!(made["desiredState"], "stopped");
        assert_eq!(made["status"], "session_not_connected");
        assert!(made.get("secret").is_none());
        let shown = app.get("/api/whatsapp/session/shop").await.json()["data"].clone();
        assert_eq!(shown["sessionData"], data);
        let listed = app.get("/api/whatsapp/session/list-realtime?userId=u-1").await.json();
        assert_eq!(listed["data"][0]["sessionId"], "shop");

        let path = "/api/whatsapp/session/shop";
        let data = json!({ "note": "moved" });
        let changed = app.patch(path, json!({ "sessionData": data })).await.json();
        assert_eq!(changed["data"]["sessionData"], data);
        let changed = app.patch(path, json!({ "userId": "u-2" })).await.json();
        assert_eq!(changed["data"]["sessionData"], data, "what is not named is kept");
        let changed = app.patch(path, json!({ "sessionData": null })).await.json();
        assert!(changed["data"]["sessionData"].is_null());

        for act in ["start", "stop", "restart", "logout"] {
            app.post(&format!("{path}/{act}"), json!({})).await.problem(409, "SESSION_EXTERNAL");
        }
        let pair = json!({ "phoneNumber": "6281234567890" });
        app.post(&format!("{path}/pair"), pair).await.problem(409, "SESSION_EXTERNAL");
        let message = json!({ "to": "15550001111", "text": "hello", "queue": true });
        app.post(&format!("{path}/messages"), message).await.problem(409, "SESSION_EXTERNAL");

        let gone = app.delete(path).await.json();
        assert_eq!(gone["data"]["deleted"], true);
        assert_eq!(gone["data"]["unlinked"], false, "that is for where it runs");
        app.get(path).await.problem(404, "SESSION_NOT_FOUND");
        app.close().await;
    })
    .await;
}

#[tokio::test]
async fn what_is_for_sessions_elsewhere_is_refused_of_others_and_read_strictly() {
    on_each(async |database| {
        let app = App::start(database).await;
        let path = "/api/whatsapp/session";
        let body = json!({ "sessionData": {}, "webhookAuth": "secret", "start": false });
        app.post(path, body).await.invalid(&["/sessionData", "/webhookAuth"]);
        let body = json!({ "origin": "elsewhere", "sessionData": 7, "webhookAuth": "none" });
        app.post(path, body).await.invalid(&["/origin", "/sessionData", "/webhookAuth"]);
        let body = json!({ "origin": "external", "start": true });
        app.post(path, body).await.invalid(&["/start"]);
        let body =
            json!({ "origin": "external", "sessionData": { "vps_session_id": 7 }, "userId": "" });
        app.post(path, body).await.invalid(&["/userId", "/sessionData/vps_session_id"]);
        let large = json!({ "origin": "external", "sessionData": { "x": "y".repeat(17_000) } });
        app.post(path, large).await.invalid(&["/sessionData"]);

        app.session("here").await;
        let change = json!({ "sessionData": { "x": 1 }, "webhookAuth": "token" });
        let changed = app.patch(&format!("{path}/here"), change).await;
        changed.invalid(&["/sessionData", "/webhookAuth"]);
        app.post(&format!("{path}/here/secret/rotate"), json!({}))
            .await
            .problem(409, "SESSION_EMBEDDED");
        app.close().await;
    })
    .await;
}

/// Whoever reports a status names nothing but this id. Whoever names another's is told nothing of it, and gets nothing.
#[tokio::test]
async fn a_name_where_it_runs_is_one_session_s_of_an_organization_and_the_first_s_of_all() {
    on_each(async |database| {
        let app = App::start(database).await;
        let data = json!({ "vps_session_id": VPS });
        app.external("shop", json!({ "sessionData": data })).await;
        let path = "/api/whatsapp/session";
        let second = json!({ "sessionId": "two", "origin": "external", "sessionData": data });
        app.post(path, second.clone()).await.problem(409, "VPS_SESSION_EXISTS");
        let stranger = app.stranger(database).await;
        app.clock.advance(std::time::Duration::from_secs(1));
        let request = app.anonymous(reqwest::Method::POST, path).bearer_auth(&stranger);
        let made = crate::http_app::Answer::to(crate::http_app::json(request, &second)).await;
        assert_eq!(made.status, StatusCode::CREATED, "{}", made.text());
        assert!(!made.text().contains("shop"), "{}", made.text());
        let theirs = async || {
            let request = app.anonymous(reqwest::Method::GET, &format!("{path}/two"));
            let shown = crate::http_app::Answer::to(request.bearer_auth(&stranger)).await.json();
            shown["data"].get("status").or(shown.get("status")).unwrap().clone()
        };
        let report = async |status: &str| {
            let body =
                json!({ "sessionId": VPS, "status": status, "phoneNumber": "6281234567890" });
            let request = app.anonymous(reqwest::Method::POST, "/api/whatsapp/status-webhook");
            let request = request.header("webhook-secret-key", crate::http_app::STATUS_KEY);
            crate::http_app::Answer::to(crate::http_app::json(request, &body)).await.json()
        };
        assert_eq!(report("connected").await["data"]["sessionId"], "shop");
        assert_eq!(theirs().await, "session_not_connected");
        // Neither by saying it once more, nor because theirs is the older session, do they come first.
        let again = app.anonymous(reqwest::Method::PATCH, &format!("{path}/two"));
        let again =
            crate::http_app::json(again.bearer_auth(&stranger), &json!({ "sessionData": data }));
        assert_eq!(crate::http_app::Answer::to(again).await.status, StatusCode::OK);
        database.execute("UPDATE session SET created_at = 1 WHERE session_id = 'two'").await;
        assert_eq!(report("disconnected").await["data"]["sessionId"], "shop");
        assert_eq!(theirs().await, "session_not_connected");

        app.clock.advance(std::time::Duration::from_secs(1));
        // Of the organization's own it is told.
        app.external("two", json!({})).await;
        let change = json!({ "sessionData": data });
        app.patch(&format!("{path}/two"), change.clone()).await.problem(409, "VPS_SESSION_EXISTS");
        // It may be said again of the one that has it, and is free once that is gone.
        assert_eq!(app.patch(&format!("{path}/shop"), change.clone()).await.status, StatusCode::OK);
        app.delete(&format!("{path}/shop")).await;
        assert_eq!(app.patch(&format!("{path}/two"), change).await.status, StatusCode::OK);
        // Who said it next is meant from now on.
        assert_eq!(report("connected").await["data"]["sessionId"], "two");
        assert_eq!(theirs().await, "session_connected");
        app.close().await;
    })
    .await;
}
