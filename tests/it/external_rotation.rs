//! A session that runs elsewhere gets a new secret, and its client has time to learn it.

use std::time::Duration;

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use wagate::webhook::{SigningSecret, sign};

use crate::{
    database::on_each,
    http_app::{Answer, App},
};

const PATH: &str = "/api/whatsapp/webhook/shop";
const ROTATE: &str = "/api/whatsapp/session/shop/secret/rotate";
const BODY: &str = r#"{"event":"ready","data":{}}"#;

/// What is answered to somebody who shows this secret.
async fn shown(app: &App, secret: &str) -> StatusCode {
    let request = app.anonymous(Method::POST, PATH).header("content-type", "application/json");
    Answer::to(request.header("x-webhook-secret", secret).body(BODY)).await.status
}

/// What is answered to somebody who signs with it.
async fn signed(app: &App, secret: &str) -> StatusCode {
    let (secret, at) = (SigningSecret::parse(secret).unwrap(), app.clock.now().as_secs());
    let request = app
        .anonymous(Method::POST, PATH)
        .header("content-type", "application/json")
        .header("webhook-id", "m")
        .header("webhook-timestamp", at.to_string())
        .header("webhook-signature", sign([&secret], "m", at, BODY.as_bytes()));
    Answer::to(request.body(BODY)).await.status
}

async fn rotate(app: &App, body: Value) -> Value {
    let rotated = app.post(ROTATE, body).await;
    assert_eq!(rotated.status, StatusCode::OK, "{}", rotated.text());
    assert_eq!(rotated.header("cache-control"), "no-store");
    rotated.json()["data"].clone()
}

fn secret(made: &Value) -> String {
    made["secret"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn the_secret_before_is_good_for_a_day_or_as_long_as_was_said_and_no_longer() {
    on_each(async |database| {
        let app = App::start(database).await;
        let first = secret(&app.external("shop", json!({ "webhookAuth": "secret" })).await);
        let rotated = rotate(&app, json!({})).await;
        let second = secret(&rotated);
        assert_ne!(second, first);
        assert_eq!(rotated["oldSecretUntil"], "2027-01-16T08:00:00.000Z", "{rotated}");
        for secret in [&first, &second] {
            assert_eq!(shown(&app, secret).await, StatusCode::OK);
        }
        app.clock.advance(Duration::from_hours(24) - Duration::from_millis(1));
        assert_eq!(shown(&app, &first).await, StatusCode::OK);
        app.clock.advance(Duration::from_millis(1));
        assert_eq!(shown(&app, &first).await, StatusCode::UNAUTHORIZED);
        assert_eq!(shown(&app, &second).await, StatusCode::OK);

        // There are two at most: the one before the one before is no more, whatever was said of it.
        let third = secret(&rotate(&app, json!({ "overlapSeconds": 600 })).await);
        let fourth = secret(&rotate(&app, json!({ "overlapSeconds": 60 })).await);
        let good = async |secrets: [&String; 3]| {
            let mut good = Vec::new();
            for secret in secrets {
                good.push(shown(&app, secret).await == StatusCode::OK);
            }
            good
        };
        assert_eq!(good([&second, &third, &fourth]).await, [false, true, true]);
        app.clock.advance(Duration::from_mins(1));
        assert_eq!(good([&second, &third, &fourth]).await, [false, false, true]);
        let fifth = secret(&rotate(&app, json!({ "overlapSeconds": 0 })).await);
        assert_eq!(good([&third, &fourth, &fifth]).await, [false, false, true]);
        app.close().await;
    })
    .await;
}

#[tokio::test]
async fn either_secret_signs_while_both_are_good() {
    on_each(async |database| {
        let app = App::start(database).await;
        let first = secret(&app.external("shop", json!({ "webhookAuth": "signature" })).await);
        let second = secret(&rotate(&app, json!({ "overlapSeconds": 60 })).await);
        for secret in [&first, &second] {
            assert_eq!(signed(&app, secret).await, StatusCode::OK);
            assert_eq!(shown(&app, secret).await, StatusCode::UNAUTHORIZED);
        }
        app.clock.advance(Duration::from_mins(1));
        assert_eq!(signed(&app, &first).await, StatusCode::UNAUTHORIZED);
        assert_eq!(signed(&app, &second).await, StatusCode::OK);
        app.close().await;
    })
    .await;
}

#[tokio::test]
async fn a_rotation_is_bounded_audited_and_leaves_nothing_in_clear() {
    on_each(async |database| {
        let app = App::start(database).await;
        let first = secret(&app.external("shop", json!({ "webhookAuth": "secret" })).await);
        for wrong in [json!(-1), json!(604_801), json!("60"), json!(1.5)] {
            let body = json!({ "overlapSeconds": wrong });
            app.post(ROTATE, body).await.invalid(&["/overlapSeconds"]);
        }
        assert_eq!(shown(&app, &first).await, StatusCode::OK);
        let second = secret(&rotate(&app, json!({ "overlapSeconds": 604_800 })).await);
        let audit = app.get("/api/audit?action=session_secret_rotated").await.json();
        assert_eq!(audit["data"].as_array().unwrap().len(), 1);
        assert_eq!(audit["data"][0]["target"], "shop");
        assert_eq!(audit["data"][0]["detail"], json!({ "overlapSeconds": 604_800 }));
        assert!(!audit.to_string().contains("whsec_"));
        let row = app.row("shop").await;
        let stored = [row.receiver_secret.unwrap(), row.previous_receiver_secret.unwrap()];
        for (secret, stored) in [&second, &first].into_iter().zip(stored) {
            let clear = SigningSecret::parse(secret).unwrap();
            let clear = clear.as_bytes();
            assert!(!stored.windows(clear.len()).any(|it| it == clear));
        }
        let shown = app.get("/api/whatsapp/session/shop").await;
        assert!(!shown.text().contains("whsec_"), "{}", shown.text());
        app.close().await;
    })
    .await;
}

#[tokio::test]
async fn a_change_of_how_events_are_let_in_ends_the_secret_before() {
    on_each(async |database| {
        let app = App::start(database).await;
        let path = "/api/whatsapp/session/shop";
        let first = secret(&app.external("shop", json!({ "webhookAuth": "secret" })).await);
        let second = secret(&rotate(&app, json!({ "overlapSeconds": 3600 })).await);
        // What has nothing to do with it leaves it as it is.
        app.patch(path, json!({ "userId": "u" })).await;
        for secret in [&first, &second] {
            assert_eq!(shown(&app, secret).await, StatusCode::OK);
        }
        // To another way, and back.
        assert_eq!(
            app.patch(path, json!({ "webhookAuth": "signature" })).await.status,
            StatusCode::OK
        );
        assert_eq!(signed(&app, &first).await, StatusCode::UNAUTHORIZED);
        assert_eq!(signed(&app, &second).await, StatusCode::OK);
        app.patch(path, json!({ "webhookAuth": "secret" })).await;
        assert_eq!(shown(&app, &first).await, StatusCode::UNAUTHORIZED);
        assert_eq!(shown(&app, &second).await, StatusCode::OK);
        let row = app.row("shop").await;
        assert_eq!((row.previous_receiver_secret, row.previous_receiver_until), (None, None));
        // Also to what it is.
        let third = secret(&rotate(&app, json!({ "overlapSeconds": 3600 })).await);
        app.patch(path, json!({ "webhookAuth": "secret" })).await;
        assert_eq!(shown(&app, &second).await, StatusCode::UNAUTHORIZED);
        assert_eq!(shown(&app, &third).await, StatusCode::OK);
        app.close().await;
    })
    .await;
}
