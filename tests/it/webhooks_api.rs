//! Endpoints over HTTP: their whole life, and all that can be wrong with a request.

use entity::state::Role;
use reqwest::Method;
use serde_json::{Value, json};

use crate::{
    database::on_each,
    http_app::{Answer, App, json as with_json},
    receiver::{Behaviour, Receiver},
};

const WEBHOOKS: &str = "/api/webhooks";

/// Makes an endpoint; its id and its secret.
///
/// Unless it says otherwise it is told of all but of sessions that are made: tests make them at leisure.
pub(crate) async fn endpoint(app: &App, mut body: Value) -> (String, String) {
    if body.get("event_types").is_none() {
        body["event_types"] = json!(["message.*", "session.ready", "session.qr", "webhook.*"]);
    }
    let made = app.post(WEBHOOKS, body).await;
    assert_eq!(made.status, 201, "{}", made.text());
    let data = made.json()["data"].clone();
    (data["id"].as_str().unwrap().to_owned(), data["secret"].as_str().unwrap().to_owned())
}

pub(crate) async fn log(app: &App, id: &str) -> Vec<Value> {
    app.get(&format!("{WEBHOOKS}/{id}/events")).await.json()["data"].as_array().unwrap().clone()
}

#[tokio::test]
async fn an_endpoint_lives_its_whole_life_over_http() {
    on_each(async |database| {
        let app = App::start(database).await;
        let receiver = Receiver::start().await;
        let (id, secret) = endpoint(
            &app,
            json!({
                "url": receiver.url(), "description": "Orders", "event_types": ["message.*", "ready"],
                "session_ids": ["shop"], "phone_numbers": ["+62 812-3456-7890"],
                "headers": { "Authorization": "Bearer receiver" }, "ordering": "by_conversation",
                "max_in_flight": 2, "rate_per_second": 10, "timeout_ms": 5000, "max_retries": 3,
                "max_age_seconds": 3600,
            }),
        )
        .await;
        let path = format!("{WEBHOOKS}/{id}");

        // It is there, with nothing secret in it.
        let shown = app.get(&path).await;
        assert!(!shown.text().contains(&secret) && !shown.text().contains("Bearer receiver"));
        let data = shown.json()["data"].clone();
        assert_eq!(data["phone_numbers"], json!(["6281234567890"]));
        assert_eq!(data["has_headers"], true);
        assert_eq!(data["ordering"], "by_conversation");
        assert_eq!(data["max_age_seconds"], 3600);
        assert_eq!(data["state"], "active");
        assert_eq!(data["health"]["breaker"], "closed");
        assert_eq!(data["secrets"].as_array().unwrap().len(), 1);

        // It can be changed, member by member.
        let change = json!({ "description": null, "rate_per_second": null, "event_types": ["*"] });
        let changed = app.patch(&path, change).await.json()["data"].clone();
        assert_eq!(changed["description"], Value::Null);
        assert_eq!(changed["rate_per_second"], Value::Null);
        assert_eq!(changed["event_types"], json!(["*"]));
        assert_eq!(changed["max_retries"], 3);

        // Paused and resumed, twice each without harm.
        for (verb, state) in
            [("pause", "paused"), ("pause", "paused"), ("resume", "active"), ("resume", "active")]
        {
            let answer = app.post(&format!("{path}/{verb}"), json!({})).await.json();
            assert_eq!(answer["data"]["state"], state);
        }

        // It is tried out here and now.
        receiver.next([Behaviour::Answer(202, Vec::new(), b"thanks".to_vec())]);
        let tested =
            app.post(&format!("{path}/test"), json!({ "type": "session.ready" })).await.json();
        assert_eq!(tested["data"]["delivered"], true);
        assert_eq!(tested["data"]["status"], 202);
        assert_eq!(tested["data"]["response"], "thanks");
        assert!(tested["data"]["peer"].as_str().unwrap().starts_with("127.0.0.1:"));
        let request = receiver.requests().remove(0);
        assert!(request.is_signed_with(&secret));
        assert_eq!(request.headers["authorization"], "Bearer receiver");
        assert_eq!(request.json()["type"], "session.ready");
        receiver.next([Behaviour::status(500)]);
        let tested = app.post(&format!("{path}/test"), json!({})).await.json();
        assert_eq!(tested["data"]["delivered"], false);
        assert_eq!(tested["data"]["error"], "http_status");

        // Listed, page by page.
        let (other, _) = endpoint(&app, json!({ "url": receiver.url() })).await;
        let first = app.get(&format!("{WEBHOOKS}?limit=1")).await.json();
        assert_eq!(first["data"][0]["id"], id.as_str());
        let cursor = first["next_cursor"].as_str().unwrap();
        let second = app.get(&format!("{WEBHOOKS}?limit=1&cursor={cursor}")).await.json();
        assert_eq!(second["data"][0]["id"], other.as_str());
        assert_eq!(second["next_cursor"], Value::Null);

        // Gone.
        assert_eq!(app.delete(&path).await.status, 204);
        app.get(&path).await.problem(404, "WEBHOOK_NOT_FOUND");
        app.delete(&path).await.problem(404, "WEBHOOK_NOT_FOUND");
        app.post(&format!("{path}/resume"), json!({})).await.problem(404, "WEBHOOK_NOT_FOUND");
        app.post(&format!("{path}/test"), json!({})).await.problem(404, "WEBHOOK_NOT_FOUND");
        assert_eq!(database.count("SELECT COUNT(*) FROM webhook_secret").await, 1);
        app.close().await;
    })
    .await;
}

