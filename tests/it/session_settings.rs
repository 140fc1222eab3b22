//! Settings of sessions, and campaigns, which go with a handover.

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::{
    database::on_each,
    handover::{SESSION, status},
    http_app::{Answer, App},
};

#[tokio::test]
async fn settings_are_set_changed_cleared_and_bounded() {
    on_each(async |database| {
        let app = App::start(database).await;
        let body = json!({
            "sessionId": "shop", "start": false, "isNotification": true,
            "aiConfig": { "prompt": "Be kind\u{0}", "depth": { "n": [1, 2.5, null] } },
        });
        let made = app.post(SESSION, body.clone()).await;
        assert_eq!(made.status, StatusCode::CREATED, "{}", made.text());
        let made = made.json()["data"].clone();
        assert_eq!((&made["isNotification"], &made["aiConfig"]), (&json!(true), &body["aiConfig"]));
        app.session("plain").await;
        let plain = status(&app, "plain").await;
        assert_eq!((&plain["isNotification"], &plain["aiConfig"]), (&json!(false), &Value::Null));

        let path = format!("{SESSION}/shop");
        let changed = app.patch(&path, json!({ "isNotification": false })).await.json();
        assert_eq!(changed["data"]["isNotification"], false);
        assert_eq!(changed["data"]["aiConfig"], body["aiConfig"]);
        let cleared = app.patch(&path, json!({ "aiConfig": null })).await.json();
        assert_eq!(cleared["data"]["aiConfig"], Value::Null);
        let entry = app.get("/api/audit?action=session_changed&limit=1").await.json();
        assert_eq!(entry["data"][0]["detail"], json!({ "changed": ["aiConfig"] }));

        for (name, wrong) in [
            ("isNotification", json!("yes")),
            ("isNotification", json!(1)),
            ("aiConfig", json!([])),
            ("aiConfig", json!("{}")),
            ("aiConfig", json!({ "long": "x".repeat(16 << 10) })),
        ] {
            let pointer = format!("/{name}");
            let body = json!({ name: wrong });
            app.patch(&path, body.clone()).await.invalid(&[&pointer]);
            app.post(SESSION, body).await.invalid(&[&pointer]);
        }
        let longest = "x".repeat((16 << 10) - 11);
        let kept = app.patch(&path, json!({ "aiConfig": { "long": longest } })).await;
        assert_eq!(kept.status, StatusCode::OK, "{}", kept.text());

        // A repeated request is the same only with the same settings.
        let keyed = async |body: &Value| {
            let request = app.request(Method::POST, SESSION).header("idempotency-key", "k");
            Answer::to(crate::http_app::json(request, body)).await
        };
        let body = json!({ "start": false, "aiConfig": { "a": 1 } });
        let first = keyed(&body).await.json()["data"]["sessionId"].clone();
        assert_eq!(keyed(&body).await.json()["data"]["sessionId"], first);
        let other = keyed(&json!({ "start": false, "aiConfig": { "a": 2 } })).await;
        other.problem(422, "IDEMPOTENCY_KEY_REUSED");
        app.close().await;
    })
    .await;
}

#[tokio::test]
async fn campaigns_are_made_once_found_again_and_outlive_their_session() {
    on_each(async |database| {
        let app = App::start(database).await;
        app.session("shop").await;
        let keyed = async |body: &Value| {
            let request =
                app.request(Method::POST, "/api/campaigns").header("idempotency-key", "k");
            Answer::to(crate::http_app::json(request, body)).await
        };
        let body = json!({ "name": "Sale", "sessionId": "shop" });
        let made = keyed(&body).await;
        assert_eq!(made.status, StatusCode::CREATED, "{}", made.text());
        let made = made.json()["data"].clone();
        assert!(made["id"].as_str().unwrap().starts_with("camp_"));
        let again = keyed(&body).await;
        assert_eq!((again.status, &again.json()["data"]), (StatusCode::OK, &made));
        keyed(&json!({ "name": "Other" })).await.problem(422, "IDEMPOTENCY_KEY_REUSED");
        let path = format!("/api/campaigns/{}", made["id"].as_str().unwrap());
        assert_eq!(app.get(&path).await.json()["data"], made);

        app.post("/api/campaigns", json!({})).await.invalid(&["/name"]);
        app.post("/api/campaigns", json!({ "name": "" })).await.invalid(&["/name"]);
        app.post("/api/campaigns", json!({ "name": "x", "sessionId": "a b" }))
            .await
            .invalid(&["/sessionId"]);
        let nobody = json!({ "name": "x", "sessionId": "nobody" });
        app.post("/api/campaigns", nobody).await.problem(404, "SESSION_NOT_FOUND");
        app.get("/api/campaigns/camp_nonsense").await.problem(404, "CAMPAIGN_NOT_FOUND");

        app.delete(&format!("{SESSION}/shop?logout=false")).await;
        assert_eq!(app.get(&path).await.json()["data"]["sessionId"], Value::Null);
        app.close().await;
    })
    .await;
}
