//! Who may ask what: every route that there is, tried with every kind of caller.
//!
//! The list comes from the router's own table, so a route that is added is tried, too.

use entity::state::Role;
use reqwest::{Method, RequestBuilder, StatusCode};
use serde_json::{Map, Value, json};
use wagate::{
    http::{self, Access, Key, Limits, Statement},
    service::Tokens,
    store::{audit::By, tokens::NewToken},
};

use crate::{
    database::on_each,
    http_app::{Answer, App},
    meta::{self, NUMBER, SECRET, SHARED, WABA, complete, deliver, set_up, text},
    webhooks_api::{endpoint, log},
};

pub(crate) const ROLES: [Role; 4] = [Role::Viewer, Role::Manager, Role::Admin, Role::Operator];

/// What only the first organization has: no answer to another may contain it.
const SESSION: &str = "only-ours";

/// What the members and parameters that some route cannot do without may be.
fn example(pointer: &str) -> Value {
    match pointer {
        "/user_id" => json!("user-1"),
        "/phoneNumber" | "/phone_number" => json!("6281234567890"),
        "/to" => json!("15550001111"),
        "/text" => json!("hello"),
        "/role" => json!("viewer"),
        "/since" => json!("2027-01-15T00:00:00Z"),
        "/name" => json!("Sale"),
        "/phoneNumberId" => json!("106540352242922"),
        "/appSecret" => json!("test_app_secret"),
        "/status" => json!("disabled"),
        "/members" => json!([{ "phoneNumber": "6281234567890" }]),
        "/url" | "/webhook_url" => json!("https://receiver.test/"),
        other => panic!("{other} is needed by some route: give an example of it here"),
    }
}

/// Where the things of the first organization are.
struct Ours {
    message: String,
    organization: String,
    token: String,
    webhook: String,
    delivery: String,
    replay: String,
    campaign: String,
    account: String,
    own_path: String,
    meta_event: String,
    conversation: String,
}

impl Ours {
    async fn make(app: &App) -> Self {
        let (webhook, _) = endpoint(app, json!({ "url": "https://receiver.test/" })).await;
        app.session(SESSION).await;
        app.show_qr(SESSION, "2@code").await;
        app.connect(SESSION).await;
        let path = format!("/api/whatsapp/session/{SESSION}/messages");
        let body = json!({ "to": "15550001111", "text": "hello", "queue": true });
        let sent = app.post(&path, body).await;
        assert!(sent.status.is_success(), "{}", sent.text());
        let token = app.post("/api/tokens", json!({ "role": "viewer" })).await.json();
        let owed = log(app, &webhook).await;
        let replay = app
            .post(&format!("/api/webhooks/{webhook}/replay"), json!({ "after_sequence": 0 }))
            .await;
        assert!(replay.status.is_success(), "{}", replay.text());
        let campaign = app.post("/api/campaigns", json!({ "name": "Sale" })).await.json();
        let account = set_up(app, &app.token, complete(NUMBER, WABA, SECRET)).await;
        let body = text(WABA, NUMBER, "wamid.only-ours", "a word of ours").to_string();
        deliver(app, SHARED, SECRET, body.as_bytes()).await;
        app.meta.drive().await.unwrap();
        let told = meta::log(app, &app.token).await;
        let conversations = app.get("/api/conversations").await.json();
        Self {
            campaign: campaign["data"]["id"].as_str().unwrap().to_owned(),
            account: account["id"].as_str().unwrap().to_owned(),
            own_path: account["ownPath"].as_str().unwrap().to_owned(),
            conversation: conversations["data"][0]["id"].as_str().unwrap().to_owned(),
            meta_event: told[0]["id"].as_str().unwrap().to_owned(),
            message: sent.json()["data"]["id"].as_str().unwrap().to_owned(),
            organization: app.organization.to_string(),
            token: token["data"]["id"].as_str().unwrap().to_owned(),
            delivery: owed[0]["id"].as_str().unwrap().to_owned(),
            replay: replay.json()["data"]["id"].as_str().unwrap().to_owned(),
            webhook,
        }
    }

    /// A route's address, with our things in it.
    fn address(&self, route: &Statement) -> String {
        let path = route
            .path
            .replace("{sessionId}", SESSION)
            .replace("{messageId}", &self.message)
            .replace("{organizationId}", &self.organization)
            .replace("{tokenId}", &self.token)
            .replace("{webhookId}", &self.webhook)
            .replace("{deliveryId}", &self.delivery)
            .replace("{replayId}", &self.replay)
            .replace("{campaignId}", &self.campaign)
            .replace("{accountId}", &self.account)
            .replace("/api/webhooks/whatsapp/{callbackKey}", &self.own_path)
            .replace("{metaEventId}", &self.meta_event)
            .replace("{conversationId}", &self.conversation)
            .replace("{code}", "FORBIDDEN");
        assert!(!path.contains('{'), "{path}: make such a thing in this test");
        path
    }
}