#[tokio::test]
async fn registering_is_what_the_guide_says_and_twice_is_once() {
    on_each(async |database| {
        let app = App::start(database).await;
        let receiver = Receiver::start().await;
        let body = json!({
            "phone_number": "6281234567890", "webhook_url": receiver.url(), "max_retries": 3,
        });
        let made = app.post("/api/webhooks/register", body.clone()).await;
        assert_eq!(made.status, 201);
        let data = made.json()["data"].clone();
        assert_eq!(data["phone_number"], "6281234567890");
        assert_eq!(data["webhook_url"], receiver.url());
        assert_eq!(data["max_retries"], 3);
        let secret = data["secret"].as_str().unwrap();

        let again = app.post("/api/webhooks/register", body).await;
        assert_eq!(again.status, 200);
        assert_eq!(again.json()["data"]["id"], data["id"]);
        assert_eq!(again.json()["data"]["secret"], Value::Null);

        // A message of that number comes as the flat object, and nothing else comes.
        app.session("shop").await;
        app.connect("shop").await;
        app.hear("shop", "5511999999999", "Hello from WhatsApp!").await;
        app.deliveries.drive().await.unwrap();
        let requests = receiver.requests();
        assert_eq!(requests.len(), 1);
        assert!(requests[0].is_signed_with(secret));
        assert!(requests[0].line.starts_with("POST /receive?x=1 HTTP/1.1"));
        let mut flat = requests[0].json();
        assert_eq!(flat["metadata"]["session_id"], "shop");
        assert!(flat["metadata"]["sequence"].is_i64());
        flat["metadata"] = json!({});
        flat["message_id"] = json!("msg_abc123");
        assert_eq!(
            flat,
            json!({
                "client_id": 1, "message_id": "msg_abc123", "from": "5511999999999",
                "to": "6281234567890", "timestamp": "2027-01-15T08:00:00Z", "type": "text",
                "content": "Hello from WhatsApp!", "metadata": {},
            })
        );

        // The log has it, and it can be sent again under its id.
        let id = data["id"].as_str().unwrap();
        let rows = log(&app, id).await;
        assert_eq!(rows[0]["status"], "succeeded");
        assert_eq!(rows[0]["response_status"], 200);
        assert_eq!(rows[0]["attempts"], 1);
        let event = rows[0]["id"].as_str().unwrap();
        let retried = app.post(&format!("/api/webhooks/events/{event}/retry"), json!({})).await;
        assert_eq!(retried.status, 202);
        app.deliveries.drive().await.unwrap();
        let requests = receiver.requests();
        assert_eq!(requests.len(), 2);
        assert_eq!(requests[0].id(), requests[1].id());
        let detail = app.get(&format!("/api/webhooks/events/{event}")).await.json();
        assert_eq!(detail["data"]["attempt_log"].as_array().unwrap().len(), 2);
        assert_eq!(detail["data"]["event"]["data"]["message"]["body"], "Hello from WhatsApp!");
        app.close().await;
    })
    .await;
}

