//! Files of messages to numbers at Meta's: fetched with the account's token, from Meta's hosts only, and verified.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use reqwest::Method;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::{
    database::on_each,
    graph::{TOKEN, answers, refuses, shop},
    http_app::{Answer, App},
    meta::get,
    meta_processing::{SESSION, tell},
    receiver::{Behaviour, Receiver},
};

const FILE: &[u8] = b"a picture, as far as a test needs one";

/// Somebody sends a picture; answers where it is.
async fn picture(app: &App, id: &str, file: &[u8]) -> String {
    let image = json!({
        "id": id, "mime_type": "image/jpeg", "sha256": STANDARD.encode(Sha256::digest(file)), "caption": "this one",
    });
    told(app, &format!("wamid.{id}"), "image", &image).await
}

async fn told(app: &App, wa_id: &str, kind: &str, part: &Value) -> String {
    let mut message =
        json!({ "from": "16505551234", "id": wa_id, "timestamp": "1799999000", "type": kind });
    message[kind] = part.clone();
    tell(app, &[json!({ "messages": [message] })]).await;
    let shown = app.get(&format!("/api/whatsapp/session/{SESSION}/messages")).await.json();
    let all = shown["data"].as_array().unwrap();
    let row = all.iter().find(|it| it["waId"] == wa_id).unwrap();
    format!("/api/whatsapp/session/{SESSION}/messages/{}/media", row["id"].as_str().unwrap())
}

/// Where Meta says that a file is.
fn is_at(graph: &Receiver, size: usize) -> Behaviour {
    let url = format!("http://{}/whatsapp_business/attachments/?mid=1", graph.address);
    elsewhere(&url, size)
}

fn elsewhere(url: &str, size: usize) -> Behaviour {
    answers(
        200,
        &json!({ "messaging_product": "whatsapp", "url": url, "mime_type": "image/jpeg", "file_size": size, "id": "1" }),
    )
}

fn file(bytes: &[u8]) -> Behaviour {
    Behaviour::Answer(200, vec![("content-type", "image/jpeg".to_owned())], bytes.to_vec())
}

#[tokio::test]
async fn a_file_is_fetched_once_verified_and_handed_out_in_parts_and_by_its_tag() {
    on_each(async |database| {
        let graph = Receiver::start().await;
        let (app, _) = shop(database, &graph).await;
        let path = picture(&app, "2754859441498128", FILE).await;
        let message = app.get(path.trim_end_matches("/media")).await.json()["data"].clone();
        assert_eq!(message["media"]["url"], path.as_str());
        assert_eq!(
            (&message["media"]["mimetype"], &message["body"]),
            (&json!("image/jpeg"), &json!("this one"))
        );
        graph.next([is_at(&graph, FILE.len()), file(FILE)]);
        let answer = app.get(&path).await;
        assert_eq!((answer.status.as_u16(), answer.body.as_slice()), (200, FILE), "{answer:?}");
        assert_eq!(answer.header("content-type"), "image/jpeg");
        let asked = graph.requests();
        assert!(
            asked[0].line.starts_with("GET /v24.0/2754859441498128?phone_number_id="),
            "{asked:?}"
        );
        assert!(
            asked[1].line.starts_with("GET /whatsapp_business/attachments/?mid=1 "),
            "{asked:?}"
        );
        assert!(asked.iter().all(|it| it.headers["authorization"] == TOKEN));
        // It is here now.
        let tag = answer.header("etag").to_owned();
        let part = app.request(Method::GET, &path).header("range", "bytes=2-8");
        let part = Answer::to(part).await;
        assert_eq!((part.status.as_u16(), part.body.as_slice()), (206, &FILE[2..9]));
        let known = Answer::to(app.request(Method::GET, &path).header("if-none-match", tag)).await;
        assert_eq!(known.status, 304);
        assert_eq!(graph.count(), 2);
        // For whom a page shows it, too; and for nobody else.
        let signed = app.post(&format!("{path}/url"), json!({})).await.json();
        let url = signed["data"]["url"].as_str().unwrap().to_owned();
        assert_eq!(Answer::to(app.anonymous(Method::GET, &url)).await.body, FILE);
        let stranger = app.stranger(database).await;
        get(&app, &stranger, &path).await.problem(404, "SESSION_NOT_FOUND");
        // Whoever lists a conversation sees where it is.
        let conversations = app.get("/api/conversations").await.json();
        let id = conversations["data"][0]["id"].as_str().unwrap().to_owned();
        let listed = app.get(&format!("/api/conversations/{id}/messages")).await.json();
        assert_eq!(listed["data"][0]["media"]["url"], path.as_str());
        app.close().await;
    })
    .await;
}

