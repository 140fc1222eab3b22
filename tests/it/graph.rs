//! Meta's Graph API, as far as a test needs one: it answers as it is told, and remembers what it was asked.

use std::time::Duration;

use serde_json::{Value, json};
use wagate::{graph, http::Limits, service::meta};

use crate::{
    database::Database,
    http_app::App,
    meta::{NUMBER, SECRET, WABA, complete, set_up},
    receiver::{Behaviour, Receiver, Request},
};

/// The token of an account that [`complete`] sets up.
pub(crate) const TOKEN: &str = "Bearer EAAB-access-token";

/// A gateway that asks this Graph API.
pub(crate) async fn app(database: &Database, graph: &Receiver) -> App {
    let options = meta::Options {
        graph: graph::Options { url: format!("http://{}", graph.address), ..Default::default() },
        silent_after: Duration::from_hours(24),
        ..meta::Options::default()
    };
    App::with_meta(database, Limits::default(), options).await
}

/// The same, with an account; and where messages are posted to it.
pub(crate) async fn shop(database: &Database, graph: &Receiver) -> (App, String) {
    let app = app(database, graph).await;
    let account = set_up(&app, &app.token, complete(NUMBER, WABA, SECRET)).await;
    let path = format!("/api/meta/accounts/{}/messages", account["id"].as_str().unwrap());
    (app, path)
}

pub(crate) fn answers(status: u16, body: &Value) -> Behaviour {
    let kind = ("content-type", "application/json; charset=UTF-8".to_owned());
    Behaviour::Answer(status, vec![kind], body.to_string().into_bytes())
}

/// Meta takes a message, and calls it so.
pub(crate) fn takes(wa_id: &str) -> Behaviour {
    answers(
        200,
        &json!({
            "messaging_product": "whatsapp", "contacts": [{ "input": "16505551234", "wa_id": "16505551234" }],
            "messages": [{ "id": wa_id, "message_status": "accepted" }],
        }),
    )
}

/// Meta says no.
pub(crate) fn refuses(status: u16, code: i64) -> Behaviour {
    answers(
        status,
        &json!({ "error": {
            "message": format!("(#{code}) something about +16505551234"), "type": "OAuthException", "code": code,
            "error_subcode": 2_494_010, "fbtrace_id": "Az8or2yhqkZfEZ-_4Qn6Bam",
        } }),
    )
}

/// A text to somebody.
pub(crate) fn hello(to: &str, text: &str) -> Value {
    json!({ "to": to, "text": text })
}

/// What a request of ours says.
pub(crate) fn said(request: &Request) -> Value {
    request.json()["text"]["body"].clone()
}

/// Takes a message; answers where it is.
pub(crate) async fn take(app: &App, path: &str, body: Value) -> String {
    let taken = app.post(path, body).await;
    assert_eq!(taken.status, 202, "{}", taken.text());
    let location = taken.header("location").to_owned();
    assert_eq!(taken.json()["data"]["status"], "queued");
    location
}

/// A message as the API shows it.
pub(crate) async fn show(app: &App, location: &str) -> Value {
    let shown = app.get(location).await;
    assert_eq!(shown.status, 200, "{}", shown.text());
    shown.json()["data"].clone()
}

/// The feed's events of messages, in order: what each is, with the id and the level that it names.
pub(crate) async fn told(app: &App) -> Vec<(String, String, i64)> {
    let page = app.get("/api/whatsapp/events/page?limit=500").await.json();
    let all = page["data"].as_array().unwrap().iter().filter_map(|it| {
        let kind = it["event"].as_str()?.to_owned();
        let id = it["data"]["message"]["id"].as_str()?.to_owned();
        Some((kind, id, it["data"]["ack"].as_i64().unwrap_or(0)))
    });
    all.collect()
}
