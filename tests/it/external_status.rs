//! The status webhook of a VPS: found by what the session is called there, let in by the operator's key.

use std::time::Duration;

use entity::state::Role;
use reqwest::{Method, RequestBuilder, StatusCode};
use serde_json::{Value, json};
use wagate::{
    http::{Edge, Limits, Origins, Quota},
    service::external::Policy,
};

use crate::{
    database::{on_each, second_organization},
    http_app::{Answer, App, STATUS_KEY, json as with_json},
};

const VPS: &str = "wa_a545e2c1-0b0e-4b6e-9a7b-5c4d3e2f1a0b";
const PATHS: [&str; 2] = ["/api/whatsapp/status-webhook", "/functions/v1/whatsapp-status-webhook"];

fn report(app: &App, path: &str, body: &Value) -> RequestBuilder {
    with_json(app.anonymous(Method::POST, path), body)
}

async fn reported(app: &App, body: Value) -> Answer {
    Answer::to(report(app, PATHS[0], &body).header("webhook-secret-key", STATUS_KEY)).await
}

async fn shop(app: &App) -> Value {
    app.get("/api/whatsapp/session/shop").await.json()["data"].clone()
}

/// A number that is said is whose the session is from then on, and not beside another account.
#[tokio::test]
async fn a_status_with_another_number_is_of_another_account() {
    on_each(async |database| {
        let app = App::start(database).await;
        app.external("shop", json!({ "sessionData": { "vps_session_id": VPS } })).await;
        let whose = async || {
            let row = app.row("shop").await;
            (row.phone_number, row.account_jid)
        };
        let of = |number: &str| Some(format!("{number}@s.whatsapp.net"));
        let (one, other) = ("6281234567890", "6289876543210");
        let said = json!({ "sessionId": VPS, "status": "reconnecting", "phoneNumber": one });
        reported(&app, said).await;
        assert_eq!(whose().await, (Some(one.to_owned()), None), "it was never connected");
        let said = json!({ "sessionId": VPS, "status": "connected", "phoneNumber": one });
        reported(&app, said).await;
        assert_eq!(whose().await, (Some(one.to_owned()), of(one)));
        for status in ["reconnecting", "disconnected", "connected"] {
            for number in [other, one] {
                app.clock.advance(Duration::from_secs(1));
                let said = json!({ "sessionId": VPS, "status": status, "phoneNumber": number });
                assert_eq!(reported(&app, said).await.status, 200);
                assert_eq!(app.row("shop").await.phone_number.as_deref(), Some(number));
                let jid = whose().await.1;
                assert!(jid.is_none() || jid == of(number), "{status} {number}: {jid:?}");
            }
        }
        app.close().await;
    })
    .await;
}

#[tokio::test]
async fn a_status_is_written_to_the_session_that_is_called_so_where_it_runs() {
    on_each(async |database| {
        let app = App::start(database).await;
        app.external("shop", json!({ "sessionData": { "vps_session_id": VPS } })).await;
        for (path, header) in PATHS.into_iter().zip(["webhook-secret-key", "x-webhook-secret"]) {
            let body = json!({
                "sessionId": VPS, "status": "connected", "phoneNumber": "+62 812-3456-7890",
                "timestamp": "2027-01-15T00:00:00.000Z",
            });
            let told = Answer::to(report(&app, path, &body).header(header, STATUS_KEY)).await;
            assert_eq!(told.status, StatusCode::OK, "{}", told.text());
            assert_eq!(told.json()["data"]["sessionId"], "shop");
        }
        let seen = shop(&app).await;
        assert_eq!(
            (&seen["status"], &seen["phoneNumber"]),
            (&json!("session_connected"), &json!("6281234567890"))
        );
        assert!(seen["connectedAt"].is_string() && seen["lastActiveAt"].is_string());
        // Never by our own id.
        let own = json!({ "sessionId": "shop", "status": "disconnected" });
        reported(&app, own).await.problem(404, "SESSION_NOT_FOUND");
        assert_eq!(shop(&app).await["status"], "session_connected");
        app.close().await;
    })
    .await;
}

