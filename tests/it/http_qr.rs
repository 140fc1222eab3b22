//! The QR code over HTTP: in every format, cached, awaited.

use std::time::Duration;

use reqwest::Method;
use serde_json::json;
use wagate::event::{Disconnect, Event};

use crate::{
    database::{Kind, on, on_each},
    http_app::{Answer, App},
};

const CODE: &str =
    "2@0Jm9d2U3k1Qx7Wv5Yt8Zr4Np6Lh,Xb3Kc1Vf7Gj9Ds2Aq5We8Rt0Yu4Io6Pl,Mn1Bv3Cx5Zl7Kj9==";

/// Reads an image as a phone's camera would.
fn scan(png: &[u8]) -> String {
    let image = image::load_from_memory(png).unwrap().to_luma8();
    let (width, height) = (image.width() as usize, image.height() as usize);
    let mut prepared = rqrr::PreparedImage::prepare_from_greyscale(width, height, |x, y| {
        image.get_pixel(u32::try_from(x).unwrap(), u32::try_from(y).unwrap()).0[0]
    });
    prepared.detect_grids()[0].decode().unwrap().1
}

#[tokio::test]
async fn a_code_comes_in_the_format_asked_for() {
    on(Kind::Sqlite, async |database| {
        let app = App::start(database).await;
        app.session("a.png").await;
        app.show_qr("a.png", CODE).await;
        let path = "/api/whatsapp/session/a.png/qr";

        let png = app.get(path).await;
        assert_eq!(png.header("content-type"), "image/png");
        assert_eq!(scan(&png.body), CODE);
        assert_eq!(png.header("x-qr-sequence"), "1");
        let status = app.get("/api/whatsapp/session/status/a.png").await.json()["data"].clone();
        assert_eq!(png.header("x-qr-issued-at"), status["qrIssuedAt"]);
        assert_eq!(png.header("x-qr-expires-at"), status["qrExpiresAt"]);

        let large = app.get(&format!("{path}.png?size=800&margin=2")).await;
        assert_eq!(scan(&large.body), CODE);
        assert_eq!(image::load_from_memory(&large.body).unwrap().width(), 800);

        let svg = app.get(&format!("{path}.svg")).await;
        assert_eq!(svg.header("content-type"), "image/svg+xml");
        assert!(svg.text().starts_with("<svg "));
        let text = app.get(&format!("{path}.txt")).await;
        assert_eq!(text.header("content-type"), "text/plain; charset=utf-8");
        assert!(text.text().contains('▀'));
        let data = app.get(&format!("{path}.json")).await.json();
        assert_eq!(data["data"]["qr"], CODE);
        assert_eq!(data["data"]["issuedAt"], status["qrIssuedAt"]);
        assert_eq!(data["data"]["expiresAt"], status["qrExpiresAt"]);
        assert_eq!(data["data"]["sequence"], 1);
        assert!(data["data"]["qrImage"].as_str().unwrap().starts_with("data:image/png;base64,"));

        for (accept, kind) in [
            ("image/svg+xml", "image/svg+xml"),
            ("application/json", "application/json"),
            ("text/plain", "text/plain; charset=utf-8"),
            ("image/avif,image/webp,*/*;q=0.8", "image/png"),
        ] {
            let request = app.request(Method::GET, path).header("accept", accept);
            assert_eq!(Answer::to(request).await.header("content-type"), kind);
        }
        let request = app.request(Method::GET, path).header("accept", "text/html");
        Answer::to(request).await.problem(406, "NOT_ACCEPTABLE");
        let head = Answer::to(app.request(Method::HEAD, path)).await;
        assert_eq!((head.status.as_u16(), head.body.len()), (200, 0));
        app.close().await;
    })
    .await;
}

#[tokio::test]
async fn a_code_that_the_caller_has_is_304() {
    on(Kind::Sqlite, async |database| {
        let app = App::start(database).await;
        app.session("s").await;
        app.show_qr("s", CODE).await;
        let path = "/api/whatsapp/session/s/qr";
        let tag = app.get(path).await.header("etag").to_owned();
        let again = |path: String, tag: String| {
            Answer::to(app.request(Method::GET, &path).header("if-none-match", tag))
        };

        let same = again(path.to_owned(), format!("\"x\", W/{tag}")).await;
        assert_eq!((same.status.as_u16(), same.body.len()), (304, 0));
        assert_eq!(same.header("etag"), tag);
        assert_eq!(same.header("cache-control"), "private, no-cache");
        assert_eq!(again(format!("{path}.svg"), tag.clone()).await.status, 200, "another image");

        app.show_qr("s", "the next").await;
        let next = again(path.to_owned(), tag.clone()).await;
        assert_eq!(next.status, 200);
        assert_ne!(next.header("etag"), tag);
        app.close().await;
    })
    .await;
}

