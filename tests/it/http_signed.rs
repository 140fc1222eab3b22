//! Addresses that open without a token: what each opens, what else it does not, and when it ends.

use std::{fs, time::Duration};

use entity::state::Role;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use wagate::http::{self, Access, Limits, Quota};

use crate::{
    database::{Kind, on, on_each},
    http_app::{Answer, App, json as with_json},
    program::{Process, command},
    world::http_client,
};

const CODE: &str = "2@0Jm9d2U3k1Qx7Wv5Yt8Zr4Np6Lh";
const MINT: &str = "/api/whatsapp/session/shop/qr/url";

/// A session with a code, and a signed address of it.
async fn shop(app: &App) -> String {
    app.session("shop").await;
    app.show_qr("shop", CODE).await;
    signed(app, json!({})).await
}

async fn signed(app: &App, body: Value) -> String {
    let answer = app.post(MINT, body).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()["data"]["url"].as_str().unwrap().to_owned()
}

/// As a tag of a page asks: with nothing but the address.
async fn load(app: &App, url: &str) -> Answer {
    Answer::to(app.anonymous(Method::GET, url)).await
}

#[tokio::test]
async fn a_tag_loads_the_code_without_a_token_until_the_address_expires() {
    on_each(async |database| {
        let app = App::start(database).await;
        let url = shop(&app).await;
        let image = load(&app, &url).await;
        assert_eq!((image.status.as_u16(), image.header("content-type")), (200, "image/png"));
        assert_eq!(image.header("cache-control"), "private, no-cache");
        assert_eq!(image.body, app.get("/api/whatsapp/session/shop/qr.png").await.body);
        let head = Answer::to(app.anonymous(Method::HEAD, &url)).await;
        assert_eq!((head.status.as_u16(), head.header("content-type")), (200, "image/png"));

        let other = json!({ "format": "svg", "size": 400, "margin": 2, "wait": 1, "expiresIn": 9 });
        let minted = app.post(MINT, other).await.json()["data"].clone();
        assert_eq!(minted["expiresAt"], "2027-01-15T08:00:09.000Z");
        let svg = load(&app, minted["url"].as_str().unwrap()).await;
        assert_eq!(svg.header("content-type"), "image/svg+xml");
        assert!(svg.text().contains("400"), "{}", svg.text());

        let status = app.get("/api/whatsapp/session/shop").await.json();
        let shown = status["data"]["qrUrl"].as_str().unwrap();
        assert_eq!(load(&app, shown).await.body, image.body);
        app.clock.advance(Duration::from_millis(1));
        let again = app.get("/api/whatsapp/session/shop").await.json();
        assert_eq!(again["data"]["qrUrl"], shown, "the same for as long as the code is");
        // Whatever a page's code adds of its own: the signature is what counts.
        let both = app.request(Method::GET, &url).header("x-organization", "7");
        assert_eq!(Answer::to(both).await.status, 200);

        app.clock.advance(Duration::from_millis(8_999));
        load(&app, minted["url"].as_str().unwrap()).await.problem(403, "SIGNED_URL_EXPIRED");
        app.clock.advance(Duration::from_secs(290));
        assert_ne!(load(&app, &url).await.status, StatusCode::FORBIDDEN);
        app.clock.advance(Duration::from_secs(1));
        load(&app, &url).await.problem(403, "SIGNED_URL_EXPIRED");
        // Without a code there is nothing to sign for a view; what is signed says so itself.
        let status = app.get("/api/whatsapp/session/shop").await.json();
        assert_eq!(status["data"]["qrUrl"], Value::Null);
        let url = signed(&app, json!({})).await;
        load(&app, &url).await.problem(404, "QR_NOT_AVAILABLE");

        for (name, value) in [
            ("format", json!("json")),
            ("expiresIn", json!(0)),
            ("expiresIn", json!(3601)),
            ("size", json!(100_000)),
            ("colour", json!("red")),
        ] {
            app.post(MINT, json!({ name: value })).await.invalid(&[&format!("/{name}")]);
        }
        app.close().await;
    })
    .await;
}

#[tokio::test]
async fn an_address_is_good_over_a_restart() {
    on_each(async |database| {
        let app = App::start(database).await;
        let url = shop(&app).await;
        app.close().await;
        let app = App::start(database).await;
        // The code that was shown has gone with the process; the address is of whichever there is.
        load(&app, &url).await.problem(404, "QR_NOT_AVAILABLE");
        app.show_qr("shop", CODE).await;
        assert_eq!(load(&app, &url).await.status, 200);
        app.close().await;
    })
    .await;
}

