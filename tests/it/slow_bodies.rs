//! Bodies that come before it is known who sends them: bounded in all and for each address, and only so long waited for.

use std::time::Duration;

use reqwest::{Method, RequestBuilder};
use serde_json::json;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use wagate::{
    http::{ForwardedHeader, Limits, Quota},
    meta::Signature,
    service::external::Policy,
    webhook::{SigningSecret, sign},
};

use crate::{
    database::{Database, on_each},
    http_app::{Answer, App, STATUS_KEY, json as with_json},
    http_limits::behind_a_proxy,
    meta::{NUMBER, SECRET, SHARED, SHORT, WABA, complete, deliver, set_up, tenant, text},
};

const SHOP: &str = "/api/whatsapp/webhook/shop";
const STATUS: &str = "/api/whatsapp/status-webhook";

/// A gateway behind a proxy that says who asks.
pub(crate) async fn behind(database: &Database, limits: Limits) -> App {
    let edge = behind_a_proxy(ForwardedHeader::XForwardedFor);
    App::behind(database.open().await, limits, edge).await
}

/// Few places, for which nobody waits long.
pub(crate) fn few() -> Limits {
    Limits { meta_posts: 16, posts: 16, turn: Duration::from_millis(100), ..Limits::default() }
}

/// So many failures in each minute.
fn failures(number: u32) -> Limits {
    let quota = Quota::new(number, Duration::from_mins(1), number);
    Limits { failed_authentications: Some(quota), ..Limits::default() }
}

