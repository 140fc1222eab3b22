//! How often anybody may ask, and whom a request is taken to come from.

use std::time::Duration;

use entity::state::Role;
use reqwest::Method;
use serde_json::json;
use wagate::http::{Edge, ForwardedHeader, Limits, Proxies, Quota};

use crate::{
    database::{Kind, on, on_each},
    http_app::{Answer, App, json},
};

const SECOND: Duration = Duration::from_secs(1);

async fn as_token(app: &App, secret: &str) -> Answer {
    Answer::to(app.anonymous(Method::GET, "/").bearer_auth(secret)).await
}

pub(crate) fn behind_a_proxy(header: ForwardedHeader) -> Edge {
    let trusted = vec!["127.0.0.0/8".parse().unwrap()];
    Edge { proxies: Proxies { trusted, header }, ..Edge::default() }
}

#[tokio::test]
async fn the_rate_that_a_token_gets_is_the_configured_one() {
    on(Kind::Sqlite, async |database| {
        let limits = Limits { per_token: Some(Quota::new(10, SECOND, 5)), ..Limits::default() };
        let app = App::start_with(database, limits).await;
        let mut answered = 0;
        // Three times as often as is allowed, for ten seconds.
        for _ in 0..300 {
            answered += u32::from(app.get("/").await.status == 200);
            app.clock.advance(Duration::from_millis(33));
        }
        // The burst, and ten in each of the 9.867 seconds between the first and the last.
        assert_eq!(answered, 5 + 98);
        app.close().await;
    })
    .await;
}

#[tokio::test]
async fn the_rate_that_an_address_gets_is_the_configured_one_whatever_it_shows() {
    on(Kind::Sqlite, async |database| {
        let limits = Limits { per_address: Some(Quota::new(10, SECOND, 5)), ..Limits::default() };
        let edge = behind_a_proxy(ForwardedHeader::XForwardedFor);
        let app = App::behind(database.open().await, limits, edge).await;
        let other = app.token_of(&app.organization, Role::Viewer).await;
        let addresses = ["198.51.100.7", "2001:db8:1:2::7"];
        let mut answered = [0; 2];
        let mut refused = [0; 2];
        // Three times as often as is allowed, for ten seconds, with a token, with another one and with none.
        for number in 0..300 {
            for (at, address) in addresses.into_iter().enumerate() {
                let request = match number % 3 {
                    0 => app.request(Method::GET, "/"),
                    1 => app.anonymous(Method::GET, "/").bearer_auth(&other),
                    _ => app.anonymous(Method::GET, "/dashboard"),
                };
                let answer = Answer::to(request.header("x-forwarded-for", address)).await;
                let policy = answer.header("ratelimit-policy");
                assert_eq!(policy, "\"address\";q=10;w=1", "{}", answer.status);
                if answer.status == 200 {
                    answered[at] += 1;
                    continue;
                }
                assert_eq!(answer.problem(429, "RATE_LIMITED")["limit"], "address");
                assert_eq!(answer.header("retry-after"), "1");
                assert_eq!(answer.header("ratelimit"), "\"address\";r=0;t=1");
                assert_eq!(answer.header("x-ratelimit-remaining"), "0");
                refused[at] += 1;
            }
            app.clock.advance(Duration::from_millis(33));
        }
        // The burst, and ten in each of the 9.867 seconds between the first and the last, for each of them.
        assert_eq!(answered, [5 + 98; 2]);
        assert_eq!(refused, [300 - 103; 2]);
        app.close().await;
    })
    .await;
}