#[tokio::test]
async fn the_words_of_the_seeds_and_of_their_clients_are_understood() {
    on_each(async |database| {
        let app = App::start(database).await;
        app.external("shop", json!({ "sessionData": { "vps_session_id": VPS } })).await;
        for (word, expected) in [
            ("connected", "session_connected"),
            ("disconnected", "session_not_connected"),
            ("reconnecting", "connecting"),
            ("session_connected", "session_connected"),
            ("session_not_connected", "session_not_connected"),
            ("connecting", "connecting"),
            ("loading", "loading"),
            ("auth_failure", "auth_failure"),
            ("error", "error"),
            ("qr_generated", "connecting"),
            ("CONNECTED", "session_connected"),
            ("CONFLICT", "session_not_connected"),
        ] {
            app.clock.advance(Duration::from_secs(1));
            let told = reported(&app, json!({ "sessionId": VPS, "status": word })).await;
            assert_eq!(told.json()["data"]["status"], expected, "{word}");
            assert_eq!(shop(&app).await["status"], expected, "{word}");
        }
        let wrong = json!({ "status": "happy", "phoneNumber": "x", "timestamp": true });
        reported(&app, wrong).await.invalid(&[
            "/sessionId",
            "/phoneNumber",
            "/timestamp",
            "/status",
        ]);
        // Late reports change nothing, and a repeated one is known.
        let old = json!({ "sessionId": VPS, "status": "disconnected", "timestamp": 1_640_995_200 });
        assert_eq!(reported(&app, old).await.json()["data"]["outdated"], true);
        let body = json!({ "sessionId": VPS, "status": "connected" });
        assert_eq!(reported(&app, body.clone()).await.json()["data"]["duplicate"], false);
        assert_eq!(reported(&app, body).await.json()["data"]["duplicate"], true);
        app.close().await;
    })
    .await;
}

#[tokio::test]
async fn the_key_is_needed_where_there_is_one_and_nobody_passes_where_there_is_none() {
    on_each(async |database| {
        let body = json!({ "sessionId": VPS, "status": "connected" });
        for (policy, open) in [
            (
                Policy {
                    key: Some(STATUS_KEY.to_owned().into()),
                    allow_open: true,
                    auto_create: false,
                    reports_of: None,
                },
                false,
            ),
            (Policy::default(), false),
            (Policy { allow_open: true, ..Policy::default() }, true),
        ] {
            let has_key = policy.key.is_some();
            let opened = database.open().await;
            let app = App::with_external(opened, Limits::default(), Edge::default(), policy).await;
            if app.get("/api/whatsapp/session/shop").await.status == StatusCode::NOT_FOUND {
                app.external("shop", json!({ "sessionData": { "vps_session_id": VPS } })).await;
            }
            for path in PATHS {
                let plain = Answer::to(report(&app, path, &body)).await;
                let wrong = report(&app, path, &body).header("x-webhook-secret", "guess");
                let wrong = Answer::to(wrong).await;
                // A token is not what is asked for here.
                let token = Answer::to(report(&app, path, &body).bearer_auth(&app.token)).await;
                for answer in [plain, wrong, token] {
                    match (has_key, open) {
                        (true, _) => drop(answer.problem(401, "UNAUTHENTICATED")),
                        (false, false) => {
                            let problem = answer.problem(403, "STATUS_WEBHOOK_CLOSED");
                            assert!(problem["detail"].as_str().unwrap().contains("allow_open"));
                        }
                        (false, true) => assert_eq!(answer.status, StatusCode::OK),
                    }
                }
            }
            app.close().await;
        }
    })
    .await;
}

