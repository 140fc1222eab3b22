//! Who may post the events of a session that runs elsewhere: by a token, by its secret, by a signature.

use entity::state::Role;
use reqwest::{Method, RequestBuilder, StatusCode};
use serde_json::{Value, json};
use wagate::{
    http::{Edge, Limits, Quota},
    service::external::Policy,
    webhook::{SigningSecret, sign},
};

use crate::{
    database::on_each,
    http_app::{Answer, App, STATUS_KEY, json as with_json},
};

const READY: &str = r#"{"event":"ready","data":{}}"#;

fn post(app: &App, path: &str) -> RequestBuilder {
    let request = app.anonymous(Method::POST, path);
    request.header("content-type", "application/json").body(READY)
}

#[tokio::test]
async fn a_manager_s_token_opens_what_a_token_opens_and_no_other() {
    on_each(async |database| {
        let app = App::start(database).await;
        app.external("shop", json!({})).await;
        app.external("sealed", json!({ "webhookAuth": "secret" })).await;
        app.session("here").await;
        let manager = app.token_of(&app.organization, Role::Manager).await;
        let viewer = app.token_of(&app.organization, Role::Viewer).await;
        let stranger = app.stranger(database).await;
        let by = async |token: &str, id: &str| {
            let path = format!("/api/whatsapp/webhook/{id}");
            Answer::to(post(&app, &path).bearer_auth(token)).await
        };
        assert_eq!(by(&manager, "shop").await.status, StatusCode::OK);
        by(&viewer, "shop").await.problem(403, "FORBIDDEN");
        by(&stranger, "shop").await.problem(404, "SESSION_NOT_FOUND");
        by("wag_nonsense", "shop").await.problem(401, "UNAUTHENTICATED");
        by(&manager, "nobody").await.problem(404, "SESSION_NOT_FOUND");
        by(&manager, "here").await.problem(409, "SESSION_EMBEDDED");
        by(&manager, "sealed").await.problem(409, "WEBHOOK_AUTH_MISMATCH");
        // Without anything it is not told what there is.
        for id in ["shop", "sealed", "here", "nobody"] {
            let path = format!("/api/whatsapp/webhook/{id}");
            Answer::to(post(&app, &path)).await.problem(401, "UNAUTHENTICATED");
        }
        let verified = app.get("/api/whatsapp/webhook/shop").await.json();
        assert_eq!(verified["data"]["webhookAuth"], "token");
        app.get("/api/whatsapp/webhook/nobody").await.problem(404, "SESSION_NOT_FOUND");
        app.close().await;
    })
    .await;
}

#[tokio::test]
async fn a_session_s_secret_opens_it_in_the_address_and_in_a_header_until_there_is_a_new_one() {
    on_each(async |database| {
        let app = App::start(database).await;
        let made = app.external("shop", json!({ "webhookAuth": "secret" })).await;
        let secret = made["secret"].as_str().unwrap().to_owned();
        let url = made["webhookUrl"].as_str().unwrap().to_owned();
        assert_eq!(url, format!("/api/whatsapp/webhook/shop?secret={secret}"));
        let stored =
            database.count("SELECT COUNT(*) FROM session WHERE receiver_secret IS NOT NULL").await;
        assert_eq!(stored, 1);

        let verified = Answer::to(app.anonymous(Method::GET, &url)).await.json();
        assert_eq!(verified["data"]["sessionId"], "shop");
        assert_eq!(Answer::to(post(&app, &url)).await.status, StatusCode::OK);
        let path = "/api/whatsapp/webhook/shop";
        for header in ["x-webhook-secret", "webhook-secret-key"] {
            let answer = Answer::to(post(&app, path).header(header, &secret)).await;
            assert_eq!(answer.status, StatusCode::OK, "{header}");
            let wrong = post(&app, path).header(header, format!("{secret}x"));
            Answer::to(wrong).await.problem(401, "UNAUTHENTICATED");
        }
        // What is shown to somebody else is nothing to us, be it right or wrong there.
        let foreign = post(&app, &url).bearer_auth("sk-of-somebody-else");
        assert_eq!(Answer::to(foreign).await.status, StatusCode::OK);
        let foreign = post(&app, path).bearer_auth("sk-of-somebody-else");
        Answer::to(foreign).await.problem(401, "UNAUTHENTICATED");
        let other = app.external("other", json!({ "webhookAuth": "secret" })).await;
        let theirs = format!("{path}?secret={}", other["secret"].as_str().unwrap());
        Answer::to(post(&app, &theirs)).await.problem(401, "UNAUTHENTICATED");

        // It is shown once; a new one is made by asking for it, and ends the one before if that is asked for.
        assert!(app.get("/api/whatsapp/session/shop").await.json()["data"].get("secret").is_none());
        let at_once = json!({ "overlapSeconds": 0 });
        let rotated = app.post("/api/whatsapp/session/shop/secret/rotate", at_once).await;
        assert_eq!(rotated.header("cache-control"), "no-store");
        let new = rotated.json()["data"]["url"].as_str().unwrap().to_owned();
        Answer::to(post(&app, &url)).await.problem(401, "UNAUTHENTICATED");
        assert_eq!(Answer::to(post(&app, &new)).await.status, StatusCode::OK);
        let audit = app.get("/api/audit?action=session_secret_rotated").await.json();
        assert_eq!(audit["data"][0]["target"], "shop");
        assert!(!audit.to_string().contains("whsec_"));
        app.close().await;
    })
    .await;
}