#[tokio::test]
async fn an_answer_says_what_is_left_and_a_refusal_when_to_come_back() {
    on(Kind::Sqlite, async |database| {
        let limits = Limits {
            per_token: Some(Quota::new(30, Duration::from_mins(1), 2)),
            per_address: Some(Quota::new(10, SECOND, 5)),
            ..Limits::default()
        };
        let app = App::start_with(database, limits).await;
        let first = app.get("/").await;
        assert_eq!(first.status, 200);
        assert_eq!(first.header("ratelimit-policy"), "\"token\";q=2;w=4, \"address\";q=10;w=1");
        assert_eq!(first.header("ratelimit"), "\"token\";r=1;t=2, \"address\";r=4;t=1");
        assert_eq!(first.header("x-ratelimit-limit"), "2");
        assert_eq!(first.header("x-ratelimit-remaining"), "1");
        assert_eq!(first.header("x-ratelimit-reset"), "2");

        assert_eq!(app.get("/").await.status, 200);
        let refused = app.get("/").await;
        assert_eq!(refused.problem(429, "RATE_LIMITED")["limit"], "token");
        assert_eq!(
            (refused.header("retry-after"), refused.header("x-ratelimit-remaining")),
            ("2", "0")
        );

        // Another token of the same address has its own.
        let other = app.token_of(&app.organization, Role::Viewer).await;
        assert_eq!(as_token(&app, &other).await.status, 200);
        assert_eq!(as_token(&app, &other).await.status, 200);
        let refused = as_token(&app, &other).await;
        assert_eq!(refused.problem(429, "RATE_LIMITED")["limit"], "address");
        assert_eq!(
            (refused.header("retry-after"), refused.header("x-ratelimit-limit")),
            ("1", "5")
        );
        // Also for who has no token, but not for a load balancer that asks how we are.
        let nobody = Answer::to(app.anonymous(Method::GET, "/dashboard")).await;
        nobody.problem(429, "RATE_LIMITED");
        assert_eq!(Answer::to(app.anonymous(Method::GET, "/livez")).await.status, 204);

        app.clock.advance(Duration::from_secs(2));
        assert_eq!(app.get("/").await.status, 200);
        app.close().await;
    })
    .await;
}

#[tokio::test]
async fn who_guesses_is_told_to_wait_and_his_neighbours_are_not() {
    on_each(async |database| {
        let limits = Limits {
            failed_authentications: Some(Quota::new(1, SECOND, 3)),
            per_address: Some(Quota::new(100, SECOND, 100)),
            ..Limits::default()
        };
        let app = App::start_with(database, limits).await;
        let fresh = app.token_of(&app.organization, Role::Viewer).await;
        assert_eq!(app.get("/").await.status, 200);
        for _ in 0..3 {
            as_token(&app, "wag_guess").await.problem(401, "UNAUTHENTICATED");
        }
        let refused = as_token(&app, "wag_guess").await;
        assert_eq!(refused.problem(429, "RATE_LIMITED")["limit"], "failed_authentications");
        assert_eq!(refused.header("retry-after"), "1");
        // What is told is the limit that has refused, beside what is left of the other one.
        let (name, left) = ("\"failed_authentications\"", refused.header("ratelimit").to_owned());
        assert_eq!(left, format!("{name};r=0;t=3, \"address\";r=95;t=1"));
        assert!(refused.header("ratelimit-policy").starts_with(&format!("{name};q=3;w=3, ")));
        let told = ["x-ratelimit-limit", "x-ratelimit-remaining", "x-ratelimit-reset"];
        assert_eq!(told.map(|name| refused.header(name)), ["3", "0", "3"]);
        // What opens does so whether or not it has before: it is no guess.
        assert_eq!(app.get("/").await.status, 200);
        assert_eq!(as_token(&app, &fresh).await.status, 200);
        as_token(&app, "wag_guess").await.problem(429, "RATE_LIMITED");
        // Who shows nothing has guessed nothing.
        Answer::to(app.anonymous(Method::GET, "/")).await.problem(401, "UNAUTHENTICATED");
        app.clock.advance(SECOND);
        as_token(&app, "wag_guess").await.problem(401, "UNAUTHENTICATED");
        app.close().await;
    })
    .await;
}

