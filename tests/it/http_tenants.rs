//! Organizations and their tokens over HTTP: made, limited, used, revoked, and written down.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};
use wagate::{
    event,
    http::{self, Limits},
};

use crate::{
    database::on_each,
    http_app::{self, Answer, App},
    meta,
    secrets::{Secret, dump, found_in},
};

async fn post_as(app: &App, secret: &str, path: &str, body: Value) -> Answer {
    let request = app.anonymous(Method::POST, path).bearer_auth(secret);
    Answer::to(http_app::json(request, &body)).await
}

async fn get_as(app: &App, secret: &str, path: &str) -> Answer {
    Answer::to(app.anonymous(Method::GET, path).bearer_auth(secret)).await
}

/// The operator's request, in the organization with this number.
fn inside(app: &App, client_id: &Value, path: &str, body: &Value) -> RequestBuilder {
    let request = app.request(Method::POST, path).header("x-organization", client_id.to_string());
    http_app::json(request, body)
}

/// A new organization, and the secret of an administrator of it.
async fn tenant(app: &App, name: &str) -> (Value, String) {
    let made = app.post("/api/organizations", json!({ "name": name })).await;
    assert_eq!(made.status, 201, "{}", made.text());
    let organization = made.json()["data"].clone();
    let body = json!({ "role": "admin", "label": "its own" });
    let request = inside(app, &organization["clientId"], "/api/tokens", &body);
    let token = Answer::to(request).await;
    assert_eq!(token.status, 201, "{}", token.text());
    assert_eq!(token.header("cache-control"), "no-store");
    (organization, token.json()["data"]["secret"].as_str().unwrap().to_owned())
}

#[tokio::test]
async fn a_token_s_text_is_in_no_dump_of_the_database() {
    on_each(async |database| {
        let app = App::start(database).await;
        let made = app.post("/api/tokens", json!({ "role": "admin", "label": "in clear" })).await;
        let made = made.json()["data"].clone();
        let text = |of: &Value| of["secret"].as_str().unwrap().to_owned();
        let rotate = format!("/api/tokens/{}/rotate", made["id"].as_str().unwrap());
        let rotated = app.post(&rotate, json!({ "overlapSeconds": 600 })).await.json();
        // One that was revoked as well, and one for a key, which is answered again without it.
        let gone =
            app.post("/api/tokens", json!({ "role": "viewer" })).await.json()["data"].clone();
        app.delete(&format!("/api/tokens/{}", gone["id"].as_str().unwrap())).await;
        let keyed = app.request(Method::POST, "/api/tokens").header("idempotency-key", "k");
        let keyed = Answer::to(http_app::json(keyed, &json!({ "role": "viewer" }))).await.json();
        let texts = [&made, &rotated["data"], &gone, &keyed["data"]].map(text);
        // All but the one that is gone are in use, which is written down.
        for secret in texts.iter().chain([&app.token]).filter(|it| **it != text(&gone)) {
            assert_eq!(get_as(&app, secret, "/").await.status, 200);
        }
        let secret = |text: &String| -> Vec<Secret> {
            // With its prefix, and what is behind it.
            let bare = text.strip_prefix("wag_").unwrap();
            [text.as_str(), bare].map(|it| (text.clone(), it.as_bytes().to_vec())).into()
        };
        let secrets: Vec<_> = texts.iter().chain([&app.token]).flat_map(secret).collect();
        let clear = [("a label".to_owned(), b"in clear".to_vec())];
        let look = || {
            let bytes = dump(database);
            assert_eq!(found_in(&bytes, &clear), ["a label"]);
            assert_eq!(found_in(&bytes, &secrets), Vec::<String>::new(), "{database:?}");
        };
        look();
        app.close().await;
        look();
    })
    .await;
}

#[tokio::test]
async fn an_organization_is_made_once_for_a_key_and_its_token_acts_in_it_alone() {
    on_each(async |database| {
        let app = App::start(database).await;
        let ask_for = |name: &str| {
            let request = app.request(Method::POST, "/api/organizations");
            let request = request.header("idempotency-key", "key-1");
            Answer::to(http_app::json(request, &json!({ "name": name })))
        };
        let first = ask_for("Acme").await;
        assert_eq!(first.status, 201);
        let made = first.json()["data"].clone();
        assert_eq!(made["clientId"], 2);
        assert_eq!(
            first.header("location"),
            format!("/api/organizations/{}", made["id"].as_str().unwrap())
        );
        let again = ask_for("Acme").await;
        assert_eq!((again.status.as_u16(), again.header("idempotency-replayed")), (200, "true"));
        assert_eq!(again.json()["data"], made);
        ask_for("Other").await.problem(422, "IDEMPOTENCY_KEY_REUSED");

        let (other, secret) = tenant(&app, "Bolt").await;
        assert_eq!(other["clientId"], 3);
        app.session("first").await;
        assert_eq!(
            post_as(
                &app,
                &secret,
                "/api/whatsapp/session",
                json!({ "sessionId": "theirs", "start": false })
            )
            .await
            .status,
            201
        );
        let list = "/api/whatsapp/session/list-realtime";
        assert_eq!(get_as(&app, &secret, list).await.json()["summary"]["total"], 1);
        assert_eq!(app.get(list).await.json()["data"][0]["sessionId"], "first");
        post_as(&app, &secret, "/api/tokens", json!({ "role": "operator" }))
            .await
            .problem(403, "FORBIDDEN");
        post_as(&app, &secret, "/api/tokens", json!({ "role": "king" })).await.invalid(&["/role"]);
        app.close().await;
    })
    .await;
}

