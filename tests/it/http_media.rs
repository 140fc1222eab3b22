//! Signed addresses of media, and who may ask for it; WhatsApp is not there.

use std::time::Duration;

use entity::{kind::MessageKind, state::Role};
use reqwest::Method;
use serde_json::{Value, json};
use wagate::event::{Event, NewMessage};
use waproto::{buffa::MessageField, codec, whatsapp as wa};

use crate::{
    database::{Database, on_each},
    http_app::{Answer, App, json as with_json},
};

/// A message with an image.
fn image(app: &App) -> NewMessage {
    let image = wa::message::ImageMessage {
        mimetype: Some("image/jpeg".to_owned()),
        direct_path: Some("/v/t62.7118-24/1.enc".to_owned()),
        media_key: Some(b"a key that nobody may ever see!!".to_vec()),
        file_sha256: Some(vec![1; 32]),
        file_enc_sha256: Some(vec![2; 32]),
        file_length: Some(1000),
        ..Default::default()
    };
    let message = wa::Message { image_message: MessageField::some(image), ..Default::default() };
    NewMessage {
        kind: MessageKind::Image,
        raw: Some(codec::message_to_vec(&message)),
        ..app.message("15550002222", "see this")
    }
}

/// A session with such a message; answers where its media is.
async fn shop(app: &App) -> String {
    app.session("shop").await;
    let message = image(app);
    let path = format!("/api/whatsapp/session/shop/messages/{}/media", message.id);
    app.happen("shop", Event::Message(Box::new(message))).await;
    path
}

async fn signed(app: &App, path: &str, body: Value) -> Value {
    let answer = app.post(&format!("{path}/url"), body).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()["data"].clone()
}

async fn load(app: &App, url: &str) -> Answer {
    Answer::to(app.anonymous(Method::GET, url)).await
}

/// The tag of the file, by which it is known to whoever may see it.
const TAG: &str = "\"0101010101010101010101010101010101010101010101010101010101010101\"";

#[tokio::test]
async fn a_signed_address_opens_one_file_until_it_expires_and_altered_it_opens_none() {
    on_each(async |database| {
        let app = App::start(database).await;
        let path = shop(&app).await;
        let minted = signed(&app, &path, json!({ "expiresIn": 9 })).await;
        assert_eq!(minted["expiresAt"], "2027-01-15T08:00:09.000Z");
        let url = minted["url"].as_str().unwrap();
        assert!(url.starts_with(&format!("{path}?signed=")), "{url}");
        let ask_again = async |url: &str| {
            let request = app.anonymous(Method::GET, url).header("if-none-match", TAG);
            Answer::to(request).await
        };
        let known = ask_again(url).await;
        assert_eq!((known.status.as_u16(), known.header("etag")), (304, TAG));
        // There is no WhatsApp to have it from.
        let problem = load(&app, url).await.problem(503, "MEDIA_UNAVAILABLE");
        assert_eq!(problem["reason"], "unreachable");

        // Neither another file, nor another route, nor a letter more or less.
        let other = image(&app);
        let elsewhere = url.replace(path.rsplit('/').nth(1).unwrap(), other.id.as_str());
        app.happen("shop", Event::Message(Box::new(other))).await;
        for altered in [
            elsewhere,
            format!("{url}A"),
            url.replace("?signed=1", "?signed=2"),
            url.replace("?signed=", "?size=1&signed="),
        ] {
            ask_again(&altered).await.problem(403, "SIGNED_URL_INVALID");
        }
        let (_, query) = url.split_once('?').unwrap();
        let message = path.trim_end_matches("/media");
        load(&app, &format!("{message}?{query}")).await.problem(401, "UNAUTHENTICATED");
        let mint = app.anonymous(Method::POST, &format!("{path}/url?{query}"));
        Answer::to(mint).await.problem(401, "UNAUTHENTICATED");

        app.clock.advance(Duration::from_millis(8_999));
        assert_eq!(ask_again(url).await.status, 304);
        app.clock.advance(Duration::from_millis(1));
        ask_again(url).await.problem(403, "SIGNED_URL_EXPIRED");
        for (name, value) in [("expiresIn", json!(0)), ("expiresIn", json!(3601)), ("x", json!(1))]
        {
            let refused = app.post(&format!("{path}/url"), json!({ name: value })).await;
            refused.invalid(&[&format!("/{name}")]);
        }
        app.get(&format!("{path}?colour=red")).await.invalid(&["/colour"]);
        app.close().await;
    })
    .await;
}