/// A request whose body begins, and does not go on.
async fn begin(app: &App, path: &str, from: &str, headers: &[(&str, String)]) -> TcpStream {
    let mut stream = TcpStream::connect(app.base.trim_start_matches("http://")).await.unwrap();
    let headers: Vec<_> =
        headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let headers = headers.concat();
    let head = format!(
        "POST {path} HTTP/1.1\r\nhost: x\r\nx-forwarded-for: {from}\r\ncontent-type: application/json\r\n\
         content-length: 100\r\n{headers}\r\n{{"
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    stream
}

/// The status that comes next.
async fn status(stream: &mut TcpStream) -> u16 {
    let mut head = [0; 12];
    let read = tokio::time::timeout(Duration::from_secs(30), stream.read_exact(&mut head)).await;
    read.expect("an answer").unwrap();
    String::from_utf8_lossy(&head[9..]).parse().unwrap()
}

pub(crate) fn of_nothing() -> (&'static str, String) {
    ("x-hub-signature-256", format!("sha256={}", "0".repeat(64)))
}

/// Requests whose bodies are waited for, until they are dropped.
pub(crate) type Held = Vec<std::pin::Pin<Box<dyn Future<Output = u16>>>>;

/// Begins requests from many addresses until all but so many are turned away, and holds those.
pub(crate) async fn crowd(app: &App, path: &str, headers: &[(&str, String)], held: usize) -> Held {
    let mut waiting: Held = Vec::new();
    for number in 0..40 {
        let mut stream = begin(app, path, &format!("203.0.113.{number}"), headers).await;
        waiting.push(Box::pin(async move { status(&mut stream).await }));
    }
    while waiting.len() > held {
        let (status, _, rest) = futures_util::future::select_all(waiting).await;
        assert_eq!(status, 503, "no place was free");
        waiting = rest;
    }
    waiting
}

pub(crate) async fn meta(app: &App, path: &str, from: &str, id: &str) -> Answer {
    let body = text(WABA, NUMBER, id, "hi").to_string();
    let signature = Signature::of(SECRET.as_bytes(), body.as_bytes()).to_string();
    let request = app.anonymous(Method::POST, path).header("x-forwarded-for", from);
    Answer::to(request.header("x-hub-signature-256", signature).body(body)).await
}

#[tokio::test]
async fn slow_posts_from_anywhere_leave_places_for_meta_and_for_each_organization() {
    on_each(async |database| {
        let app = behind(database, few()).await;
        let account = set_up(&app, &app.token, complete(NUMBER, WABA, SECRET)).await;
        let own = account["ownPath"].as_str().unwrap();
        assert_eq!(meta(&app, SHARED, "198.51.100.1", "first").await.status, 200);
        // Half of the twelve places that the shared addresses have are for whoever comes.
        let held = crowd(&app, SHARED, &[of_nothing()], 6).await;
        meta(&app, SHARED, "198.51.100.2", "new").await.problem(503, "UNAVAILABLE");
        for number in 0..20 {
            for path in [SHARED, SHORT] {
                let id = format!("{path} {number}");
                assert_eq!(meta(&app, path, "198.51.100.1", &id).await.status, 200);
            }
        }
        // An own address has places that the shared ones have not.
        assert_eq!(meta(&app, own, "198.51.100.2", "own").await.status, 200);
        drop(held);
        app.close().await;
    })
    .await;
}

#[tokio::test]
async fn one_organization_s_own_addresses_fill_no_other_s_places() {
    on_each(async |database| {
        let app = behind(database, few()).await;
        let account = set_up(&app, &app.token, complete(NUMBER, WABA, SECRET)).await;
        let own = account["ownPath"].as_str().unwrap();
        let (_, theirs) = tenant(&app, "theirs").await;
        let other = set_up(&app, &theirs, complete("1", "2", "another_secret")).await;
        let held = crowd(&app, own, &[of_nothing()], 2).await;
        meta(&app, own, "198.51.100.2", "new").await.problem(503, "UNAVAILABLE");
        assert_eq!(meta(&app, SHARED, "198.51.100.2", "shared").await.status, 200);
        let their_own = other["ownPath"].as_str().unwrap();
        let body = text("2", "1", "theirs", "hi").to_string();
        let taken = deliver(&app, their_own, "another_secret", body.as_bytes()).await;
        assert_eq!(taken.status, 200, "{}", taken.text());
        drop(held);
        app.close().await;
    })
    .await;
}

#[tokio::test]
async fn meta_is_counted_by_what_it_cannot_prove_and_never_by_what_it_sends() {
    on_each(async |database| {
        let few = Some(Quota::new(1, Duration::from_mins(1), 1));
        let limits = Limits { per_address: few, per_token: None, ..failures(4) };
        let app = behind(database, limits).await;
        let set = app.request(Method::POST, "/api/meta/accounts");
        let set = with_json(set, &complete(NUMBER, WABA, SECRET));
        assert_eq!(Answer::to(set).await.status, 201);
        let guess = async |path: &str| {
            let request =
                app.anonymous(Method::POST, path).body(text(WABA, NUMBER, "x", "y").to_string());
            let (name, value) = of_nothing();
            let request = request.header(name, value).header("x-forwarded-for", "198.51.100.1");
            Answer::to(request).await
        };
        guess(SHARED).await.problem(403, "META_SIGNATURE_INVALID");
        guess("/api/webhooks/whatsapp/nobody-s").await.problem(404, "META_ACCOUNT_NOT_FOUND");
        guess(SHORT).await.problem(403, "META_SIGNATURE_INVALID");
        let unsigned =
            app.anonymous(Method::POST, SHARED).header("x-forwarded-for", "198.51.100.1");
        Answer::to(unsigned).await.problem(403, "META_SIGNATURE_INVALID");
        let refused = guess(SHARED).await;
        assert_eq!(refused.problem(429, "RATE_LIMITED")["limit"], "failed_authentications");
        assert_eq!(refused.header("retry-after"), "15");
        // It counts as other tries do, from the same address and from no other.
        let token = app.anonymous(Method::GET, "/").bearer_auth("wag_guess");
        let token = token.header("x-forwarded-for", "198.51.100.1");
        Answer::to(token).await.problem(429, "RATE_LIMITED");
        // One owner's wrong secret costs the others nothing, however much there is.
        assert_eq!(meta(&app, SHARED, "198.51.100.1", "first").await.status, 200);
        let posts = (0..200).map(|n| {
            let (app, id) = (&app, format!("n{n}"));
            async move { meta(app, SHARED, "198.51.100.1", &id).await.status }
        });
        for status in futures_util::future::join_all(posts).await {
            assert_eq!(status, 200);
        }
        assert_eq!(database.count("SELECT count(*) FROM meta_event").await, 201);
        app.close().await;
    })
    .await;
}

#[tokio::test]
async fn what_is_shown_is_looked_at_before_a_byte_of_the_body() {
    on_each(async |database| {
        let app = App::start(database).await;
        let made = app.external("shop", json!({ "webhookAuth": "secret" })).await;
        app.external("signed", json!({ "webhookAuth": "signature" })).await;
        let wrong = |name| (name, "whsec_wrong".to_owned());
        let now = app.clock.now().as_secs();
        let signed = |at: i64| {
            [
                ("webhook-id", "msg_1".to_owned()),
                ("webhook-timestamp", at.to_string()),
                ("webhook-signature", "v1,AAAA".to_owned()),
            ]
        };
        // None of these bodies ever comes.
        for (path, headers) in [
            (SHOP, vec![]),
            (SHOP, vec![wrong("x-webhook-secret")]),
            (SHOP, vec![("authorization", "Bearer wag_wrong".to_owned())]),
            // Nothing of this session is signed, nothing so old is good, and no such session is there.
            (SHOP, signed(now).to_vec()),
            ("/api/whatsapp/webhook/signed", signed(now - 301).to_vec()),
            ("/api/whatsapp/webhook/nobody", signed(now).to_vec()),
            (STATUS, vec![]),
            (STATUS, vec![wrong("webhook-secret-key")]),
        ] {
            let mut stream = begin(&app, path, "192.0.2.1", &headers).await;
            assert_eq!(status(&mut stream).await, 401, "{path} {headers:?}");
        }
        drop(made);
        app.close().await;
    })
    .await;
}

#[tokio::test]
async fn a_body_of_whoever_may_post_is_waited_for_so_long_and_no_longer() {
    on_each(async |database| {
        let limits = Limits { body_time: Duration::from_millis(100), ..Limits::default() };
        let app = App::start_with(database, limits).await;
        let made = app.external("shop", json!({ "webhookAuth": "secret" })).await;
        app.external("signed", json!({ "webhookAuth": "signature" })).await;
        let signed = vec![
            ("webhook-id", "msg_1".to_owned()),
            ("webhook-timestamp", app.clock.now().as_secs().to_string()),
            ("webhook-signature", "v1,AAAA".to_owned()),
        ];
        for (path, headers) in [
            (made["webhookUrl"].as_str().unwrap(), vec![]),
            ("/api/whatsapp/webhook/signed", signed),
            (STATUS, vec![("webhook-secret-key", STATUS_KEY.to_owned())]),
        ] {
            let mut stream = begin(&app, path, "192.0.2.1", &headers).await;
            assert_eq!(status(&mut stream).await, 408, "{path}");
        }
        app.close().await;
    })
    .await;
}

#[tokio::test]
async fn slow_signed_posts_leave_places_for_whoever_has_signed_well() {
    on_each(async |database| {
        let app = behind(database, few()).await;
        let made = app.external("shop", json!({ "webhookAuth": "signature" })).await;
        let secret = SigningSecret::parse(made["secret"].as_str().unwrap()).unwrap();
        let now = app.clock.now().as_secs();
        let post = async |id: &str, from: &str| {
            let body = r#"{"event":"ready","data":{}}"#;
            let request =
                app.anonymous(Method::POST, SHOP).header("x-forwarded-for", from.to_owned());
            let request = request
                .header("webhook-id", id)
                .header("webhook-timestamp", now.to_string())
                .header("webhook-signature", sign([&secret], id, now, body.as_bytes()));
            Answer::to(request.header("content-type", "application/json").body(body)).await
        };
        assert_eq!(post("msg_1", "198.51.100.1").await.status, 200);
        let slow = [
            ("webhook-id", "msg_2".to_owned()),
            ("webhook-timestamp", now.to_string()),
            ("webhook-signature", "v1,AAAA".to_owned()),
        ];
        let held = crowd(&app, SHOP, &slow, 6).await;
        post("msg_3", "198.51.100.2").await.problem(503, "UNAVAILABLE");
        assert_eq!(post("msg_4", "198.51.100.1").await.status, 200);
        // Who shows a secret or a token needs no such place.
        app.external("open", json!({})).await;
        assert_eq!(app.tell("open", "ready", json!({})).await.status, 200);
        drop(held);
        app.close().await;
    })
    .await;
}

#[tokio::test]
async fn slow_reports_where_anybody_may_report_fill_their_places_and_no_more() {
    on_each(async |database| {
        let policy = Policy { allow_open: true, ..Policy::default() };
        let edge = behind_a_proxy(ForwardedHeader::XForwardedFor);
        let app = App::with_external(database.open().await, few(), edge, policy).await;
        let held = crowd(&app, STATUS, &[], 6).await;
        let report = json!({ "sessionId": "x", "status": "connected" });
        let report = with_json(app.anonymous(Method::POST, STATUS), &report);
        Answer::to(report).await.problem(503, "UNAVAILABLE");
        drop(held);
        app.close().await;
    })
    .await;
}

fn report(app: &App, key: &str, from: &str) -> RequestBuilder {
    let request = app.anonymous(Method::POST, STATUS).header("x-forwarded-for", from.to_owned());
    let request = request.header("webhook-secret-key", key.to_owned());
    with_json(request, &json!({ "sessionId": "vps-1", "status": "connected" }))
}

/// The status webhook's key is one for all, so it is not enough that it has opened before: from there it must have.
#[tokio::test]
async fn who_has_shown_the_key_is_not_locked_out_by_a_neighbour_s_tries() {
    on_each(async |database| {
        let app = behind(database, failures(3)).await;
        let shown =
            async |key: &str, from: &str| Answer::to(report(&app, key, from)).await.status.as_u16();
        // No such session: whoever hears that has been let in.
        assert_eq!(shown(STATUS_KEY, "198.51.100.1").await, 404);
        for from in ["198.51.100.1", "198.51.100.2"] {
            let tries = [shown("a", from).await, shown("b", from).await, shown("c", from).await];
            assert_eq!(tries, [401, 401, 401]);
            assert_eq!(shown("d", from).await, 429);
        }
        assert_eq!(shown(STATUS_KEY, "198.51.100.1").await, 404);
        // From where it was never shown it might be a guess like any other.
        assert_eq!(shown(STATUS_KEY, "198.51.100.2").await, 429);
        app.clock.advance(Duration::from_mins(1));
        assert_eq!(shown(STATUS_KEY, "198.51.100.2").await, 404);
        app.close().await;
    })
    .await;
}
