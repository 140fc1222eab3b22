//! What browsers are told: who may call from where, and what nobody shall do with an answer.

use std::collections::BTreeSet;

use axum::http::HeaderValue;
use reqwest::{Method, StatusCode};
use wagate::http::{self, Edge, Limits, Origins};

use crate::{
    database::{Kind, on},
    http_app::{Answer, App},
};

const APP: &str = "https://app.example.com";

/// What a browser asks before it lets a page send a token.
async fn preflight(app: &App, origin: &str) -> Answer {
    let request = app
        .anonymous(Method::OPTIONS, "/api/whatsapp/session")
        .header("origin", origin.to_owned())
        .header("access-control-request-method", "POST")
        .header("access-control-request-headers", "authorization,content-type,idempotency-key");
    Answer::to(request).await
}

#[tokio::test]
async fn pages_of_other_origins_may_call_only_when_they_are_named() {
    on(Kind::Sqlite, async |database| {
        let app = App::start(database).await;
        let refused = preflight(&app, APP).await;
        assert!(!refused.status.is_success(), "{}", refused.status);
        assert_eq!(refused.header("access-control-allow-origin"), "");
        let answer = Answer::to(app.request(Method::GET, "/").header("origin", APP)).await;
        assert_eq!(answer.header("access-control-allow-origin"), "");
        app.close().await;
    })
    .await;
    on(Kind::Sqlite, async |database| {
        let origins = Origins::Named(vec![HeaderValue::from_static(APP)]);
        let edge = Edge { origins, ..Edge::default() };
        let app = App::behind(database.open().await, Limits::default(), edge).await;
        let allowed = preflight(&app, APP).await;
        assert_eq!(allowed.status, StatusCode::OK);
        assert_eq!(allowed.header("access-control-allow-origin"), APP);
        assert!(allowed.header("access-control-allow-headers").contains("authorization"));
        let other = preflight(&app, "https://evil.example").await;
        assert_eq!(other.header("access-control-allow-origin"), "");

        // A problem can be read by the page, too.
        let request = app.anonymous(Method::GET, "/").header("origin", APP);
        let answer = Answer::to(request).await;
        answer.problem(401, "UNAUTHENTICATED");
        assert_eq!(answer.header("access-control-allow-origin"), APP);
        assert!(answer.header("access-control-expose-headers").contains("x-request-id"));
        for name in ["content-range", "content-disposition"] {
            assert!(answer.header("access-control-expose-headers").contains(name), "{name}");
        }
        // Nor is it a riddle why a request that is too large was refused.
        let long = format!("/{}", "a".repeat(9_000));
        for (path, more, code) in
            [(long.as_str(), 0, "URI_TOO_LONG"), ("/", 40_000, "HEADERS_TOO_LARGE")]
        {
            let asked = |origin: &'static str| {
                app.anonymous(Method::GET, path)
                    .header("origin", origin)
                    .header("x-more", "a".repeat(more))
            };
            let refused = Answer::to(asked(APP)).await;
            assert_eq!(refused.json()["code"], code);
            assert_eq!(refused.header("access-control-allow-origin"), APP);
            assert_eq!(refused.header("vary"), "origin");
            let other = Answer::to(asked("https://evil.example")).await;
            assert_eq!(other.header("access-control-allow-origin"), "");
        }
        // Tokens are sent by pages, never by browsers themselves.
        assert_eq!(answer.header("access-control-allow-credentials"), "");
        app.close().await;
    })
    .await;
}

/// The addresses whose routes a page of this origin may call, as their preflights say.
async fn open_to(app: &App, origin: &str) -> BTreeSet<(String, &'static str)> {
    let mut open = BTreeSet::new();
    for route in http::routes(&Limits::default()) {
        let request = app
            .anonymous(Method::OPTIONS, &route.path.replace(['{', '}'], ""))
            .header("origin", origin)
            .header("access-control-request-method", route.method.as_str())
            .header("access-control-request-headers", "authorization");
        let answer = Answer::to(request).await;
        match answer.header("access-control-allow-origin") {
            "" => assert!(!answer.status.is_success(), "{route:?}: {}", answer.status),
            "*" => {
                open.insert((route.method.to_string(), route.path));
            }
            other => panic!("{route:?} is open to {other}"),
        }
    }
    open
}

#[tokio::test]
async fn without_origins_pages_may_report_statuses_and_nothing_else() {
    on(Kind::Sqlite, async |database| {
        let app = App::start(database).await;
        let reports = ["/api/whatsapp/status-webhook", "/functions/v1/whatsapp-status-webhook"];
        let reports = reports.map(|path| ("POST".to_owned(), path));
        assert_eq!(open_to(&app, APP).await, BTreeSet::from(reports));
        let routes = http::routes(&Limits::default());
        let stated = routes.iter().filter(|route| route.is_for_all_origins);
        assert_eq!(stated.count(), 2, "what a route says of itself is what it does");
        app.close().await;
    })
    .await;
    on(Kind::Sqlite, async |database| {
        let edge = Edge { origins: Origins::Any, ..Edge::default() };
        let app = App::behind(database.open().await, Limits::default(), edge).await;
        let all = http::routes(&Limits::default());
        let all: BTreeSet<_> =
            all.iter().map(|route| (route.method.to_string(), route.path)).collect();
        assert_eq!(open_to(&app, APP).await, all);
        app.close().await;
    })
    .await;
}

#[tokio::test]
async fn every_answer_says_that_it_is_not_to_be_kept_framed_or_guessed_at() {
    on(Kind::Sqlite, async |database| {
        let app = App::start(database).await;
        for path in ["/", "/nowhere", "/livez", "/api/tokens", "/api/whatsapp/events/page?after=x"]
        {
            let answer = app.get(path).await;
            let policy = answer.header("content-security-policy");
            assert!(policy.contains("frame-ancestors 'none'"), "{path}: {policy}");
            assert_eq!(answer.header("cache-control"), "no-store", "{path}");
            assert_eq!(answer.header("x-content-type-options"), "nosniff", "{path}");
            assert_eq!(answer.header("x-frame-options"), "DENY", "{path}");
            assert_eq!(answer.header("referrer-policy"), "no-referrer", "{path}");
            assert_eq!(answer.header("strict-transport-security"), "", "{path}: not over HTTP");
        }
        // The page has a policy of its own, which lets it run.
        let page = app.get("/dashboard").await;
        let policy = page.header("content-security-policy");
        assert!(policy.contains("script-src 'self'") && policy.contains("frame-ancestors 'none'"));
        app.close().await;
    })
    .await;
}
