//! Idempotency keys: whatever makes something takes one, and what it says the second time is clear.

use reqwest::Method;
use serde_json::{Value, json};
use wagate::http::{Access, Limits, routes};

use crate::{
    contract,
    database::on_each,
    http_app::{Answer, App, json as with_json},
    meta::{NUMBER, SECRET, WABA, complete, set_up},
    meta_statuses::{add, campaign, sums},
    webhooks_api::endpoint,
};

/// Posts that make nothing, and why.
const MAKE_NOTHING: &[(&str, &str)] = &[
    ("startSession", "a wish, which is the same however often it is said"),
    ("stopSession", "the same"),
    ("restartSession", "dials again, and says so"),
    ("logOutSession", "what is logged out is"),
    ("pairSession", "for the same number the code that is still good"),
    ("migrateSessions", "running it twice changes nothing"),
    ("signQrUrl", "an address is signed, and nothing kept"),
    ("signMediaUrl", "the same"),
    ("recountCampaign", "sums are set right, whoever counts"),
    ("pauseWebhook", "a state"),
    ("resumeWebhook", "a state"),
    ("testWebhook", "an example is sent, and nothing kept"),
    ("cancelReplay", "a state"),
    ("retryDelivery", "a delivery is due; no second one is made"),
    ("setMetaAccountStatus", "a state"),
    ("markConversationRead", "what was read is read"),
    // Known by what is in them: Meta's by its ids.
    ("receiveMetaEvents", "what was told once is kept once"),
    ("receiveMetaEventsShort", "the same"),
    ("receiveMetaEventsOfAccount", "the same"),
];

/// Every route that posts is in the one list or takes a key, so none can be forgotten; and its handler does look at it.
#[tokio::test]
async fn every_post_takes_a_key_or_makes_nothing() {
    on_each(async |database| {
        let app = App::start(database).await;
        let document = contract::document();
        let (mut keyed, mut free) = (0, Vec::new());
        for route in routes(&Limits::default()) {
            if route.method != Method::POST {
                continue;
            }
            let (id, operation) = (route.operation, &document["paths"][route.path]["post"]);
            let parameters = operation["parameters"].as_array().unwrap();
            let takes_key = parameters.iter().any(|it| it["name"] == "Idempotency-Key");
            let makes_nothing = MAKE_NOTHING.iter().any(|(name, _)| *name == id);
            assert_ne!(takes_key, makes_nothing, "{id}: takes a key, or say why it makes nothing");
            if makes_nothing {
                free.push(id);
                continue;
            }
            keyed += 1;
            if !matches!(route.access, Access::AtLeast(_)) {
                // Who posts to these is looked at first: `external_repeated.rs`.
                continue;
            }
            // None of these is there: the key is looked at before that.
            let path = [
                ("{sessionId}", "nobody"),
                ("{campaignId}", "camp_01JJ2Q8ZK4XG0V3M5N7P9R1T3V"),
                ("{webhookId}", "ep_01JJ2Q8ZK4XG0V3M5N7P9R1T3V"),
                ("{accountId}", "mac_01JJ2Q8ZK4XG0V3M5N7P9R1T3V"),
                ("{tokenId}", "tok_01JJ2Q8ZK4XG0V3M5N7P9R1T3V"),
                ("{metaEventId}", "mev_01JJ2Q8ZK4XG0V3M5N7P9R1T3V"),
            ];
            let path = path.iter().fold(route.path.to_owned(), |it, (of, id)| it.replace(of, id));
            assert!(!path.contains('{'), "{path}: say here what such an id is");
            let request = app.request(Method::POST, &path).header("idempotency-key", "two words");
            let answer = Answer::to(with_json(request, &json!({}))).await;
            let problem = answer.problem(400, "VALIDATION_FAILED");
            let errors = problem["errors"].as_array().unwrap();
            assert!(errors.iter().any(|it| it["pointer"] == "/Idempotency-Key"), "{id}: {problem}");
        }
        for (name, _) in MAKE_NOTHING {
            assert!(free.contains(name), "{name} is no route");
        }
        assert!(keyed > 15, "{keyed}");
        app.close().await;
    })
    .await;
}

/// Asks twice under a key: what was answered, and the second time without the secret.
async fn twice(app: &App, path: &str, body: &Value, secret: &str) -> (Value, Value) {
    let ask = |key: &'static str, body: &Value| {
        let request = app.request(Method::POST, path).header("idempotency-key", key);
        Answer::to(with_json(request, body))
    };
    let first = ask("a key", body).await;
    first.invalid(&["/Idempotency-Key"]);
    let first = ask("key", body).await;
    assert_eq!(first.status, 200, "{}", first.text());
    assert_eq!(first.header("idempotency-replayed"), "");
    let again = ask("key", body).await;
    assert_eq!(again.status, 200, "{}", again.text());
    assert_eq!(again.header("idempotency-replayed"), "true");
    let (first, again) = (first.json()["data"].clone(), again.json()["data"].clone());
    if !secret.is_empty() {
        assert!(first[secret].as_str().is_some_and(|it| it.len() > 20), "{first}");
        assert_eq!(again[secret], Value::Null);
        assert!(!again.to_string().contains(first[secret].as_str().unwrap()));
    }
    (first, again)
}

