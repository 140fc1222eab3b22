//! Whatever makes something makes it once for a key, over all operations that there are.

use reqwest::Method;
use serde_json::{Value, json};

use crate::{
    contract,
    database::on_each,
    http_app::{Answer, App, json as with_json},
    http_lists::Ours,
    meta::SECRET,
};

/// What the bodies of operations that make something are, and another of each.
fn bodies(operation: &str) -> (Value, Value) {
    match operation {
        "createOrganization" => (json!({ "name": "Acme" }), json!({ "name": "Bolt" })),
        "createCampaign" => (json!({ "name": "Sale" }), json!({ "name": "Sell-out" })),
        "createToken" => (json!({ "role": "viewer" }), json!({ "role": "manager" })),
        "rotateToken" => (json!({ "overlapSeconds": 600 }), json!({ "overlapSeconds": 60 })),
        "createSession" => {
            (json!({ "start": false }), json!({ "start": false, "userId": "somebody" }))
        }
        "sendMessage" => (
            json!({ "to": "15550001111", "text": "hello", "queue": true }),
            json!({ "to": "15550001111", "text": "hello!", "queue": true }),
        ),
        "sendMetaMessage" => (
            json!({ "to": "15550001111", "text": "hello" }),
            json!({ "to": "15550001111", "text": "hello!" }),
        ),
        "createWebhook" => (
            json!({ "url": "https://receiver.test/", "headers": { "x-secret": "one" } }),
            json!({ "url": "https://receiver.test/", "headers": { "x-secret": "two" } }),
        ),
        "registerWebhook" => {
            let of = |number| json!({ "phone_number": number, "webhook_url": "https://receiver.test/r" });
            (of("15550001111"), of("15550002222"))
        }
        "upsertMetaAccount" => {
            let of = |number| json!({ "phoneNumberId": number, "appSecret": SECRET });
            (of("1"), of("2"))
        }
        "connectUser" => {
            let of = |user| json!({ "user_id": user, "phone_number": "6281234567890" });
            (of("somebody"), of("somebody-else"))
        }
        "createReplay" => (json!({ "after_sequence": 0 }), json!({ "after_sequence": 1 })),
        other => panic!("{other} makes something: say here what of"),
    }
}

#[tokio::test]
async fn whatever_makes_something_makes_it_once_for_a_key_and_shows_a_secret_once() {
    on_each(async |database| {
        let app = App::start(database).await;
        let ours = Ours::make(&app).await;
        let token = app.post("/api/tokens", json!({ "role": "viewer" })).await.json();
        let token = token["data"]["id"].as_str().unwrap();
        let mut tried = 0;
        for (path, methods) in contract::document()["paths"].as_object().unwrap() {
            let Some(operation) = methods.get("post") else { continue };
            // Who is told where the new thing is has made one.
            let responses = operation["responses"].as_object().unwrap();
            let makes = responses.contains_key("201")
                || responses.values().any(|it| it["headers"].get("Location").is_some());
            let parameters = operation["parameters"].as_array().unwrap();
            let takes_key = parameters.iter().any(|it| it["name"] == "Idempotency-Key");
            let id = operation["operationId"].as_str().unwrap();
            // An event is recorded once, and the session that it may make is called in its address.
            if matches!(id, "receiveEvent" | "reportStatus" | "reportStatusToFunction") {
                continue;
            }
            // What is carried out again makes nothing; a key keeps it from being asked for twice.
            // What has no address of its own is in `idempotency.rs`.
            let repeats = matches!(
                id,
                "reprocessMetaEvent"
                    | "reprocessMetaEvents"
                    | "rotateSessionSecret"
                    | "rotateWebhookSecret"
                    | "rotateMetaVerifyToken"
                    | "addCampaignAudience"
            );
            assert_eq!(makes || repeats, takes_key, "{id}");
            if !makes {
                continue;
            }
            if id == "sendMessage" {
                app.show_qr("walked", "2@code").await;
                app.connect("walked").await;
            }
            let path = ours.subject("", path).path.replace("{tokenId}", token);
            let ask = |key: &str, body: &Value| {
                let request = app.request(Method::POST, &path).header("idempotency-key", key);
                Answer::to(with_json(request, body))
            };
            let (body, other) = bodies(id);
            let key = format!("key-{id}");
            let first = ask(&key, &body).await;
            assert!(matches!(first.status.as_u16(), 201 | 202), "{id}: {}", first.text());
            assert_eq!(first.header("idempotency-replayed"), "", "{id}");
            let again = ask(&key, &body).await;
            // Seed 002's senders take nothing but 201 for an answer.
            let repeated = if id == "connectUser" { 201 } else { 200 };
            assert_eq!(again.status, repeated, "{id}: {}", again.text());
            assert_eq!(again.header("idempotency-replayed"), "true", "{id}");
            assert_eq!(again.header("location"), first.header("location"), "{id}");
            // A seed's answer may stand alone.
            let data = |answer: &Answer| {
                let json = answer.json();
                json.get("data").cloned().unwrap_or(json)
            };
            let (mut made, mut replayed) = (data(&first), data(&again));
            for name in ["secret", "verifyToken"] {
                let secret = made.as_object_mut().unwrap().remove(name);
                let Some(secret) = secret.filter(|it| !it.is_null()) else { continue };
                assert!(secret.as_str().is_some_and(|it| it.len() > 20), "{id}");
                assert!(!again.text().contains(secret.as_str().unwrap()), "{id}");
                replayed.as_object_mut().unwrap().remove(name);
            }
            assert_eq!(made, replayed, "{id}");
            ask(&key, &other).await.problem(422, "IDEMPOTENCY_KEY_REUSED");
            // A key of one kind of thing is none of another.
            let elsewhere = app.request(Method::POST, "/api/organizations");
            let elsewhere = elsewhere.header("idempotency-key", &key);
            let elsewhere = Answer::to(with_json(elsewhere, &json!({ "name": "Elsewhere" })));
            elsewhere.await.problem(422, "IDEMPOTENCY_KEY_REUSED");
            ask("two words", &body).await.invalid(&["/Idempotency-Key"]);
            tried += 1;
        }
        assert!(tried >= 10, "{tried}");
        app.close().await;
    })
    .await;
}

#[tokio::test]
async fn a_refused_request_leaves_its_key_free() {
    on_each(async |database| {
        let app = App::start(database).await;
        let limit = |number| json!({ "maxSessions": number });
        let organization = format!("/api/organizations/{}", app.organization);
        app.session("one").await;
        app.patch(&organization, limit(1)).await;
        let ask = |id: &str| {
            let request = app.request(Method::POST, "/api/whatsapp/session");
            let request = request.header("idempotency-key", "k");
            Answer::to(with_json(request, &json!({ "sessionId": id, "start": false })))
        };
        ask("two").await.problem(409, "TOO_MANY_SESSIONS");
        app.patch(&organization, limit(5)).await;
        ask("one").await.problem(409, "SESSION_EXISTS");
        assert_eq!(ask("two").await.status, 201);
        assert_eq!(ask("two").await.status, 200);
        // What is gone is not made anew by a request that was carried out.
        assert_eq!(app.delete("/api/whatsapp/session/two").await.status, 200);
        ask("two").await.problem(409, "IDEMPOTENCY_RESULT_GONE");
        app.close().await;
    })
    .await;
}