#[tokio::test]
async fn two_organizations_sessions_of_one_name_are_told_apart_by_their_secrets() {
    on_each(async |database| {
        let app = App::start(database).await;
        let ours = app.external("shop", json!({ "webhookAuth": "secret" })).await;
        let stranger = app.stranger(database).await;
        let body = json!({ "sessionId": "shop", "origin": "external", "webhookAuth": "secret" });
        let request = app.anonymous(Method::POST, "/api/whatsapp/session").bearer_auth(&stranger);
        let theirs = Answer::to(with_json(request, &body)).await.json()["data"].clone();
        let status = async |token: &str| {
            let request = app.anonymous(Method::GET, "/api/whatsapp/session/shop");
            Answer::to(request.bearer_auth(token)).await.json()["data"]["status"].clone()
        };
        Answer::to(post(&app, theirs["webhookUrl"].as_str().unwrap())).await;
        assert_eq!(status(&stranger).await, "session_connected");
        assert_eq!(status(&app.token).await, "session_not_connected");
        Answer::to(post(&app, ours["webhookUrl"].as_str().unwrap())).await;
        assert_eq!(status(&app.token).await, "session_connected");
        app.close().await;
    })
    .await;
}

#[tokio::test]
async fn a_signature_opens_a_session_for_as_long_as_it_is_fresh_and_over_what_came() {
    on_each(async |database| {
        let app = App::start(database).await;
        let made = app.external("shop", json!({ "webhookAuth": "signature" })).await;
        assert_eq!(made["webhookUrl"], "/api/whatsapp/webhook/shop");
        let secret = SigningSecret::parse(made["secret"].as_str().unwrap()).unwrap();
        let path = "/api/whatsapp/webhook/shop";
        let now = app.clock.now().as_secs();
        let signed = async |id: &str, at: i64, over: &str| {
            let request = post(&app, path)
                .header("webhook-id", id)
                .header("webhook-timestamp", at.to_string())
                .header("webhook-signature", sign([&secret], id, at, over.as_bytes()));
            Answer::to(request).await
        };
        let first = signed("msg_1", now, READY).await.json();
        assert_eq!(first["data"]["recorded"], true);
        // The request's name makes it known when it comes again.
        let again = signed("msg_1", now, READY).await.json();
        assert_eq!(again["data"]["duplicate"], true);
        signed("msg_2", now, r#"{"event":"ready"}"#).await.problem(401, "UNAUTHENTICATED");
        signed("msg_3", now - 301, READY).await.problem(401, "UNAUTHENTICATED");
        // A look signs that it has no body.
        let look = async |over: &str| {
            let request = app
                .anonymous(Method::GET, path)
                .header("webhook-id", "msg_4")
                .header("webhook-timestamp", now.to_string())
                .header("webhook-signature", sign([&secret], "msg_4", now, over.as_bytes()));
            Answer::to(request).await
        };
        assert_eq!(look("").await.json()["data"]["webhookAuth"], "signature");
        look(READY).await.problem(401, "UNAUTHENTICATED");
        // The secret itself opens nothing then, nor does a token.
        let plain = post(&app, path).header("x-webhook-secret", secret.reveal());
        Answer::to(plain).await.problem(401, "UNAUTHENTICATED");
        app.tell("shop", "ready", json!({})).await.problem(409, "WEBHOOK_AUTH_MISMATCH");

        // The same secret in another way.
        let change = json!({ "webhookAuth": "secret" });
        let changed = app.patch("/api/whatsapp/session/shop", change).await.json();
        assert!(changed["data"].get("secret").is_none(), "there is one");
        let plain = post(&app, path).header("x-webhook-secret", secret.reveal());
        assert_eq!(Answer::to(plain).await.status, StatusCode::OK);
        let change = json!({ "webhookAuth": "token" });
        app.patch("/api/whatsapp/session/shop", change).await;
        app.post("/api/whatsapp/session/shop/secret/rotate", json!({}))
            .await
            .problem(409, "WEBHOOK_AUTH_MISMATCH");
        app.close().await;
    })
    .await;
}

/// One client with an old secret, beside others on one machine.
#[tokio::test]
async fn who_shows_what_opens_nothing_is_slowed_down_and_costs_nobody_else_an_event() {
    on_each(async |database| {
        let limits = Limits {
            failed_authentications: Some(Quota::new(3, std::time::Duration::from_mins(1), 3)),
            ..Limits::default()
        };
        let app = App::start_with(database, limits).await;
        let made = app.external("shop", json!({ "webhookAuth": "secret" })).await;
        let wrong = "/api/whatsapp/webhook/shop?secret=whsec_old";
        let mut seen = Vec::new();
        for _ in 0..5 {
            seen.push(Answer::to(post(&app, wrong)).await.status.as_u16());
        }
        assert_eq!(seen, [401, 401, 401, 429, 429]);
        let good = Answer::to(post(&app, made["webhookUrl"].as_str().unwrap())).await;
        assert_eq!(good.status, StatusCode::OK);
        // The status webhook's key is chosen by people: there it does stand in the way, and is counted apart.
        let report = async |key: &'static str| {
            let request = app.anonymous(Method::POST, "/api/whatsapp/status-webhook");
            let report = json!({ "sessionId": "x", "status": "connected" });
            let report = with_json(request, &report).header("webhook-secret-key", key);
            Answer::to(report).await.status.as_u16()
        };
        for status in [401, 401, 401, 429] {
            assert_eq!(report("guess").await, status);
        }
        assert_eq!(report(STATUS_KEY).await, 429);
        app.close().await;
    })
    .await;
}