#[tokio::test]
async fn a_stranger_s_challenges_and_keys_cost_no_token_anything_and_say_when_to_come_back() {
    on_each(async |database| {
        let limits =
            Limits { failed_authentications: Some(Quota::new(1, SECOND, 3)), ..Limits::default() };
        let app = App::start_with(database, limits).await;
        let challenge = "/webhook?hub.mode=subscribe&hub.verify_token=guess&hub.challenge=1";
        let guess = async || Answer::to(app.anonymous(Method::GET, challenge)).await;
        let report = async || {
            let request = app.anonymous(Method::POST, "/api/whatsapp/status-webhook");
            let report = json!({ "sessionId": "vps-1", "status": "connected" });
            Answer::to(json(request, &report).header("webhook-secret-key", "guess")).await
        };
        for _ in 0..3 {
            guess().await.problem(403, "META_CHALLENGE_REFUSED");
        }
        // No other limit governs that address.
        let refused = guess().await;
        assert_eq!(refused.problem(429, "RATE_LIMITED")["limit"], "failed_authentications");
        assert_eq!(refused.header("ratelimit"), "\"failed_authentications\";r=0;t=3");
        assert_eq!(refused.header("x-ratelimit-remaining"), "0");
        // The one kind of guess is none of the other.
        for _ in 0..3 {
            report().await.problem(401, "UNAUTHENTICATED");
        }
        report().await.problem(429, "RATE_LIMITED");
        for _ in 0..3 {
            as_token(&app, "wag_guess").await.problem(401, "UNAUTHENTICATED");
        }
        as_token(&app, "wag_guess").await.problem(429, "RATE_LIMITED");
        // A token that was never shown to this process.
        let fresh = app.token_of(&app.organization, Role::Viewer).await;
        assert_eq!(as_token(&app, &fresh).await.status, 200);
        app.close().await;
    })
    .await;
}

#[tokio::test]
async fn a_token_that_is_used_up_may_not_even_ask_for_another_organization() {
    on_each(async |database| {
        let limits = Limits { per_token: Some(Quota::new(1, SECOND, 2)), ..Limits::default() };
        let app = App::start_with(database, limits).await;
        let elsewhere = async || {
            Answer::to(app.request(Method::GET, "/").header("x-organization", "999")).await
        };
        for left in ["1", "0"] {
            let answer = elsewhere().await;
            answer.problem(404, "ORGANIZATION_NOT_FOUND");
            assert_eq!(answer.header("x-ratelimit-remaining"), left);
        }
        assert_eq!(elsewhere().await.problem(429, "RATE_LIMITED")["limit"], "token");
        app.close().await;
    })
    .await;
}

#[tokio::test]
async fn a_trusted_proxy_says_who_is_limited_and_written_down() {
    on_each(async |database| {
        let limits = Limits { per_address: Some(Quota::new(1, SECOND, 1)), ..Limits::default() };
        let edge = behind_a_proxy(ForwardedHeader::XForwardedFor);
        let app = App::behind(database.open().await, limits, edge).await;
        let make = |forwarded: &str| {
            let request = app.request(Method::POST, "/api/tokens");
            let request = request.header("x-forwarded-for", forwarded.to_owned());
            // Not the header that this proxy writes: its client did.
            let request = request.header("forwarded", "for=192.0.2.66");
            Answer::to(json(request, &json!({ "role": "viewer" })))
        };
        assert_eq!(make("1.1.1.1, 198.51.100.7").await.status, 201);
        make("2.2.2.2, 198.51.100.7").await.problem(429, "RATE_LIMITED");
        assert_eq!(make("198.51.100.8").await.status, 201);
        let entries = app.get("/api/audit").await.json();
        let from = |at: usize| entries["data"][at]["address"].clone();
        assert_eq!([from(0), from(1)], ["198.51.100.8", "198.51.100.7"]);
        app.close().await;
    })
    .await;
}

#[tokio::test]
async fn without_a_trusted_proxy_a_header_claims_nothing() {
    on(Kind::Sqlite, async |database| {
        let limits = Limits { per_address: Some(Quota::new(1, SECOND, 1)), ..Limits::default() };
        let app = App::start_with(database, limits).await;
        let ask = |from: &str| {
            Answer::to(app.request(Method::GET, "/").header("x-forwarded-for", from.to_owned()))
        };
        assert_eq!(ask("198.51.100.7").await.status, 200);
        ask("198.51.100.8").await.problem(429, "RATE_LIMITED");
        app.close().await;
    })
    .await;
}