#[tokio::test]
async fn pages_of_any_origin_may_report_as_the_seed_has_it() {
    on_each(async |database| {
        // Also where others may be called only by some pages, or by none.
        let named = Origins::of([Some("https://app.example.com")].into_iter());
        for origins in [Origins::None, named] {
            let opened = database.open().await;
            let edge = Edge { origins, ..Edge::default() };
            let app = App::behind(opened, Limits::default(), edge).await;
            for path in PATHS {
                let preflight = app
                    .anonymous(Method::OPTIONS, path)
                    .header("origin", "https://elsewhere.example")
                    .header("access-control-request-method", "POST")
                    .header("access-control-request-headers", "content-type,webhook-secret-key");
                let preflight = Answer::to(preflight).await;
                assert_eq!(preflight.status, StatusCode::OK, "{path}");
                assert_eq!(preflight.header("access-control-allow-origin"), "*");
                let headers = preflight.header("access-control-allow-headers");
                for name in [
                    "authorization",
                    "x-client-info",
                    "apikey",
                    "content-type",
                    "webhook-secret-key",
                    "x-webhook-secret",
                ] {
                    assert!(headers.split(',').any(|it| it.trim() == name), "{name}: {headers}");
                }
                let body = json!({ "sessionId": VPS, "status": "connected" });
                let refused =
                    report(&app, path, &body).header("origin", "https://elsewhere.example");
                let refused = Answer::to(refused).await;
                refused.problem(401, "UNAUTHENTICATED");
                assert_eq!(refused.header("access-control-allow-origin"), "*");
            }
            // Nothing else is open to them.
            let other = app
                .anonymous(Method::GET, "/api/whatsapp/session/list-realtime")
                .header("origin", "https://elsewhere.example");
            assert_eq!(Answer::to(other).await.header("access-control-allow-origin"), "");
            app.close().await;
        }
    })
    .await;
}

#[tokio::test]
async fn each_status_of_the_seeds_is_written_with_number_and_times() {
    on_each(async |database| {
        let app = App::start(database).await;
        // Seed 000 has the first, seed 002 all three.
        for (number, (word, expected)) in [
            ("connected", "session_connected"),
            ("disconnected", "session_not_connected"),
            ("reconnecting", "connecting"),
        ]
        .into_iter()
        .enumerate()
        {
            let (id, vps) = (format!("shop-{number}"), format!("wa_{number}"));
            app.external(&id, json!({ "sessionData": { "vps_session_id": vps } })).await;
            let report = async |word: &str, digits: &str| {
                app.clock.advance(Duration::from_secs(5));
                let at = app.clock.now();
                let body = json!({
                    "sessionId": vps, "status": word, "phoneNumber": digits, "timestamp": at.as_secs(),
                });
                let told = reported(&app, body).await;
                assert_eq!(told.status, StatusCode::OK, "{}", told.text());
                (at, app.row(&id).await)
            };
            let (at, row) = report(word, "551199999999").await;
            assert_eq!(row.status.word(), expected, "{word}");
            assert_eq!(row.phone_number.as_deref(), Some("551199999999"), "{word}");
            assert_eq!(row.last_active_at, Some(at), "{word}");
            assert_eq!(row.connected_at, (word == "connected").then_some(at), "{word}");
            // From another status, and in capitals.
            let (connected_at, _) = report("CONNECTED", "551188888888").await;
            let (at, row) = report(&word.to_uppercase(), "551188888888").await;
            assert_eq!(row.status.word(), expected, "{word}");
            assert_eq!(row.phone_number.as_deref(), Some("551188888888"));
            assert_eq!(row.last_active_at, Some(at));
            let since = if word == "connected" { at } else { connected_at };
            assert_eq!(row.connected_at, Some(since), "{word}");
        }
        app.close().await;
    })
    .await;
}