/// A request to this route that is refused for one reason at least: what it asks for is not known.
/// Whoever may not ask is refused before that is noticed.
pub(crate) fn nonsense(app: &App, route: &Statement, path: &str) -> RequestBuilder {
    app.anonymous(route.method.clone(), &format!("{path}?colour=red"))
}

fn is_guarded(route: &Statement) -> bool {
    route.access != Access::Anybody
}

#[tokio::test]
async fn every_route_is_closed_to_whoever_shows_no_valid_token() {
    on_each(async |database| {
        let app = App::start(database).await;
        let ours = Ours::make(&app).await;
        let tokens = app.store.tokens();

        let revoked = app.token_of(&app.organization, Role::Operator).await;
        let caller = Tokens::new(app.store.clone()).authenticate(&revoked).await.unwrap();
        assert!(
            tokens
                .revoke(&app.organization, caller.token_id.as_ref().unwrap(), By::default())
                .await
                .unwrap()
        );
        let expired = Tokens::new_secret();
        let new = NewToken {
            role: Role::Operator,
            secret_hash: Tokens::hash(&expired),
            label: "expired".to_owned(),
            expires_at: Some(app.clock.now()),
        };
        tokens.add(&app.organization, new).await.unwrap();
        let unknown = Tokens::new_secret();

        for route in http::routes(&Limits::default()) {
            let path = ours.address(&route);
            for secret in [None, Some(&unknown), Some(&expired), Some(&revoked)] {
                let mut request = nonsense(&app, &route, &path);
                if let Some(secret) = secret {
                    request = request.bearer_auth(secret);
                }
                let answer = Answer::to(request).await;
                if is_guarded(&route) {
                    let problem = answer.problem(401, "UNAUTHENTICATED");
                    assert!(!problem.to_string().contains(SESSION));
                    assert_eq!(answer.header("www-authenticate"), "Bearer realm=\"wagate\"");
                } else {
                    // Meta's signature is no token.
                    let is_signed = route.operation == "receiveMetaEventsOfAccount";
                    assert_eq!(answer.status == StatusCode::UNAUTHORIZED, is_signed, "{route:?}");
                }
            }
        }
        app.close().await;
    })
    .await;
}

#[tokio::test]
async fn every_route_is_open_from_its_role_upwards_and_to_nobody_below() {
    on_each(async |database| {
        let app = App::start(database).await;
        let ours = Ours::make(&app).await;
        for role in ROLES {
            let secret = app.token_of(&app.organization, role).await;
            for route in http::routes(&Limits::default()) {
                let Access::AtLeast(needed) = route.access else { continue };
                let path = ours.address(&route);
                let answer = Answer::to(nonsense(&app, &route, &path).bearer_auth(&secret)).await;
                if role < needed {
                    let problem = answer.problem(403, "FORBIDDEN");
                    assert_eq!(problem["needs"], json!(needed), "{route:?}");
                } else {
                    // Allowed, and so it is noticed that the request is nonsense.
                    let problem = answer.problem(400, "VALIDATION_FAILED");
                    assert_eq!(problem["errors"][0]["pointer"], "/colour", "{role:?} {route:?}");
                }
            }
        }
        app.close().await;
    })
    .await;
}

#[tokio::test]
async fn what_is_open_to_anybody_asks_nothing_of_a_token_whosever_it_is() {
    on_each(async |database| {
        let app = App::start(database).await;
        let ours = Ours::make(&app).await;
        let mut shown = vec![None, Some(app.stranger(database).await), Some(Tokens::new_secret())];
        for role in ROLES {
            shown.push(Some(app.token_of(&app.organization, role).await));
        }
        let mut tried = 0;
        for route in http::routes(&Limits::default()) {
            if route.access != Access::Anybody {
                continue;
            }
            let path = ours.address(&route);
            let mut seen = Vec::new();
            for secret in &shown {
                let mut request = app.anonymous(route.method.clone(), &path);
                if let Some(secret) = secret {
                    request = request.bearer_auth(secret);
                }
                let answer = Answer::to(request).await;
                // Meta shows a signature and a verify token, and neither is a bearer token.
                let asks_for_more = route.operation.contains("Meta");
                let is_refused = matches!(answer.status.as_u16(), 401 | 403);
                assert!(asks_for_more || !is_refused, "{route:?}: {}", answer.text());
                seen.push(answer.status);
            }
            assert!(seen.iter().all(|status| *status == seen[0]), "{route:?}: {seen:?}");
            tried += 1;
        }
        assert!(tried >= 15, "{tried}");
        app.close().await;
    })
    .await;
}