#[tokio::test]
async fn an_address_ends_with_its_token_and_is_another_organization_s_for_nobody() {
    on_each(async |database| {
        let app = App::start(database).await;
        let path = shop(&app).await;
        let viewer = app.post("/api/tokens", json!({ "role": "viewer" })).await.json();
        let secret = viewer["data"]["secret"].as_str().unwrap();
        let mint = app.anonymous(Method::POST, &format!("{path}/url")).bearer_auth(secret);
        let minted = Answer::to(with_json(mint, &json!({}))).await.json();
        let url = minted["data"]["url"].as_str().unwrap().to_owned();
        let ask_again = async || {
            Answer::to(app.anonymous(Method::GET, &url).header("if-none-match", TAG)).await
        };
        assert_eq!(ask_again().await.status, 304);
        app.delete(&format!("/api/tokens/{}", viewer["data"]["id"].as_str().unwrap())).await;
        ask_again().await.problem(403, "SIGNED_URL_INVALID");

        let stranger = app.stranger(database).await;
        let ask = app.anonymous(Method::GET, &path).bearer_auth(&stranger);
        Answer::to(ask).await.problem(404, "SESSION_NOT_FOUND");
        // Also where it has a session of the same name.
        let body = json!({ "sessionId": "shop", "start": false });
        let make = app.anonymous(Method::POST, "/api/whatsapp/session").bearer_auth(&stranger);
        assert_eq!(Answer::to(with_json(make, &body)).await.status, 201);
        for (method, path) in [(Method::GET, path.clone()), (Method::POST, format!("{path}/url"))] {
            let ask = app.anonymous(method, &path).bearer_auth(&stranger);
            Answer::to(ask).await.problem(404, "MESSAGE_NOT_FOUND");
        }
        app.close().await;
    })
    .await;
}

#[tokio::test]
async fn the_key_of_a_file_is_in_no_answer_and_in_no_column_in_clear() {
    on_each(async |database: &Database| {
        let app = App::start(database).await;
        let path = shop(&app).await;
        let viewer = app.token_of(&app.organization, Role::Viewer).await;
        for path in [
            path.trim_end_matches("/media"),
            "/api/whatsapp/session/shop/messages",
            "/api/whatsapp/session/shop/events/page",
            "/api/whatsapp/events/page",
        ] {
            let answer = Answer::to(app.anonymous(Method::GET, path).bearer_auth(&viewer)).await;
            assert_eq!(answer.status, 200);
            let text = answer.text();
            for secret in ["a key that", "YSBrZXkgdGhhd", "61206b6579", "/v/t62"] {
                assert!(!text.contains(secret), "{path}: {text}");
            }
        }
        let raw = database.query("SELECT raw FROM message").await;
        let raw: Vec<u8> = raw[0].try_get_by_index(0).unwrap();
        assert!(!raw.windows(10).any(|part| part == b"a key that"));
        app.close().await;
    })
    .await;
}

#[tokio::test]
async fn an_external_session_s_media_is_where_the_session_runs() {
    on_each(async |database: &Database| {
        let app = App::start(database).await;
        let path = shop(&app).await;
        database.execute("UPDATE session SET origin = 'external'").await;
        app.get(&path).await.problem(409, "SESSION_EXTERNAL");
        let mint = app.post(&format!("{path}/url"), json!({})).await;
        mint.problem(409, "SESSION_EXTERNAL");
        app.close().await;
    })
    .await;
}