#[tokio::test]
async fn a_secret_is_rotated_once_for_a_key_and_shown_once() {
    on_each(async |database| {
        let app = App::start(database).await;
        app.external("shop", json!({ "webhookAuth": "secret" })).await;
        let path = "/api/whatsapp/session/shop/secret/rotate";
        let (first, again) = twice(&app, path, &json!({ "overlapSeconds": 60 }), "secret").await;
        assert_eq!(first["oldSecretUntil"], again["oldSecretUntil"]);
        // The one that was shown is the one that opens.
        let url = first["url"].as_str().unwrap();
        assert_eq!(Answer::to(app.anonymous(Method::GET, url)).await.status, 200);
        let audit = async |action: &str| {
            let entries = app.get(&format!("/api/audit?action={action}")).await.json();
            entries["data"].as_array().unwrap().len()
        };
        assert_eq!(audit("session_secret_rotated").await, 1);
        let other = app.request(Method::POST, path).header("idempotency-key", "key");
        Answer::to(with_json(other, &json!({}))).await.problem(422, "IDEMPOTENCY_KEY_REUSED");
        app.close().await;

        database.execute("DELETE FROM idempotency").await;
        let app = App::start(database).await;
        let (id, _) = endpoint(&app, json!({ "url": "https://receiver.test/" })).await;
        let path = format!("/api/webhooks/{id}/secret/rotate");
        let (first, again) = twice(&app, &path, &json!({}), "secret").await;
        assert_eq!(first["old_secrets_until"], again["old_secrets_until"]);
        let secrets = database.count("SELECT count(*) FROM webhook_secret").await;
        assert_eq!(secrets, 2);
        app.close().await;

        database.execute("DELETE FROM idempotency").await;
        let app = App::start(database).await;
        let account = set_up(&app, &app.token, complete(NUMBER, WABA, SECRET)).await;
        let id = account["id"].as_str().unwrap();
        let path = format!("/api/meta/accounts/{id}/verify-token/rotate");
        let (first, _) = twice(&app, &path, &json!({}), "verifyToken").await;
        let token = first["verifyToken"].as_str().unwrap();
        let challenge =
            format!("/webhook?hub.mode=subscribe&hub.verify_token={token}&hub.challenge=said");
        assert_eq!(Answer::to(app.anonymous(Method::GET, &challenge)).await.text(), "said");
        app.close().await;
    })
    .await;
}

#[tokio::test]
async fn an_audience_is_added_to_once_for_a_key_and_a_refusal_leaves_it_free() {
    on_each(async |database| {
        let app = App::start(database).await;
        set_up(&app, &app.token, complete(NUMBER, WABA, SECRET)).await;
        let campaign = campaign(&app).await;
        let path = format!("{campaign}/audience");
        let one = json!({ "members": [{ "phoneNumber": "16505550001", "messageId": "wamid.1" }] });
        let (first, again) = twice(&app, &path, &one, "").await;
        assert_eq!(first, json!({ "added": 1, "attached": 1, "unchanged": 0 }));
        assert_eq!(again, first);
        let ask = |key: &'static str, body: Value| {
            let request = app.request(Method::POST, &path).header("idempotency-key", key);
            async move { Answer::to(with_json(request, &body)).await }
        };
        let two = json!({ "members": [{ "phoneNumber": "16505550002" }] });
        ask("key", two.clone()).await.problem(422, "IDEMPOTENCY_KEY_REUSED");
        let taken =
            json!({ "members": [{ "phoneNumber": "16505550003", "messageId": "wamid.1" }] });
        ask("other", taken).await.invalid(&["/members/0/messageId"]);
        assert_eq!(ask("other", two).await.json()["data"]["added"], 1);
        // The same as a table is the same.
        let csv = json!({ "csv": "phone_number,message_id\n16505550001,wamid.1\n" });
        assert_eq!(ask("key", csv).await.header("idempotency-replayed"), "true");
        // Without a key it is added again, which changes nothing.
        let added = add(&app, &campaign, one["members"].clone()).await;
        assert_eq!(added, json!({ "added": 0, "attached": 0, "unchanged": 1 }));
        assert_eq!(sums(&app, &campaign).await["audience"], 2);
        app.close().await;
    })
    .await;
}

#[tokio::test]
async fn of_what_is_gone_it_is_said_that_it_is_gone() {
    on_each(async |database| {
        let app = App::start(database).await;
        let hook = json!({ "url": "https://receiver.test/" });
        let session = json!({ "sessionId": "shop", "start": false });
        for (path, body, where_) in [
            ("/api/webhooks", hook, "/api/webhooks"),
            ("/api/whatsapp/session", session, "/api/whatsapp/session"),
        ] {
            let ask = |body: &Value| {
                let request = app.request(Method::POST, path).header("idempotency-key", path);
                Answer::to(with_json(request, body))
            };
            let made = ask(&body).await;
            assert_eq!(made.status, 201, "{}", made.text());
            let data = made.json()["data"].clone();
            let id = data["sessionId"].as_str().or(data["id"].as_str()).unwrap().to_owned();
            assert!(app.delete(&format!("{where_}/{id}")).await.status.is_success());
            ask(&body).await.problem(409, "IDEMPOTENCY_RESULT_GONE");
            // Made anew without the key or under another, it is another one.
            let made = app.post(path, body.clone()).await;
            assert_eq!(made.status, 201, "{}", made.text());
            ask(&body).await.problem(409, "IDEMPOTENCY_RESULT_GONE");
        }
        app.close().await;
    })
    .await;
}