#[tokio::test]
async fn an_unknown_session_is_made_only_where_the_operator_wants_that() {
    on_each(async |database| {
        let policy = Policy { auto_create: true, ..Policy::default() };
        let opened = database.open().await;
        let app = App::with_external(opened, Limits::default(), Edge::default(), policy).await;
        // What cannot be read makes nothing.
        let told = app.tell("new-1", "qr", json!({ "qr": 7 })).await;
        told.invalid(&["/data/qr"]);
        let told = app.tell("new-1", "ready", json!({})).await;
        assert_eq!(told.status, StatusCode::OK, "{}", told.text());
        // The same again, and at once, makes no second one, and nothing twice.
        let told = app.tell("new-1", "ready", json!({})).await.json();
        assert_eq!(told["data"]["duplicate"], true);
        let many = (0..6).map(|_| app.tell("new-3", "ready", json!({})));
        let many = futures_util::future::join_all(many).await;
        assert!(many.iter().all(|it| it.status == StatusCode::OK));
        let recorded = many.iter().filter(|it| it.json()["data"]["recorded"] == true);
        assert_eq!(recorded.count(), 1);
        let shown = app.get("/api/whatsapp/session/new-1").await.json()["data"].clone();
        assert_eq!((&shown["origin"], &shown["isConnected"]), (&json!("external"), &json!(true)));
        // A look makes nothing, and nor does whoever shows no token.
        app.get("/api/whatsapp/webhook/new-2").await.problem(404, "SESSION_NOT_FOUND");
        Answer::to(post(&app, "/api/whatsapp/webhook/new-2?secret=x"))
            .await
            .problem(401, "UNAUTHENTICATED");
        app.get("/api/whatsapp/session/new-2").await.problem(404, "SESSION_NOT_FOUND");
        let all: Value = app.get("/api/whatsapp/session/list-realtime").await.json();
        assert_eq!(all["summary"]["total"], 2);
        // Who has made each is written down once, and from where.
        let made = app.get("/api/audit?action=session_created").await.json();
        let made: Vec<_> = made["data"].as_array().unwrap().iter().collect();
        let mut targets: Vec<_> = made.iter().map(|it| it["target"].as_str().unwrap()).collect();
        targets.sort_unstable();
        assert_eq!(targets, ["new-1", "new-3"]);
        for entry in made {
            assert_eq!(entry["address"], "127.0.0.1", "{entry}");
            assert!(entry["tokenId"].as_str().is_some_and(|it| it.starts_with("tok_")), "{entry}");
        }
        app.close().await;
    })
    .await;
}