#[tokio::test]
async fn whatever_is_altered_of_an_address_it_opens_nothing() {
    on(Kind::Sqlite, async |database| {
        let app = App::start(database).await;
        shop(&app).await;
        let url = signed(&app, json!({ "size": 300 })).await;
        let signature = url.find("signed=").unwrap() + "signed=".len();
        for at in 1..url.len() {
            let old = url.as_bytes()[at];
            // Another of its kind, so that it is still read; and one of none.
            let near = match old {
                b'0'..=b'8' | b'a'..=b'y' | b'A'..=b'Y' => old + 1,
                _ => b'1',
            };
            for new in [near, b'.', b'~'] {
                if new == old {
                    continue;
                }
                let altered = format!("{}{}{}", &url[..at], new as char, &url[at + 1..]);
                let answer = load(&app, &altered).await;
                if at >= signature {
                    answer.problem(403, "SIGNED_URL_INVALID");
                } else {
                    let status = answer.status.as_u16();
                    assert!(matches!(status, 401 | 403 | 404 | 400), "{altered}: {status}");
                }
            }
        }
        let (address, signed) = url.split_at(signature);
        for altered in [
            address.to_owned(),
            format!("{url}A"),
            format!("{address}0{signed}"),
            format!("{address}{}", signed.to_lowercase()),
            url.replace("size=300", "size=301"),
            url.replace("size=300&", ""),
            url.replace("size=300", "size=300&margin=2"),
            url.replace("size=300", "size=300&size=300"),
            url.replace("/shop/", "/%73hop/"),
        ] {
            load(&app, &altered).await.problem(403, "SIGNED_URL_INVALID");
        }
        // The last parameter or none.
        load(&app, &format!("{url}&size=300")).await.problem(401, "UNAUTHENTICATED");
        app.close().await;
    })
    .await;
}

#[tokio::test]
async fn an_address_opens_no_other_route_method_session_or_organization() {
    on_each(async |database| {
        let app = App::start(database).await;
        let url = shop(&app).await;
        app.session("other").await;
        app.show_qr("other", "2@other").await;
        let (_, query) = url.split_once('?').unwrap();
        let mut signable = 0;
        for route in http::routes(&Limits::default()) {
            if route.access == Access::Anybody {
                continue;
            }
            let mut path = route.path.replace("{sessionId}", "shop");
            if path.contains('{') {
                path = path.replace(['{', '}'], "");
            }
            let answer =
                Answer::to(app.anonymous(route.method.clone(), &format!("{path}?{query}")));
            match answer.await {
                same if route.path.ends_with("/qr.png") => assert_eq!(same.status, 200),
                refused if route.takes_signature => {
                    refused.problem(403, "SIGNED_URL_INVALID");
                }
                closed => {
                    closed.problem(401, "UNAUTHENTICATED");
                }
            }
            signable += u32::from(route.takes_signature);
        }
        assert_eq!(signable, 3);
        for method in [Method::POST, Method::PUT, Method::PATCH, Method::DELETE] {
            let other = Answer::to(app.anonymous(method, &url)).await;
            other.problem(401, "UNAUTHENTICATED");
        }
        load(&app, &url.replace("/shop/", "/other/")).await.problem(403, "SIGNED_URL_INVALID");

        // Another organization has a session of the same name: its addresses are of that one.
        let stranger = app.stranger(database).await;
        let mint = || {
            let request = app.anonymous(Method::POST, MINT).bearer_auth(&stranger);
            Answer::to(with_json(request, &json!({})))
        };
        mint().await.problem(404, "SESSION_NOT_FOUND");
        let body = json!({ "sessionId": "shop", "start": false });
        let make = app.anonymous(Method::POST, "/api/whatsapp/session").bearer_auth(&stranger);
        assert_eq!(Answer::to(with_json(make, &body)).await.status, 201);
        let theirs = mint().await.json()["data"]["url"].as_str().unwrap().to_owned();
        load(&app, &theirs).await.problem(404, "QR_NOT_AVAILABLE");
        // Nor do parts of one make the other's.
        let organization = |url: &str| url.split('.').nth(2).unwrap().to_owned();
        let mixed = theirs.replace(&organization(&theirs), &organization(&url));
        load(&app, &mixed).await.problem(403, "SIGNED_URL_INVALID");
        app.close().await;
    })
    .await;
}