#[tokio::test]
async fn a_secret_is_shown_once_and_a_revoked_token_is_refused_at_once() {
    on_each(async |database| {
        let app = App::start(database).await;
        let ask_for = || {
            let request = app.request(Method::POST, "/api/tokens").header("idempotency-key", "k");
            Answer::to(http_app::json(request, &json!({ "role": "viewer", "label": "screen" })))
        };
        let made = ask_for().await.json()["data"].clone();
        let secret = made["secret"].as_str().unwrap();
        assert!(secret.starts_with("wag_"));
        let again = ask_for().await;
        assert_eq!(again.status, 200);
        assert_eq!(
            (&again.json()["data"]["id"], &again.json()["data"]["secret"]),
            (&made["id"], &Value::Null)
        );

        let path = format!("/api/tokens/{}", made["id"].as_str().unwrap());
        assert_eq!(app.get(&path).await.json()["data"]["lastUsedAt"], Value::Null);
        assert_eq!(get_as(&app, secret, "/").await.status, 200);
        let used = app.get(&path).await.json()["data"]["lastUsedAt"].clone();
        assert_eq!(used, "2027-01-15T08:00:00.000Z");
        // Within the minute it is not written down again.
        app.clock.advance(Duration::from_secs(59));
        assert_eq!(get_as(&app, secret, "/").await.status, 200);
        assert_eq!(app.get(&path).await.json()["data"]["lastUsedAt"], used);
        app.clock.advance(Duration::from_secs(1));
        assert_eq!(get_as(&app, secret, "/").await.status, 200);
        let later = app.get(&path).await.json()["data"]["lastUsedAt"].clone();
        assert_eq!(later, "2027-01-15T08:01:00.000Z");

        for _ in 0..2 {
            assert_ne!(app.delete(&path).await.json()["data"]["revokedAt"], Value::Null);
            get_as(&app, secret, "/").await.problem(401, "UNAUTHENTICATED");
        }
        let past = json!({ "role": "viewer", "expiresAt": "2020-01-01T00:00:00Z" });
        app.post("/api/tokens", past).await.invalid(&["/expiresAt"]);
        app.close().await;
    })
    .await;
}

#[tokio::test]
async fn who_changed_what_is_written_down_without_secrets_and_read_page_by_page() {
    on_each(async |database| {
        let app = App::start(database).await;
        let (organization, secret) = tenant(&app, "Acme").await;
        let id = organization["id"].as_str().unwrap();
        app.clock.advance(Duration::from_secs(1));
        let viewer =
            post_as(&app, &secret, "/api/tokens", json!({ "role": "viewer" })).await.json();
        app.clock.advance(Duration::from_secs(1));
        let path = format!("/api/tokens/{}", viewer["data"]["id"].as_str().unwrap());
        let revoke = app.anonymous(Method::DELETE, &path).bearer_auth(&secret);
        assert_eq!(Answer::to(revoke).await.status, 200);
        app.clock.advance(Duration::from_secs(1));
        let change = json!({ "maxSessions": 1 });
        assert_eq!(app.patch(&format!("/api/organizations/{id}"), change).await.status, 200);

        let (mut actions, mut cursor) = (Vec::new(), String::new());
        loop {
            let page = get_as(&app, &secret, &format!("/api/audit?limit=2{cursor}")).await;
            assert!(!page.text().contains(&secret) && !page.text().contains("wag_"));
            let page = page.json();
            for entry in page["data"].as_array().unwrap() {
                assert_eq!(entry["address"], "127.0.0.1");
                assert!(entry["tokenId"].as_str().unwrap().starts_with("tok_"));
                actions.push(entry["action"].as_str().unwrap().to_owned());
            }
            let Some(next) = page["nextCursor"].as_str() else { break };
            cursor = format!("&cursor={next}");
        }
        assert_eq!(actions[..3], ["organization_changed", "token_revoked", "token_created"]);
        assert_eq!(actions.len(), 5);
        let made = get_as(&app, &secret, "/api/audit?action=organization_created").await.json();
        assert_eq!(made["data"][0]["detail"]["name"], "Acme");

        // As many sessions as it may have, and no more.
        let session = |id: &str| json!({ "sessionId": id, "start": false });
        let path = "/api/whatsapp/session";
        assert_eq!(post_as(&app, &secret, path, session("one")).await.status, 201);
        post_as(&app, &secret, path, session("two")).await.problem(409, "TOO_MANY_SESSIONS");
        app.close().await;
    })
    .await;
}

