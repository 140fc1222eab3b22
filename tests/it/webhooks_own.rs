//! No tenant's URL leads to the gateway itself, whatever else of its machine may be called.

use std::{collections::BTreeMap, time::Duration};

use entity::webhook::state::{Format, Ordering};
use reqwest::{Method, StatusCode};
use serde_json::json;
use wagate::{
    store::{
        Made,
        audit::By,
        webhooks::{Making, NewEndpoint},
    },
    webhook::SigningSecret,
};
use wagate_simulator::Options;

use crate::{
    database::{Kind, on, on_each},
    http_app::App,
    receiver::Receiver,
    webhooks_api::log,
    world::{Answer, World, calls_this_machine},
};

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_calls_receivers_beside_it_and_never_itself() {
    on(Kind::Sqlite, async |database| {
        let world = World::start_with(database, Options::default(), |config| {
            calls_this_machine(config);
            config.http.admin_listen = Some("0.0.0.0:0".parse().unwrap());
        })
        .await;
        let daemon = world.daemon.as_ref().unwrap();
        let welcome = daemon.welcome();
        let admin = welcome.split("http://0.0.0.0:").nth(1).unwrap();
        let admin: u16 = admin.split_whitespace().next().unwrap().parse().unwrap();
        let port = daemon.address().port();
        for url in [
            format!("http://127.0.0.1:{port}/livez"),
            format!("http://[::ffff:127.0.0.1]:{port}/livez"),
            format!("http://localhost:{port}/livez"),
            format!("http://127.0.0.1:{admin}/metrics"),
            format!("http://127.1.2.3:{admin}/metrics"),
            format!("http://localhost:{admin}/metrics"),
        ] {
            let made = world.post("/api/webhooks", json!({ "url": url })).await;
            assert_eq!(made.status, StatusCode::BAD_REQUEST, "{url}: {}", made.body);
            assert_eq!(made.body["errors"][0]["pointer"], "/url", "{url}");
        }
        let receiver = Receiver::start().await;
        let beside = format!("http://localhost:{}/", receiver.address.port());
        let made = world.post("/api/webhooks", json!({ "url": beside })).await;
        assert_eq!(made.status, StatusCode::CREATED, "{}", made.body);
        world.end().await;
    })
    .await;
}

/// Whatever else is configured: with the defaults nothing is sent in clear.
#[tokio::test(flavor = "multi_thread")]
async fn without_being_configured_otherwise_a_daemon_takes_no_address_without_tls() {
    on_each(async |database| {
        let world = World::start_with(database, Options::default(), |config| {
            assert!(config.webhooks.require_https, "as it comes");
            // By name or number, its address is none that could be refused.
            config.webhooks.allow_cidrs.0 = vec!["127.0.0.0/8".parse().unwrap()];
            config.webhooks.ports.0 = Vec::new();
        })
        .await;
        let receiver = Receiver::start().await;
        let clear = format!("http://127.0.0.1:{}/", receiver.address.port());
        let secure = clear.replace("http:", "https:");
        let refused = |answer: &Answer, pointer: &str| {
            assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{}", answer.body);
            assert_eq!(answer.body["errors"][0]["pointer"], pointer, "{}", answer.body);
            let why = answer.body["errors"][0]["detail"].as_str().unwrap();
            assert!(why.contains("https"), "{why}");
        };
        for url in [&*clear, "http://example.com/", "HTTP://example.com:8080/"] {
            refused(&world.post("/api/webhooks", json!({ "url": url })).await, "/url");
        }
        let register = json!({ "phone_number": "6281234567890", "webhook_url": clear });
        refused(&world.post("/api/webhooks/register", register).await, "/webhook_url");
        let made = world.post("/api/webhooks", json!({ "url": secure })).await;
        assert_eq!(made.status, StatusCode::CREATED, "{}", made.body);
        let path = format!("/api/webhooks/{}", made.body["data"]["id"].as_str().unwrap());
        let moved = world.request(Method::PATCH, &path).json(&json!({ "url": clear }));
        refused(&Answer::of(moved).await, "/url");
        assert_eq!(receiver.count(), 0);
        world.end().await;
    })
    .await;
}

/// An endpoint that nobody has looked at.
async fn leads_to(app: &App, url: String) -> String {
    let new = NewEndpoint {
        url,
        description: None,
        format: Format::Envelope,
        event_types: vec!["message.*".to_owned()],
        session_ids: Vec::new(),
        phone_numbers: Vec::new(),
        headers: BTreeMap::new(),
        ordering: Ordering::None,
        max_in_flight: 4,
        rate_per_second: None,
        timeout: Duration::from_secs(1),
        max_retries: None,
        max_age: Duration::from_hours(72),
    };
    let (secret, by) = (SigningSecret::generate(), (None, By::default()));
    let made = app.store.webhooks().create(&app.organization, new, &secret, 500, false, by).await;
    let Making::Made(Made::New(row)) = made.unwrap() else { panic!("it is not made") };
    row.id.to_string()
}

#[tokio::test]
async fn a_name_that_leads_to_the_gateway_is_refused_with_its_port_alone() {
    on_each(async |database| {
        let app = App::start(database).await;
        let receiver = Receiver::start().await;
        app.session("shop").await;
        let port = app.base.rsplit(':').next().unwrap().to_owned();
        let own = json!({ "url": format!("http://receiver.test:{port}/livez") });
        app.post("/api/webhooks", own).await.invalid(&["/url"]);
        let beside = format!("http://receiver.test:{}/", receiver.address.port());
        let made = app.post("/api/webhooks", json!({ "url": beside })).await;
        let id = made.json()["data"]["id"].as_str().unwrap().to_owned();
        let moved = json!({ "url": format!("{}/livez", app.base) });
        app.patch(&format!("/api/webhooks/{id}"), moved).await.invalid(&["/url"]);
        let tested = app.post(&format!("/api/webhooks/{id}/test"), json!({})).await.json();
        assert_eq!(tested["data"]["delivered"], true);

        // Endpoints that were there before the gateway came to listen where they lead: by a name, and plainly.
        for (host, error) in [("receiver.test", "blocked_address"), ("127.0.0.1", "url_refused")] {
            let id = leads_to(&app, format!("http://{host}:{port}/livez")).await;
            app.hear("shop", "4911", host).await;
            app.deliveries.drive().await.unwrap();
            let row = log(&app, &id).await[0].clone();
            assert_eq!(
                (&row["status"], &row["error"]),
                (&json!("exhausted"), &json!(error)),
                "{row}"
            );
            app.post(&format!("/api/webhooks/{id}/pause"), json!({})).await;
        }
        app.close().await;
    })
    .await;
}