/// The key names no organization, so the operator does.
#[tokio::test]
async fn by_the_key_only_sessions_of_the_organization_that_is_configured_are_reported_of() {
    on_each(async |database| {
        let policy = Policy {
            key: Some(STATUS_KEY.to_owned().into()),
            reports_of: Some(1),
            ..Policy::default()
        };
        let opened = database.open().await;
        let app = App::with_external(opened, Limits::default(), Edge::default(), policy).await;
        let made = app.post("/api/organizations", json!({ "name": "Squatter" })).await.json();
        let squatter = made["data"]["id"].as_str().unwrap().parse().unwrap();
        let theirs = app.token_of(&squatter, Role::Manager).await;
        let body = json!({
            "sessionId": "squat", "origin": "external", "start": false,
            "sessionData": { "vps_session_id": VPS },
        });
        let request = app.anonymous(Method::POST, "/api/whatsapp/session").bearer_auth(&theirs);
        assert_eq!(Answer::to(with_json(request, &body)).await.status, StatusCode::CREATED);
        let told =
            json!({ "sessionId": VPS, "status": "connected", "phoneNumber": "551199999999" });
        // Whoever was first: that somebody else has the name is not told.
        reported(&app, told.clone()).await.problem(404, "SESSION_NOT_FOUND");
        app.external("shop", json!({ "sessionData": { "vps_session_id": VPS } })).await;
        let answer = reported(&app, told.clone()).await;
        assert_eq!(answer.json()["data"]["sessionId"], "shop", "{}", answer.text());
        assert_eq!(app.row("shop").await.phone_number.as_deref(), Some("551199999999"));
        let squat = async || {
            let path = "/api/whatsapp/session/squat";
            let request = app.anonymous(Method::GET, path).bearer_auth(&theirs);
            Answer::to(request).await.json()["data"]["status"].clone()
        };
        assert_eq!(squat().await, "session_not_connected");
        // Its own token reports of it.
        let own = report(&app, PATHS[0], &told).header("webhook-secret-key", &theirs);
        assert_eq!(Answer::to(own).await.json()["data"]["sessionId"], "squat");
        assert_eq!(squat().await, "session_connected");
        app.close().await;
    })
    .await;
}

/// Whoever has claimed the name first gets what is reported by a key that names nobody.
#[tokio::test]
async fn who_shows_a_token_in_the_key_s_place_reports_of_his_own_organization_alone() {
    on_each(async |database| {
        for policy in [
            Policy { key: Some(STATUS_KEY.to_owned().into()), ..Policy::default() },
            Policy::default(),
        ] {
            let opened = database.open().await;
            let per_token = Some(Quota::new(600, Duration::from_mins(1), 100));
            let limits = Limits { per_token, ..Limits::default() };
            let app = App::with_external(opened, limits, Edge::default(), policy).await;
            let made = app.post("/api/organizations", json!({ "name": "Squatter" })).await.json();
            let squatter = made["data"]["id"].as_str().unwrap().parse().unwrap();
            let theirs = app.token_of(&squatter, Role::Manager).await;
            let vps = format!("{VPS}-{}", app.clock.now().0 + i64::from(rand::random::<u32>()));
            let body = json!({
                "sessionId": "squat", "origin": "external", "start": false,
                "sessionData": { "vps_session_id": vps },
            });
            let request = app.anonymous(Method::POST, "/api/whatsapp/session").bearer_auth(&theirs);
            assert_eq!(Answer::to(with_json(request, &body)).await.status, StatusCode::CREATED);
            app.clock.advance(Duration::from_secs(1));
            let id = format!("shop-{vps}");
            app.external(&id, json!({ "sessionData": { "vps_session_id": vps } })).await;

            let told =
                json!({ "sessionId": vps, "status": "connected", "phoneNumber": "551199999999" });
            let mine = app.token_of(&app.organization, Role::Manager).await;
            for (path, header) in PATHS.into_iter().zip(["webhook-secret-key", "x-webhook-secret"])
            {
                let answer = Answer::to(report(&app, path, &told).header(header, &mine)).await;
                assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
                assert_eq!(answer.json()["data"]["sessionId"], id.as_str());
            }
            assert_eq!(app.row(&id).await.phone_number.as_deref(), Some("551199999999"));
            let squat =
                app.anonymous(Method::GET, "/api/whatsapp/session/squat").bearer_auth(&theirs);
            let squat = Answer::to(squat).await.json();
            assert_eq!(squat["data"]["status"], "session_not_connected", "{squat}");

            let shown = async |token: &str, body: &Value| {
                Answer::to(report(&app, PATHS[0], body).header("x-webhook-secret", token)).await
            };
            let viewer = app.token_of(&app.organization, Role::Viewer).await;
            let refused = shown(&viewer, &told).await;
            shown("wag_nothing", &told).await.problem(401, "UNAUTHENTICATED");
            let unknown = json!({ "sessionId": "wa_other", "status": "connected" });
            let missing = shown(&mine, &unknown).await;
            // Whatever comes of it, it counts for the token.
            for answer in [&refused, &missing] {
                let left = answer.header("ratelimit");
                assert!(left.starts_with("\"token\";"), "{left}: {}", answer.text());
            }
            refused.problem(403, "FORBIDDEN");
            missing.problem(404, "SESSION_NOT_FOUND");
            shown(&mine, &json!({})).await.invalid(&["/sessionId", "/status"]);
            Answer::to(app.request(Method::DELETE, &format!("/api/whatsapp/session/{id}"))).await;
            let squat = app.anonymous(Method::DELETE, "/api/whatsapp/session/squat");
            Answer::to(squat.bearer_auth(&theirs)).await;
            app.close().await;
        }
    })
    .await;
}