/// What each operation that changes something leaves in the audit log; none for what is no configuration and no
/// credential.
fn written(operation: &str) -> Option<&'static str> {
    Some(match operation {
        "createOrganization" => "organization_created",
        "changeOrganization" => "organization_changed",
        "createToken" => "token_created",
        "revokeToken" => "token_revoked",
        "rotateToken" => "token_rotated",
        "createSession" | "connectUser" => "session_created",
        "changeSession" => "session_changed",
        "startSession" => "session_started",
        "stopSession" => "session_stopped",
        "restartSession" => "session_restarted",
        "pairSession" => "session_pairing",
        "logOutSession" => "session_logged_out",
        "deleteSession" => "session_deleted",
        "createWebhook" | "registerWebhook" => "webhook_created",
        "changeWebhook" => "webhook_changed",
        "pauseWebhook" => "webhook_paused",
        "resumeWebhook" => "webhook_resumed",
        "deleteWebhook" => "webhook_deleted",
        "rotateWebhookSecret" => "webhook_secret_rotated",
        "changeCampaign" => "campaign_changed",
        "createCampaign" => "campaign_created",
        "addCampaignAudience" => "campaign_audience_added",
        "reprocessMetaEvent" | "reprocessMetaEvents" => "meta_events_reprocessed",
        "rotateSessionSecret" => "session_secret_rotated",
        "createReplay" => "webhook_replayed",
        "cancelReplay" => "webhook_replay_cancelled",
        "upsertMetaAccount" => "meta_account_created",
        "changeMetaAccount" => "meta_account_changed",
        "rotateMetaVerifyToken" => "meta_verify_token_rotated",
        "setMetaAccountStatus" => "meta_account_status_set",
        "deleteMetaAccount" => "meta_account_deleted",
        // Signed by Meta, and no change of configuration.
        "receiveMetaEvents" | "receiveMetaEventsShort" | "receiveMetaEventsOfAccount"
        // It changes what was counted wrong, and nothing that anybody has decided.
        | "recountCampaign"
        // Of a handover it is written of each session that has handed over: `handover.rs` looks at that.
        | "sendMessage"
        | "sendMetaMessage"
        | "markConversationRead"
        | "testWebhook"
        | "retryDelivery"
        | "signQrUrl"
        | "signMediaUrl"
        | "migrateSessions"
        | "receiveEvent"
        | "reportStatus"
        | "reportStatusToFunction" => return None,
        other => panic!("{other} changes something: say here what is written down of it"),
    })
}

