//! What one organization can learn of another: nothing. Not from lists, streams, webhooks, figures or errors.

use std::collections::BTreeMap;

use reqwest::{Method, RequestBuilder};
use serde_json::{Map, Value, json};
use wagate::http::{self, Access, Limits, Statement};

use crate::{
    database::on_each,
    http_app::{Answer, App, json as with_json},
    http_events::Stream,
    meta,
    receiver::Receiver,
    webhooks_api::{endpoint, log},
};

/// A stranger's organization and the secret of an administrator of it.
pub(crate) async fn stranger(app: &App) -> (String, String) {
    let made = app.post("/api/organizations", json!({ "name": "Stranger" })).await.json();
    let id = made["data"]["id"].as_str().unwrap().to_owned();
    let request = app.request(Method::POST, "/api/tokens").header("x-organization", &id);
    let token = Answer::to(with_json(request, &json!({ "role": "admin" }))).await.json();
    (id, token["data"]["secret"].as_str().unwrap().to_owned())
}

/// Makes one of everything in the first organization. What its things are called, by their names in addresses.
pub(crate) async fn furnish(app: &App, receiver: &str) -> BTreeMap<&'static str, String> {
    let body = json!({ "url": receiver, "event_types": ["*"] });
    let (webhook, _) = endpoint(app, body).await;
    app.session("only-ours").await;
    app.show_qr("only-ours", "2@ours").await;
    app.connect("only-ours").await;
    app.hear("only-ours", "15550001111", "a word of ours").await;
    let path = "/api/whatsapp/session/only-ours/messages";
    let body = json!({ "to": "15550001111", "text": "hello", "queue": true });
    let message = app.post(path, body).await.json()["data"]["id"].clone();
    let token =
        app.post("/api/tokens", json!({ "role": "viewer" })).await.json()["data"]["id"].clone();
    let replay = format!("/api/webhooks/{webhook}/replay");
    let replay =
        app.post(&replay, json!({ "after_sequence": 0 })).await.json()["data"]["id"].clone();
    let delivery = log(app, &webhook).await[0]["id"].clone();
    let campaign =
        app.post("/api/campaigns", json!({ "name": "Ours" })).await.json()["data"]["id"].clone();
    let account = meta::set_up(app, &app.token, meta::complete("1", "2", meta::SECRET)).await;
    let told = meta::text("2", "1", "wamid.ours", "a word of ours").to_string();
    meta::deliver(app, meta::SHARED, meta::SECRET, told.as_bytes()).await;
    app.meta.drive().await.unwrap();
    let told = meta::log(app, &app.token).await[0]["id"].clone();
    let conversation = app.get("/api/conversations").await.json()["data"][0]["id"].clone();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    BTreeMap::from([
        ("sessionId", "only-ours".to_owned()),
        ("messageId", text(&message)),
        ("organizationId", app.organization.to_string()),
        ("tokenId", text(&token)),
        ("webhookId", webhook),
        ("deliveryId", text(&delivery)),
        ("replayId", text(&replay)),
        ("campaignId", text(&campaign)),
        ("conversationId", text(&conversation)),
        ("accountId", text(&account["id"])),
        ("metaEventId", text(&told)),
        ("code", "FORBIDDEN".to_owned()),
    ])
}

/// The same as something that never was: as long, and of the same kind.
pub(crate) fn never(things: &BTreeMap<&'static str, String>) -> BTreeMap<&'static str, String> {
    let other = |(name, id): (&&'static str, &String)| {
        let never = match *name {
            "sessionId" => "never-was".to_owned(),
            "code" => id.clone(),
            _ => format!("{}00000000000000000000000000", &id[..id.len() - 26]),
        };
        assert_eq!(never.len(), id.len());
        (*name, never)
    };
    things.iter().map(other).collect()
}

fn address(route: &Statement, things: &BTreeMap<&'static str, String>) -> String {
    things
        .iter()
        .fold(route.path.to_owned(), |path, (name, id)| path.replace(&format!("{{{name}}}"), id))
}

/// An answer as it can be compared: status, headers and body, without when it was given.
pub(crate) fn whole(answer: &Answer) -> (u16, Vec<(String, String)>, String) {
    let headers = answer.headers.iter().filter(|(name, _)| name.as_str() != "date");
    let mut headers: Vec<_> = headers
        .map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned()))
        .collect();
    headers.sort();
    (answer.status.as_u16(), headers, String::from_utf8(answer.body.clone()).unwrap())
}

/// A body that the route can read.
fn body(route: &Statement) -> Value {
    let all = [
        ("sendMessage", json!({ "to": "15550001111", "text": "hello" })),
        ("sendMetaMessage", json!({ "to": "15550001111", "text": "hello" })),
        ("pairSession", json!({ "phoneNumber": "15550001111" })),
        ("createReplay", json!({ "after_sequence": 0 })),
        ("addCampaignAudience", json!({ "members": [{ "phoneNumber": "15550001111" }] })),
        ("setMetaAccountStatus", json!({ "status": "disabled" })),
    ];
    let found = all.into_iter().find(|(operation, _)| *operation == route.operation);
    found.map_or_else(|| Value::Object(Map::new()), |(_, body)| body)
}