/// A request as another organization would have to make it to reach our things, if that could be.
async fn as_stranger(app: &App, route: &Statement, path: &str, secret: &str) -> Answer {
    let mut body = Map::new();
    loop {
        let mut request = app.anonymous(route.method.clone(), path).bearer_auth(secret);
        if route.method != Method::GET && route.method != Method::DELETE {
            request = crate::http_app::json(request, &Value::Object(body.clone()));
        }
        // Only the head of a stream: it does not end by itself.
        let response = request.send().await.unwrap();
        let is_stream = response
            .headers()
            .get("content-type")
            .is_some_and(|kind| kind.as_bytes().starts_with(b"text/event-stream"));
        let (status, headers) = (response.status(), response.headers().clone());
        let bytes = if is_stream { Vec::new() } else { response.bytes().await.unwrap().to_vec() };
        let answer = Answer { status, headers, body: bytes };
        if answer.status != StatusCode::BAD_REQUEST {
            return answer;
        }
        let mut missing = 0;
        for error in answer.json()["errors"].as_array().unwrap() {
            if error["detail"].as_str().unwrap().starts_with("is missing") {
                let pointer = error["pointer"].as_str().unwrap();
                body.insert(pointer.trim_start_matches('/').to_owned(), example(pointer));
                missing += 1;
            }
        }
        assert_ne!(missing, 0, "{route:?}: {}", answer.text());
    }
}

#[tokio::test]
async fn another_organization_s_token_finds_nothing_and_changes_nothing_anywhere() {
    on_each(async |database| {
        let app = App::start(database).await;
        let ours = Ours::make(&app).await;
        let before = (app.row(SESSION).await, app.get(&message_path(&ours)).await.json());
        let stranger = app.stranger(database).await;

        for route in http::routes(&Limits::default()) {
            // Whose key is the operator's, no organization's token opens anything.
            if !is_guarded(&route) || matches!(route.access, Access::Holder(Key::Status(_))) {
                continue;
            }
            let answer = as_stranger(&app, &route, &ours.address(&route), &stranger).await;
            if route.access == Access::AtLeast(Role::Operator) {
                answer.problem(403, "FORBIDDEN");
            } else if route.path.contains('{') {
                assert_eq!(answer.status, StatusCode::NOT_FOUND, "{route:?}");
            }
            // Only an operator's token acts in an organization that is not its own.
            let path = ours.address(&route);
            let inside = nonsense(&app, &route, &path).header("x-organization", &ours.organization);
            Answer::to(inside.bearer_auth(&stranger)).await.problem(404, "ORGANIZATION_NOT_FOUND");

            let text = String::from_utf8_lossy(&answer.body);
            let Ours { message, organization, token, webhook, delivery, replay, .. } = &ours;
            let Ours { account, own_path, meta_event, campaign, conversation, .. } = &ours;
            let more = [account, own_path, meta_event, campaign, conversation];
            for secret in [SESSION, message, organization, token, webhook, delivery, replay]
                .into_iter()
                .chain(more.map(String::as_str))
            {
                assert!(!text.contains(secret), "{route:?}: {text}");
            }
        }

        let after = (app.row(SESSION).await, app.get(&message_path(&ours)).await.json());
        assert_eq!(before, after);
        app.close().await;
    })
    .await;
}

fn message_path(ours: &Ours) -> String {
    format!("/api/whatsapp/session/{SESSION}/messages/{}", ours.message)
}

/// The listener for the machine's own watchers asks for no token, so what it has must be for anybody who reaches it.
#[tokio::test]
async fn the_watchers_listener_answers_what_it_says_without_a_token_and_nothing_else() {
    on_each(async |database| {
        let app = App::start(database).await;
        let (router, stop) = (app.watchers.clone(), app.stop.clone());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let tasks = tokio_util::task::TaskTracker::new();
        let options = http::ServeOptions::default();
        tasks.spawn(http::serve(listener, router, options, stop.clone(), stop.clone()));
        tasks.close();
        let ask = async |method: Method, path: &str| {
            let request = crate::world::http_client().request(method, format!("{base}{path}"));
            request.send().await.unwrap().status()
        };
        let own = http::admin_routes();
        for route in &own {
            assert_eq!(route.access, Access::Anybody, "{route:?}");
            assert_eq!(route.method, Method::GET, "{route:?}: watchers change nothing");
            assert!(!route.path.contains('{'), "{route:?}: nothing of a tenant's");
            let status = ask(Method::GET, route.path).await;
            assert!(status.is_success(), "{route:?}: {status}");
        }
        for route in http::routes(&Limits::default()) {
            if own.iter().any(|it| (it.path, &it.method) == (route.path, &route.method)) {
                continue;
            }
            let status = ask(route.method.clone(), &route.path.replace(['{', '}'], "")).await;
            assert_eq!(status, StatusCode::UNAUTHORIZED, "{route:?}");
        }
        stop.cancel();
        tasks.wait().await;
        app.close().await;
    })
    .await;
}