#[tokio::test]
async fn an_address_ends_with_its_token_and_with_its_session() {
    on_each(async |database| {
        let app = App::start(database).await;
        shop(&app).await;
        let token =
            app.post("/api/tokens", json!({ "role": "viewer" })).await.json()["data"].clone();
        let secret = token["secret"].as_str().unwrap();
        let mint = app.anonymous(Method::POST, MINT).bearer_auth(secret);
        let minted = Answer::to(with_json(mint, &json!({}))).await.json();
        let url = minted["data"]["url"].as_str().unwrap();
        assert_eq!(load(&app, url).await.status, 200);
        app.delete(&format!("/api/tokens/{}", token["id"].as_str().unwrap())).await;
        load(&app, url).await.problem(403, "SIGNED_URL_INVALID");

        let url = signed(&app, json!({})).await;
        assert_eq!(load(&app, &url).await.status, 200);
        assert_eq!(app.delete("/api/whatsapp/session/shop").await.status, 200);
        load(&app, &url).await.problem(403, "SIGNED_URL_INVALID");
        app.clock.advance(Duration::from_millis(1));
        app.session("shop").await;
        app.show_qr("shop", CODE).await;
        load(&app, &url).await.problem(403, "SIGNED_URL_INVALID");
        app.close().await;
    })
    .await;
}

#[tokio::test]
async fn a_signed_address_is_counted_as_its_token_and_a_bad_one_as_a_bad_token() {
    on(Kind::Sqlite, async |database| {
        let minute = Duration::from_mins(1);
        let limits = Limits {
            per_token: Some(Quota::new(60, minute, 8)),
            failed_authentications: Some(Quota::new(3, minute, 3)),
            ..Limits::default()
        };
        let app = App::start_with(database, limits).await;
        // Three requests of the token.
        let url = shop(&app).await;
        let viewer = app.token_of(&app.organization, Role::Viewer).await;
        for left in (0..6).rev() {
            let answer = load(&app, &url).await;
            assert_eq!(answer.status, 200, "{left}");
            assert!(answer.header("ratelimit").contains(&format!("r={left};")), "{left}");
        }
        assert_eq!(load(&app, &url).await.problem(429, "RATE_LIMITED")["limit"], "token");
        // Another token is another's.
        let request = app.anonymous(Method::GET, "/").bearer_auth(&viewer);
        assert_eq!(Answer::to(request).await.status, 200);

        for _ in 0..3 {
            load(&app, &format!("{url}A")).await.problem(403, "SIGNED_URL_INVALID");
        }
        let guess = load(&app, &format!("{url}A")).await.problem(429, "RATE_LIMITED");
        assert_eq!(guess["limit"], "failed_authentications");
        // Who shows a good one is a neighbour, and is counted as its token alone.
        assert_eq!(load(&app, &url).await.problem(429, "RATE_LIMITED")["limit"], "token");
        app.clock.advance(Duration::from_secs(1));
        assert_eq!(load(&app, &url).await.status, 200);
        let guess = load(&app, &format!("{url}A")).await.problem(429, "RATE_LIMITED");
        assert_eq!(guess["limit"], "failed_authentications");
        app.close().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_log_has_a_signature_or_a_token_in_it_however_much_it_says() {
    let dir = tempfile::tempdir().unwrap();
    let (state, log) = (dir.path().join("state"), dir.path().join("log"));
    let mut wagate = command(&state);
    wagate.args(["--log-level", "trace"]).stderr(fs::File::create(&log).unwrap());
    let daemon = Process::logging(wagate, &state);
    let ask = |method: Method, path: &str| {
        http_client()
            .request(method, format!("{}{path}", daemon.base()))
            .bearer_auth(daemon.token())
    };
    let session = json!({ "sessionId": "shop", "start": false });
    let made = with_json(ask(Method::POST, "/api/whatsapp/session"), &session);
    assert_eq!(made.send().await.unwrap().status(), StatusCode::CREATED);
    let minted = with_json(ask(Method::POST, MINT), &json!({})).send().await.unwrap();
    let minted: Value = minted.json().await.unwrap();
    let url = minted["data"]["url"].as_str().unwrap();
    let (_, signature) = url.rsplit_once('.').unwrap();
    for (url, status) in [(url, 404), (&url.replace("signed=1", "signed=2"), 403)] {
        let url = format!("{}{url}", daemon.base());
        let answer = http_client().get(url).send().await.unwrap();
        assert_eq!(answer.status(), status);
    }
    let said = fs::read_to_string(&log).unwrap();
    assert!(said.contains("/qr.png"), "{said}");
    for secret in [signature, "signed=", daemon.token()] {
        assert!(!said.contains(secret), "{secret}");
    }
}