#[tokio::test]
async fn what_passes_is_tried_again_and_an_address_that_has_expired_is_asked_for_anew() {
    on_each(async |database| {
        let graph = Receiver::start().await;
        let (app, _) = shop(database, &graph).await;
        let path = picture(&app, "1", FILE).await;
        graph.next([
            refuses(500, 2),
            is_at(&graph, FILE.len()),
            Behaviour::Reset,
            Behaviour::status(404),
            is_at(&graph, FILE.len()),
            file(FILE),
        ]);
        let answer = app.get(&path).await;
        assert_eq!((answer.status.as_u16(), answer.body.as_slice()), (200, FILE));
        assert_eq!(graph.count(), 6);
        app.close().await;
    })
    .await;
}

#[tokio::test]
async fn what_is_not_what_was_told_is_handed_out_to_nobody() {
    on_each(async |database| {
        let graph = Receiver::start().await;
        let (app, _) = shop(database, &graph).await;
        let path = picture(&app, "1", FILE).await;
        let mut forged = FILE.to_vec();
        forged[0] ^= 1;
        graph.next([is_at(&graph, FILE.len()), file(&forged)]);
        app.get(&path).await.problem(502, "MEDIA_DAMAGED");
        let path = picture(&app, "2", FILE).await;
        graph.next([is_at(&graph, FILE.len() - 1), file(FILE)]);
        app.get(&path).await.problem(502, "MEDIA_DAMAGED");
        // Larger than what is downloaded: by Meta's word, and without it.
        let path = picture(&app, "3", FILE).await;
        graph.next([is_at(&graph, 2 << 20)]);
        app.get(&path).await.problem(413, "MEDIA_TOO_LARGE");
        let path = picture(&app, "4", FILE).await;
        let url = format!("http://{}/x", graph.address);
        graph.next([answers(200, &json!({ "url": url })), Behaviour::Endless(200)]);
        app.get(&path).await.problem(413, "MEDIA_TOO_LARGE");
        app.close().await;
    })
    .await;
}

#[tokio::test]
async fn a_token_is_shown_to_no_host_but_meta_s() {
    on_each(async |database| {
        let (graph, stranger) = (Receiver::start().await, Receiver::start().await);
        let (app, _) = shop(database, &graph).await;
        for (n, url) in [
            format!("http://localhost:{}/x", stranger.address.port()),
            format!("http://{}@127.0.0.2/x", graph.address),
            "https://evil.test/lookaside.fbsbx.com".to_owned(),
            "file:///etc/passwd".to_owned(),
        ]
        .into_iter()
        .enumerate()
        {
            let path = picture(&app, &n.to_string(), FILE).await;
            graph.next([elsewhere(&url, FILE.len())]);
            let problem = app.get(&path).await.problem(503, "MEDIA_UNAVAILABLE");
            assert_eq!(problem["reason"], "meta_refused", "{url}");
        }
        // Nor where Meta's own host would send us.
        let path = picture(&app, "9", FILE).await;
        let there = format!("http://localhost:{}/x", stranger.address.port());
        let moved = Behaviour::Answer(302, vec![("location", there)], Vec::new());
        graph.next([is_at(&graph, FILE.len())]);
        graph.usually(moved);
        let answer = app.get(&path).await;
        assert!(answer.status.is_server_error(), "{answer:?}");
        assert_eq!(stranger.count(), 0);
        app.close().await;
    })
    .await;
}

#[tokio::test]
async fn what_meta_has_no_more_is_gone_and_a_dead_token_is_said() {
    on_each(async |database| {
        let graph = Receiver::start().await;
        let (app, _) = shop(database, &graph).await;
        let path = picture(&app, "1", FILE).await;
        let absent =
            json!({ "error": { "code": 100, "error_subcode": 33, "message": "does not exist" } });
        graph.next([answers(400, &absent)]);
        app.get(&path).await.problem(410, "MEDIA_GONE");
        let path = picture(&app, "2", FILE).await;
        graph.next([refuses(401, 190)]);
        let problem = app.get(&path).await.problem(503, "MEDIA_UNAVAILABLE");
        assert_eq!(problem["reason"], "meta_refused");
        // A message that names no file has none, whatever it is called.
        let path = told(&app, "wamid.x", "image", &json!({ "mime_type": "image/png" })).await;
        app.get(&path).await.problem(404, "MESSAGE_HAS_NO_MEDIA");
        assert_eq!(graph.count(), 2);
        app.close().await;
    })
    .await;
}
