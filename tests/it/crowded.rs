//! One organization that does its worst where bodies come before their proof: the others get theirs through.

use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::json;
use wagate::{
    http::Limits,
    meta::Signature,
    webhook::{SigningSecret, sign},
};

use crate::{
    database::on_each,
    http_app::{Answer, App},
    meta::{NUMBER, SECRET, SHARED, WABA, changes, complete, deliver, log, set_up, tenant, text},
    slow_bodies::{behind, crowd, few, meta, of_nothing},
};

const THEIRS: &str = "their_app_secret";

/// Of the twelve places of a lane an organization has three, strangers six, and neither the other's.
#[tokio::test]
async fn good_signatures_from_many_addresses_fill_one_organization_s_share_and_no_more() {
    on_each(async |database| {
        let app = behind(database, few()).await;
        set_up(&app, &app.token, complete(NUMBER, WABA, SECRET)).await;
        let (_, theirs) = tenant(&app, "theirs").await;
        set_up(&app, &theirs, complete("1", "2", THEIRS)).await;
        assert_eq!(meta(&app, SHARED, "198.51.100.1", "ours").await.status, 200);
        for number in 0..20 {
            let body = text("2", "1", &format!("theirs {number}"), "hi").to_string();
            let signature = Signature::of(THEIRS.as_bytes(), body.as_bytes()).to_string();
            let request = app.anonymous(Method::POST, SHARED).body(body);
            let request = request.header("x-forwarded-for", format!("203.0.113.{number}"));
            let taken = Answer::to(request.header("x-hub-signature-256", signature)).await;
            assert_eq!(taken.status, 200, "{}", taken.text());
        }
        // From the twenty addresses that are known for them, and from twenty that are not.
        let held = crowd(&app, SHARED, &[of_nothing()], 3 + 6).await;
        for number in 0..10 {
            let id = format!("while they hold on {number}");
            assert_eq!(meta(&app, SHARED, "198.51.100.1", &id).await.status, 200);
        }
        drop(held);
        app.close().await;
    })
    .await;
}

#[tokio::test]
async fn signed_events_of_one_organization_leave_places_to_those_of_others() {
    on_each(async |database| {
        let app = behind(database, few()).await;
        let (_, theirs) = tenant(&app, "theirs").await;
        let made = app.external("shop", json!({ "webhookAuth": "signature" })).await;
        let body =
            json!({ "sessionId": "theirs", "origin": "external", "webhookAuth": "signature" });
        let request = app.anonymous(Method::POST, "/api/whatsapp/session").bearer_auth(&theirs);
        let other = Answer::to(crate::http_app::json(request, &body)).await.json()["data"].clone();
        let secret = |made: &serde_json::Value| {
            SigningSecret::parse(made["secret"].as_str().unwrap()).unwrap()
        };
        let (ours, theirs) = (secret(&made), secret(&other));
        let now = app.clock.now().as_secs();
        let post = async |session: &str, secret: &SigningSecret, id: &str, from: String| {
            let body = r#"{"event":"ready","data":{}}"#;
            let request = app
                .anonymous(Method::POST, &format!("/api/whatsapp/webhook/{session}"))
                .header("x-forwarded-for", from)
                .header("webhook-id", id)
                .header("webhook-timestamp", now.to_string())
                .header("webhook-signature", sign([secret], id, now, body.as_bytes()));
            Answer::to(request.header("content-type", "application/json").body(body)).await.status
        };
        assert_eq!(post("shop", &ours, "ours", "198.51.100.1".to_owned()).await, 200);
        for number in 0..20 {
            let (id, from) = (format!("msg_{number}"), format!("203.0.113.{number}"));
            assert_eq!(post("theirs", &theirs, &id, from).await, 200);
        }
        let slow = [
            ("webhook-id", "slow".to_owned()),
            ("webhook-timestamp", now.to_string()),
            ("webhook-signature", "v1,AAAA".to_owned()),
        ];
        let held = crowd(&app, "/api/whatsapp/webhook/theirs", &slow, 3 + 6).await;
        assert_eq!(post("shop", &ours, "again", "198.51.100.1".to_owned()).await, 200);
        drop(held);
        app.close().await;
    })
    .await;
}

/// Seventy secrets of another's are tried with the largest body there is: some of them, in turns, and elsewhere.
#[tokio::test]
async fn the_largest_bodies_cost_so_much_and_each_organization_has_its_secret_tried() {
    on_each(async |database| {
        let limits = Limits { request_time: Duration::from_mins(2), ..Limits::default() };
        let app = App::start_with(database, limits).await;
        let (_, theirs) = tenant(&app, "theirs").await;
        for number in 0..70 {
            let secret = format!("their_app_secret_{number}");
            set_up(&app, &theirs, complete(&format!("7{number}"), WABA, &secret)).await;
        }
        set_up(&app, &app.token, complete(NUMBER, WABA, SECRET)).await;
        // About the business account alone, so it may be anybody's of them.
        let about = |filler: usize| {
            let value = json!({ "event": "VERIFIED_ACCOUNT", "filler": "x".repeat(filler) });
            changes(WABA, &[json!({ "field": "account_update", "value": value })]).to_string()
        };
        let large = about(4_190_000);
        let ours = deliver(&app, SHARED, SECRET, large.as_bytes()).await;
        assert_eq!(ours.status, 200, "{}", ours.text());
        assert_eq!(log(&app, &app.token).await.len(), 1);
        // One that many come before is tried with a small body, and no more with the largest.
        let late = "their_app_secret_40";
        let refused = deliver(&app, SHARED, late, large.as_bytes()).await;
        refused.problem(403, "META_SIGNATURE_INVALID");
        assert_eq!(deliver(&app, SHARED, late, about(10).as_bytes()).await.status, 200);
        // While many that nobody has signed are tried, others are answered.
        let wrong = (0..8).map(|_| deliver(&app, SHARED, "nobody's", large.as_bytes()));
        let wrong = futures_util::future::join_all(wrong);
        let asked = async {
            let began = Instant::now();
            for _ in 0..20 {
                assert_eq!(Answer::to(app.anonymous(Method::GET, "/livez")).await.status, 204);
            }
            began.elapsed()
        };
        let (refused, took) = tokio::join!(wrong, asked);
        for answer in refused {
            answer.problem(403, "META_SIGNATURE_INVALID");
        }
        assert!(took < Duration::from_secs(10), "{took:?}");
        app.close().await;
    })
    .await;
}