/// Where organizations trust each other, the key reports of all of them, and each keeps to itself.
#[tokio::test]
async fn by_the_key_of_all_organizations_each_session_takes_over_in_its_own_alone() {
    on_each(async |database| {
        let key = Some(STATUS_KEY.to_owned().into());
        let policy = Policy { key, reports_of: None, ..Policy::default() };
        let opened = database.open().await;
        let app = App::with_external(opened, Limits::default(), Edge::default(), policy).await;
        let other = second_organization(database).await;
        let theirs = app.token_of(&other, Role::Manager).await;
        for (token, name) in [(&app.token, "ours"), (&theirs, "theirs")] {
            let make = async |body: Value| {
                let request = app.anonymous(Method::POST, "/api/whatsapp/session");
                let made = Answer::to(with_json(request.bearer_auth(token), &body)).await;
                assert_eq!(made.status, StatusCode::CREATED, "{}", made.text());
            };
            make(json!({ "sessionId": "old", "phoneNumber": "551199999999", "start": false }))
                .await;
            let data = json!({ "vps_session_id": format!("wa_{name}") });
            make(json!({ "sessionId": name, "origin": "external", "sessionData": data })).await;
        }
        let heirs = async || {
            let mut heirs = Vec::new();
            for token in [&app.token, &theirs] {
                let request = app.anonymous(Method::GET, "/api/whatsapp/session/old");
                let old = Answer::to(request.bearer_auth(token)).await.json();
                heirs.push(old["data"]["migratedTo"].clone());
            }
            heirs
        };
        for (name, expected) in
            [("theirs", [Value::Null, json!("theirs")]), ("ours", [json!("ours"), json!("theirs")])]
        {
            let told = json!({
                "sessionId": format!("wa_{name}"), "status": "connected",
                "phoneNumber": "551199999999",
            });
            let answer = reported(&app, told).await;
            assert_eq!(answer.json()["data"]["sessionId"], name, "{}", answer.text());
            assert_eq!(heirs().await, expected, "{name}");
        }
        app.close().await;
    })
    .await;
}

#[tokio::test]
async fn a_report_that_cannot_be_read_says_where_and_one_that_is_too_long_is_refused() {
    on_each(async |database| {
        let app = App::start(database).await;
        for path in PATHS {
            let post = |body: String| {
                let request = app.anonymous(Method::POST, path);
                let request = request.header("content-type", "application/json");
                Answer::to(request.header("webhook-secret-key", STATUS_KEY).body(body))
            };
            let problem =
                post("{\n  \"status\": }".to_owned()).await.problem(400, "MALFORMED_JSON");
            let detail = problem["errors"][0]["detail"].as_str().unwrap();
            assert!(detail.contains("line 2 column 13"), "{path}: {detail}");
            let long = json!({ "sessionId": VPS, "status": "x".repeat(1 << 20) });
            post(long.to_string()).await.problem(413, "BODY_TOO_LARGE");
        }
        app.close().await;
    })
    .await;
}