#[tokio::test]
async fn bad_input_is_told_and_changes_nothing() {
    on_each(async |database| {
        let app = App::start(database).await;
        let good = "http://127.0.0.1:9/";
        let post = async |body: Value| app.post(WEBHOOKS, body).await;
        post(json!({})).await.invalid(&["/url"]);
        for url in [
            "",
            "x",
            "ftp://receiver.test/",
            "http://10.0.0.1/",
            "http://169.254.169.254/",
            "http://[::1]/",
            "http://inside.test/",
            "http://user:pass@receiver.test/",
            "http://receiver.test/#x",
            "http://127.0.0.99/",
            "http://2130706531/",
        ] {
            post(json!({ "url": url })).await.invalid(&["/url"]);
        }
        post(json!({ "url": good, "event_types": [] })).await.invalid(&["/event_types"]);
        post(json!({ "url": good, "event_types": ["ready", "x"] }))
            .await
            .invalid(&["/event_types/1"]);
        post(json!({ "url": good, "event_types": [1] })).await.invalid(&["/event_types"]);
        post(json!({ "url": good, "format": "flat", "event_types": ["*"] }))
            .await
            .invalid(&["/event_types"]);
        post(json!({ "url": good, "session_ids": ["a b"], "phone_numbers": ["12"] }))
            .await
            .invalid(&["/session_ids/0", "/phone_numbers/0"]);
        for (name, value) in [
            ("Host", "x"),
            ("webhook-id", "x"),
            ("content-length", "1"),
            ("x-ok", "a\r\nb: c"),
            ("x-ok", "ä"),
        ] {
            let headers = json!({ name: value });
            let pointer = format!("/headers/{}", name.to_ascii_lowercase());
            post(json!({ "url": good, "headers": headers })).await.invalid(&[&pointer]);
        }
        post(json!({ "url": good, "headers": { "a b": "x" } })).await.invalid(&["/headers"]);
        post(json!({
            "url": 7, "format": "xml", "ordering": "x", "max_in_flight": 0, "rate_per_second": 0,
            "timeout_ms": 1, "max_retries": -1, "max_age_seconds": 1.5, "colour": "red",
        }))
        .await
        .invalid(&[
            "/url",
            "/format",
            "/ordering",
            "/max_in_flight",
            "/rate_per_second",
            "/timeout_ms",
            "/max_retries",
            "/max_age_seconds",
            "/colour",
        ]);
        post(json!({ "url": good, "max_age_seconds": 1 })).await.invalid(&["/max_age_seconds"]);
        post(json!({ "url": good, "description": "x".repeat(501) }))
            .await
            .invalid(&["/description"]);
        app.post("/api/webhooks/register", json!({ "max_retries": "3" })).await.invalid(&[
            "/phone_number",
            "/webhook_url",
            "/max_retries",
        ]);
        app.post(
            "/api/webhooks/register",
            json!({ "phone_number": "x", "webhook_url": "https://10.0.0.1/" }),
        )
        .await
        .invalid(&["/webhook_url", "/phone_number"]);
        assert_eq!(database.count("SELECT COUNT(*) FROM webhook_endpoint").await, 0);

        let (id, _) = endpoint(&app, json!({ "url": good })).await;
        let path = format!("{WEBHOOKS}/{id}");
        app.patch(&path, json!({ "url": "http://10.0.0.1/" })).await.invalid(&["/url"]);
        app.patch(&path, json!({ "format": "flat" })).await.invalid(&["/event_types"]);
        app.post(&format!("{path}/test"), json!({ "type": "x" })).await.invalid(&["/type"]);
        app.post(&format!("{path}/secret/rotate"), json!({ "overlap_seconds": -1 }))
            .await
            .invalid(&["/overlap_seconds"]);
        app.get(&format!("{path}/events?status=x&type=y&cursor=z&limit=0"))
            .await
            .invalid(&["/limit", "/status", "/type", "/cursor"]);
        for path in ["/api/webhooks/x", "/api/webhooks/ep_01JBXQK7G00000000000000000"] {
            app.get(path).await.problem(404, "WEBHOOK_NOT_FOUND");
        }
        app.post("/api/webhooks/events/x/retry", json!({}))
            .await
            .problem(404, "DELIVERY_NOT_FOUND");
        app.close().await;
    })
    .await;
}

#[tokio::test]
async fn strangers_and_viewers_change_nothing() {
    on_each(async |database| {
        let app = App::start(database).await;
        let receiver = Receiver::start().await;
        let (id, _) = endpoint(&app, json!({ "url": receiver.url() })).await;
        app.session("shop").await;
        app.hear("shop", "4911", "x").await;
        let delivery = log(&app, &id).await[0]["id"].as_str().unwrap().to_owned();
        let (stranger, viewer) =
            (app.stranger(database).await, app.token_of(&app.organization, Role::Viewer).await);
        let path = format!("{WEBHOOKS}/{id}");
        for (method, path) in [
            (Method::PATCH, path.clone()),
            (Method::DELETE, path.clone()),
            (Method::POST, format!("{path}/pause")),
            (Method::POST, format!("{path}/resume")),
            (Method::POST, format!("{path}/test")),
            (Method::POST, format!("{path}/secret/rotate")),
            (Method::POST, format!("{WEBHOOKS}/events/{delivery}/retry")),
        ] {
            let ask = async |token: &str| {
                let request = app.anonymous(method.clone(), &path).bearer_auth(token);
                Answer::to(with_json(request, &json!({}))).await
            };
            assert_eq!(ask(&stranger).await.status, 404, "{path}");
            ask(&viewer).await.problem(403, "FORBIDDEN");
        }
        let ask = async |path: &str, token: &str| {
            Answer::to(app.anonymous(Method::GET, path).bearer_auth(token)).await
        };
        for path in [&path, &format!("{path}/events"), &format!("{WEBHOOKS}/events/{delivery}")] {
            assert_eq!(ask(path, &stranger).await.status, 404, "{path}");
            assert_eq!(ask(path, &viewer).await.status, 200, "{path}");
        }
        assert_eq!(ask(WEBHOOKS, &stranger).await.json()["data"], json!([]));
        app.close().await;
    })
    .await;
}
