//! How much of a body each route reads: tried on every route that takes one.

use reqwest::Method;
use serde_json::{Value, json};
use wagate::{
    http::{self, Access, Limits, Statement},
    meta::Signature,
};

use crate::{
    contract,
    database::{Kind, on},
    http_app::{Answer, App},
    meta::{NUMBER, SECRET, WABA, complete, set_up},
};

/// What a route that carries more than settings is bounded by.
const LARGE: [&str; 6] = [
    "sendMessage",
    "sendMetaMessage",
    "addCampaignAudience",
    "receiveEvent",
    "reportStatus",
    "reportStatusToFunction",
];

/// Far less than a daemon has, so that little has to be sent.
fn limits() -> Limits {
    Limits { small_body: 1 << 10, large_body: 2 << 10, meta_body: 4 << 10, ..Limits::default() }
}

/// The most bytes that this route reads.
fn most(route: &Statement) -> usize {
    let limits = limits();
    if route.operation.starts_with("receiveMetaEvents") {
        limits.meta_body
    } else if LARGE.contains(&route.operation) {
        limits.large_body
    } else {
        limits.small_body
    }
}

/// The address, with what the document shows in its variable parts.
fn address(route: &Statement, operation: &Value, own_path: &str) -> String {
    let path = route.path.replace("/api/webhooks/whatsapp/{callbackKey}", own_path);
    let parameters = operation["parameters"].as_array().unwrap().iter();
    parameters.filter(|it| it["in"] == "path").fold(path, |path, parameter| {
        let name = format!("{{{}}}", parameter["name"].as_str().unwrap());
        path.replace(&name, parameter["example"].as_str().unwrap())
    })
}

/// A JSON object of this many bytes, of which no route knows the member.
fn object(length: usize) -> Vec<u8> {
    let empty = json!({ "colour": "" }).to_string();
    json!({ "colour": "x".repeat(length - empty.len()) }).to_string().into_bytes()
}

#[tokio::test]
async fn every_route_that_takes_a_body_takes_so_much_of_it_and_no_more() {
    on(Kind::Sqlite, async |database| {
        let app = App::start_with(database, limits()).await;
        // Elsewhere, as events are posted to no other.
        app.external("shop-1", json!({})).await;
        let account = set_up(&app, &app.token, complete(NUMBER, WABA, SECRET)).await;
        let own_path = account["ownPath"].as_str().unwrap();
        let document = contract::document();
        let mut tried = 0;
        for route in http::routes(&Limits::default()) {
            let method = route.method.as_str().to_ascii_lowercase();
            let operation = &document["paths"][route.path][&method];
            // Whatever makes or changes something says what it reads.
            let takes_one = operation.get("requestBody").is_some();
            assert_eq!(
                takes_one,
                matches!(route.method, Method::POST | Method::PATCH),
                "{route:?}"
            );
            if !takes_one {
                continue;
            }
            let token = match route.access {
                Access::AtLeast(role) => Some(app.token_of(&app.organization, role).await),
                Access::Holder(key) => Some(app.token_of(&app.organization, key.role()).await),
                // Meta's: what is signed is read, whoever turns out to have signed it.
                Access::Anybody => None,
            };
            let path = address(&route, operation, own_path);
            let post = async |length: usize| {
                let body = object(length);
                let signature = Signature::of(SECRET.as_bytes(), &body).to_string();
                let request = app.anonymous(route.method.clone(), &path);
                let request = request.header("content-type", "application/json");
                let request = match &token {
                    // The status webhook takes a token in the place of its key.
                    Some(token) if route.is_for_all_origins => {
                        request.header("x-webhook-secret", token)
                    }
                    Some(token) => request.bearer_auth(token),
                    None => request.header("x-hub-signature-256", signature),
                };
                Answer::to(request.body(body)).await
            };
            post(most(&route) + 1).await.problem(413, "BODY_TOO_LARGE");
            let fits = post(most(&route)).await;
            assert_ne!(fits.status, 413, "{route:?}");
            assert!(!fits.status.is_server_error(), "{route:?}: {}", fits.text());
            tried += 1;
        }
        assert!(tried >= 45, "{tried}");
        app.close().await;
    })
    .await;
}
