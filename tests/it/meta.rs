//! Meta, as far as a test needs one: it sets numbers up, signs, posts and looks at what was kept.

use std::path::Path;

use reqwest::Method;
use serde_json::{Value, json};
use wagate::meta::Signature;

use crate::http_app::{Answer, App, json as with_json};

pub(crate) const SHARED: &str = "/api/webhooks/whatsapp";
pub(crate) const SHORT: &str = "/webhook";

/// An app's secret, a business account and a number of it, as Meta's examples have them.
pub(crate) const SECRET: &str = "test_app_secret";
pub(crate) const WABA: &str = "102290129340398";
pub(crate) const NUMBER: &str = "106540352242922";

/// All that an account of this number needs.
pub(crate) fn complete(number: &str, waba: &str, secret: &str) -> Value {
    json!({
        "phoneNumberId": number, "wabaId": waba, "appId": "670843887433847", "appSecret": secret,
        "accessToken": "EAAB-access-token", "verifyToken": format!("verify-{number}"),
    })
}

/// An organization of its own, and the secret of an administrator of it.
pub(crate) async fn tenant(app: &App, name: &str) -> (String, String) {
    let made = app.post("/api/organizations", json!({ "name": name })).await.json();
    let id = made["data"]["id"].as_str().unwrap().to_owned();
    let request = app.request(Method::POST, "/api/tokens").header("x-organization", &id);
    let token = Answer::to(with_json(request, &json!({ "role": "admin" }))).await.json();
    (id, token["data"]["secret"].as_str().unwrap().to_owned())
}

pub(crate) async fn ask(
    app: &App,
    token: &str,
    method: Method,
    path: &str,
    body: &Value,
) -> Answer {
    let request = app.anonymous(method.clone(), path).bearer_auth(token);
    Answer::to(if method == Method::GET { request } else { with_json(request, body) }).await
}

pub(crate) async fn get(app: &App, token: &str, path: &str) -> Answer {
    ask(app, token, Method::GET, path, &Value::Null).await
}

/// Sets a number up as its owner would.
pub(crate) async fn set_up(app: &App, token: &str, body: Value) -> Value {
    let made = ask(app, token, Method::POST, "/api/meta/accounts", &body).await;
    assert_eq!(made.status, 201, "{}", made.text());
    made.json()["data"].clone()
}

/// Posts a body as Meta does: signed with the app's secret.
pub(crate) async fn deliver(app: &App, path: &str, secret: &str, body: &[u8]) -> Answer {
    let signature = Signature::of(secret.as_bytes(), body).to_string();
    let request = app.anonymous(Method::POST, path).header("content-type", "application/json");
    Answer::to(request.header("x-hub-signature-256", signature).body(body.to_vec())).await
}

/// Everything in a token's log, the newest first.
pub(crate) async fn log(app: &App, token: &str) -> Vec<Value> {
    let page = get(app, token, "/api/meta/events?limit=500").await;
    assert_eq!(page.status, 200, "{}", page.text());
    page.json()["data"].as_array().unwrap().clone()
}

/// The member of each entry, sorted.
pub(crate) fn each(log: &[Value], member: &str) -> Vec<String> {
    let mut all: Vec<_> =
        log.iter().map(|it| it[member].as_str().unwrap_or("null").to_owned()).collect();
    all.sort();
    all
}

/// A text to a number.
pub(crate) fn text(waba: &str, number: &str, id: &str, text: &str) -> Value {
    changes(waba, &[message(number, id, text)])
}

/// A change that tells of a text.
pub(crate) fn message(number: &str, id: &str, text: &str) -> Value {
    json!({ "field": "messages", "value": {
        "messaging_product": "whatsapp", "metadata": { "phone_number_id": number },
        "messages": [{ "from": "16505551234", "id": id, "timestamp": "1799999000", "type": "text", "text": { "body": text } }],
    } })
}

pub(crate) fn changes(waba: &str, changes: &[Value]) -> Value {
    json!({ "object": "whatsapp_business_account", "entry": [{ "id": waba, "changes": changes }] })
}

/// Meta's documented examples, by name.
pub(crate) fn samples() -> Vec<(String, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors/meta");
    let mut samples = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|it| it == "json") {
            let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
            samples.push((name, std::fs::read(path).unwrap()));
        }
    }
    samples.sort();
    samples
}