fn ask(app: &App, route: &Statement, path: &str, secret: &str) -> RequestBuilder {
    // The same name for every request, so that answers can be compared.
    let request = app.anonymous(route.method.clone(), path).bearer_auth(secret);
    let request = request.header("x-request-id", "the-same");
    if matches!(route.method, Method::POST | Method::PATCH) {
        with_json(request, &body(route))
    } else {
        request
    }
}

#[tokio::test]
async fn a_stranger_learns_nothing_from_lists_streams_webhooks_figures_and_errors() {
    on_each(async |database| {
        let app = App::start(database).await;
        let (theirs, ours) = (Receiver::start().await, Receiver::start().await);
        let (organization, secret) = stranger(&app).await;
        let as_stranger = |method, path: &str| app.anonymous(method, path).bearer_auth(&secret);
        let hook = as_stranger(Method::POST, "/api/webhooks");
        let hook = with_json(hook, &json!({ "url": theirs.url(), "event_types": ["*"] }));
        assert_eq!(Answer::to(hook).await.status, 201);
        let mut stream = Stream::open_as(&app, &secret, "/api/whatsapp/events", None).await;
        let snapshot = stream.expect("snapshot").await;
        assert_eq!(snapshot.data["sessions"], json!([]));

        // Everything that can be read without knowing anything, before there is anything, and after.
        let routes = http::routes(&Limits::default());
        let lists: Vec<_> = routes
            .iter()
            .filter(|route| route.method == Method::GET && route.access != Access::Anybody)
            .filter(|route| !route.path.contains('{') && route.operation != "streamEvents")
            .collect();
        assert!(lists.len() >= 8, "{lists:?}");
        let look = async || {
            let mut seen = BTreeMap::new();
            for route in &lists {
                let answer = Answer::to(ask(&app, route, route.path, &secret)).await;
                seen.insert(route.operation, whole(&answer));
            }
            seen
        };
        // The first use of the token is written down.
        look().await;
        let before = look().await;
        assert_eq!(before["getMetrics"].0, 403);
        let things = furnish(&app, &ours.url()).await;
        assert_eq!(look().await, before);

        // What is ours is what never was, to the byte.
        let never = never(&things);
        let mut compared = 0;
        for route in routes.iter().filter(|route| route.access != Access::Anybody) {
            if !route.path.contains('{') {
                continue;
            }
            assert!(!address(route, &things).contains('{'), "{}: make such a thing", route.path);
            let of_ours = Answer::to(ask(&app, route, &address(route, &things), &secret)).await;
            let of_none = Answer::to(ask(&app, route, &address(route, &never), &secret)).await;
            assert_eq!(whole(&of_ours), whole(&of_none), "{route:?}");
            assert!(matches!(of_ours.status.as_u16(), 403 | 404), "{route:?}: {}", of_ours.text());
            for (way, named) in
                [("ours", &things["organizationId"]), ("none", &never["organizationId"])]
            {
                let inside = ask(&app, route, &address(route, &things), &secret);
                let inside = Answer::to(inside.header("x-organization", named)).await;
                let problem = inside.problem(404, "ORGANIZATION_NOT_FOUND");
                assert!(!problem.to_string().contains(named.as_str()), "{way}");
            }
            compared += 1;
        }
        assert!(compared >= 30, "{compared}");

        // Webhooks: ours are sent, and theirs is not called; then something of their own happens.
        app.deliveries.drive().await.unwrap();
        assert_ne!(ours.requests().len(), 0);
        assert_eq!(theirs.requests().len(), 0);
        let own = as_stranger(Method::POST, "/api/whatsapp/session");
        let own =
            Answer::to(with_json(own, &json!({ "sessionId": "their-own", "start": false }))).await;
        assert_eq!(own.status, 201);
        // The first that their stream tells after its beginning, with the first number of their own.
        let told = stream.expect("session.created").await;
        assert_eq!((told.data["sessionId"].as_str(), told.id), (Some("their-own"), Some(1)));
        let ours_before = ours.requests().len();
        app.deliveries.drive().await.unwrap();
        assert_eq!(ours.requests().len(), ours_before);
        let called = theirs.requests();
        assert_eq!(called.len(), 1);
        assert_eq!(called[0].json()["type"], "session.created");

        // Figures are the operator's, and name nobody.
        let figures = app.get("/metrics").await;
        for name in things.values().filter(|name| *name != "FORBIDDEN").chain([&organization]) {
            assert!(!figures.text().contains(name.as_str()), "{name}");
        }
        app.close().await;
    })
    .await;
}