#[tokio::test]
async fn no_code_has_a_reason() {
    on_each(async |database| {
        let app = App::start(database).await;
        app.session("s").await;
        let path = "/api/whatsapp/session/s/qr";
        let reason = async |reason: &str, status: &str| {
            let problem = app.get(path).await.problem(404, "QR_NOT_AVAILABLE");
            assert_eq!(problem["reason"], reason);
            assert_eq!(problem["sessionStatus"], status);
        };
        reason("not_started", "session_not_connected").await;
        app.show_qr("s", CODE).await;
        assert_eq!(app.get(path).await.status, 200);
        app.clock.advance(Duration::from_mins(1));
        reason("expired", "qr_generated").await;
        let status = app.get("/api/whatsapp/session/status/s").await.json();
        assert_eq!(status["data"]["needsQR"], false);
        assert_eq!(status["data"]["qr"], json!(null));
        let expires_at = app.clock.now() + Duration::from_mins(1);
        app.happen("s", Event::PairingCode { expires_at, is_last: true }).await;
        reason("typed_code_only", "qr_generated").await;
        app.clock.advance(Duration::from_mins(1));
        reason("expired", "qr_generated").await;
        app.happen("s", Event::Authenticated).await;
        reason("pairing", "loading").await;
        app.connect("s").await;
        reason("already_connected", "session_connected").await;
        app.happen("s", Event::Disconnected(Disconnect::LoggedOut { code: None })).await;
        reason("not_started", "session_not_connected").await;
        app.close().await;
    })
    .await;
}

#[tokio::test]
async fn a_long_poll_has_the_next_code_at_once() {
    on_each(async |database| {
        let app = App::start(database).await;
        app.session("s").await;
        app.show_qr("s", CODE).await;
        let path = "/api/whatsapp/session/s/qr.json";

        // One that has not been seen is there already.
        let first = app.get(&format!("{path}?wait=30")).await;
        let tag = first.header("etag").to_owned();
        assert_eq!(first.json()["data"]["sequence"], 1);

        // By sequence, by entity tag.
        let next = format!("{path}?wait=15&after=1");
        let by_sequence = app.get(&next);
        let by_tag = Answer::to(
            app.request(Method::GET, &format!("{path}?wait=15")).header("if-none-match", &tag),
        );
        let rotate = async {
            tokio::time::sleep(Duration::from_millis(100)).await;
            app.show_qr("s", "the next").await;
        };
        let (by_sequence, by_tag, ()) = tokio::join!(by_sequence, by_tag, rotate);
        assert_eq!(by_sequence.json()["data"]["qr"], "the next");
        assert_eq!(by_tag.json()["data"]["qr"], "the next");

        // Connected instead: there will be no next one.
        let next = format!("{path}?wait=15&after=2");
        let waits = app.get(&next);
        let connect = async {
            tokio::time::sleep(Duration::from_millis(100)).await;
            app.connect("s").await;
        };
        let (waits, ()) = tokio::join!(waits, connect);
        assert_eq!(waits.problem(404, "QR_NOT_AVAILABLE")["reason"], "already_connected");
        app.close().await;
    })
    .await;
}

#[tokio::test]
async fn a_long_poll_ends_in_time() {
    on(Kind::Sqlite, async |database| {
        let app = App::start(database).await;
        app.session("s").await;
        app.show_qr("s", CODE).await;
        let path = "/api/whatsapp/session/s/qr?wait=1";
        let tag = app.get(path).await.header("etag").to_owned();
        let request = app.request(Method::GET, path).header("if-none-match", tag);
        assert_eq!(Answer::to(request).await.status, 304);
        let problem = app.get(&format!("{path}&after=1")).await.problem(404, "QR_NOT_AVAILABLE");
        assert_eq!(problem["reason"], "unchanged");

        // And when the daemon stops.
        let waits = app.get("/api/whatsapp/session/s/qr?wait=60&after=1");
        let stop = async {
            tokio::time::sleep(Duration::from_millis(100)).await;
            app.stop.cancel();
        };
        let (waits, ()) = tokio::join!(waits, stop);
        waits.problem(503, "UNAVAILABLE");
        app.close().await;
    })
    .await;
}