#[tokio::test]
async fn every_change_of_configuration_and_credentials_is_written_down_without_secrets() {
    on_each(async |database| {
        let app = App::start(database).await;
        let me = app.get("/api/tokens").await.json()["data"][0]["id"].clone();
        let url = "https://receiver.test/path-secret?key=query-secret";
        let (mut secrets, mut things) =
            (Vec::new(), BTreeMap::from([("sessionId", "shop".to_owned())]));
        let mut left: BTreeSet<_> = http::routes(&Limits::default())
            .into_iter()
            .filter(|route| route.method != Method::GET && written(route.operation).is_some())
            .map(|route| route.operation)
            .collect();
        for (operation, made, body) in [
            ("createOrganization", "organizationId", json!({ "name": "Acme" })),
            ("createToken", "tokenId", json!({ "role": "viewer" })),
            ("rotateToken", "", json!({})),
            ("revokeToken", "", Value::Null),
            ("createSession", "", json!({ "sessionId": "shop", "start": false })),
            ("changeSession", "", json!({ "userId": "u", "phoneNumber": "6281234567890" })),
            ("startSession", "", json!({})),
            ("restartSession", "", json!({})),
            ("pairSession", "", json!({ "phoneNumber": "6281234567890" })),
            ("stopSession", "", json!({})),
            ("logOutSession", "", json!({ "forgetAccount": true })),
            ("registerWebhook", "", json!({ "phone_number": "15550001111", "webhook_url": url })),
            (
                "createWebhook",
                "webhookId",
                json!({ "url": url, "headers": { "x-key": "header-secret" } }),
            ),
            ("changeWebhook", "", json!({ "headers": { "x-key": "header-secret-2" } })),
            ("rotateWebhookSecret", "", json!({})),
            ("createCampaign", "campaignId", json!({ "name": "Sale", "sessionId": "shop" })),
            ("addCampaignAudience", "", json!({ "members": [{ "phoneNumber": "15550001111" }] })),
            ("createReplay", "replayId", json!({ "after_sequence": 0 })),
            ("cancelReplay", "", json!({})),
            ("pauseWebhook", "", json!({})),
            ("resumeWebhook", "", json!({})),
            ("deleteWebhook", "", Value::Null),
            ("deleteSession", "", Value::Null),
            (
                "createSession",
                "",
                json!({ "sessionId": "shop", "origin": "external", "webhookAuth": "secret" }),
            ),
            ("changeCampaign", "", json!({ "sessionId": "shop" })),
            ("rotateSessionSecret", "", json!({})),
            ("connectUser", "", json!({ "user_id": "u", "phone_number": "6281234567890" })),
            (
                "upsertMetaAccount",
                "accountId",
                json!({ "phoneNumberId": "1", "appSecret": "app-secret", "accessToken": "access-secret" }),
            ),
            ("changeMetaAccount", "", json!({ "appSecret": "app-secret-2" })),
            ("rotateMetaVerifyToken", "", json!({})),
            ("reprocessMetaEvent", "", json!({})),
            ("reprocessMetaEvents", "", json!({})),
            ("setMetaAccountStatus", "", json!({ "status": "disabled" })),
            ("deleteMetaAccount", "", Value::Null),
            // Last, as it acts elsewhere.
            ("changeOrganization", "", json!({ "maxSessions": 3 })),
        ] {
            app.clock.advance(Duration::from_secs(1));
            if operation == "reprocessMetaEvent" {
                let body = meta::text("2", "1", "wamid.1", "hello").to_string();
                let taken = meta::deliver(&app, meta::SHARED, "app-secret-2", body.as_bytes()).await;
                assert_eq!(taken.status, 200);
                let told = meta::log(&app, &app.token).await.remove(0);
                things.insert("metaEventId", told["id"].as_str().unwrap().to_owned());
            }
            let routes = http::routes(&Limits::default());
            let route = routes.into_iter().find(|route| route.operation == operation).unwrap();
            let path = things.iter().fold(route.path.to_owned(), |path, (name, id)| {
                path.replace(&format!("{{{name}}}"), id)
            });
            if operation == "deleteSession" {
                app.show_qr("shop", "2@qr-secret").await;
            }
            let mut request = app.request(route.method, &path);
            if body != Value::Null {
                request = http_app::json(request, &body);
            }
            let answer = Answer::to(request).await;
            // WhatsApp is not there: that it was asked for a code is written down all the same.
            let is_done = answer.status.is_success() || operation == "pairSession";
            assert!(is_done, "{operation}: {}", String::from_utf8_lossy(&answer.body));
            let told = serde_json::from_slice::<Value>(&answer.body).unwrap_or_default();
            for secret in [&told["data"]["secret"], &told["data"]["verifyToken"]] {
                secrets.extend(secret.as_str().map(str::to_owned));
            }
            if !made.is_empty() {
                things.insert(made, told["data"]["id"].as_str().unwrap().to_owned());
            }
            let log = match operation {
                "createOrganization" | "changeOrganization" => {
                    let inside = app.request(Method::GET, "/api/audit?limit=1");
                    let inside = inside.header("x-organization", &things["organizationId"]);
                    Answer::to(inside).await.json()
                }
                _ => app.get("/api/audit?limit=1").await.json(),
            };
            let entry = &log["data"][0];
            assert_eq!(entry["action"], written(operation).unwrap(), "{operation}: {entry}");
            assert_eq!((&entry["tokenId"], &entry["address"]), (&me, &json!("127.0.0.1")));
            assert_eq!(entry["at"], event::payload::rfc3339(app.clock.now()).as_str());
            if path.contains("/session/") {
                assert_eq!(entry["target"], "shop");
            }
            left.remove(operation);
        }
        assert!(left.is_empty(), "not tried: {left:?}");

        let log = app.get("/api/audit?limit=500").await;
        secrets.extend(
            [
                "path-secret",
                "query-secret",
                "app-secret",
                "access-secret",
                "header-secret",
                "qr-secret",
                "wag_",
                "whsec_",
                &app.token,
            ]
            .map(ToOwned::to_owned),
        );
        for secret in secrets {
            assert!(!log.text().contains(&secret), "{secret} in {}", log.text());
        }
        app.close().await;
    })
    .await;
}
