//! What no session's run has seen is told like everything else, to endpoints and in the feed; figures of an
//! endpoint; its changes in the audit log.

use std::time::Duration;

use entity::state::MessageStatus;
use serde_json::{Value, json};
use wagate::{
    event::{Ack, AckLevel, Event, NewMessage},
    store::nodes::NewNode,
};

use crate::{
    database::on_each,
    http_app::App,
    receiver::{Behaviour, Receiver, Request},
    webhooks_api::endpoint,
};

fn types(receiver: &Receiver) -> Vec<String> {
    let mut requests = receiver.requests();
    requests.sort_by_key(Request::sequence);
    requests.iter().map(|it| it.json()["type"].as_str().unwrap().to_owned()).collect()
}

async fn feed(app: &App, after: i64) -> Vec<(i64, Value, Value)> {
    let page = app.get(&format!("/api/whatsapp/events/page?after={after}")).await.json();
    let of =
        |it: &Value| (it["seq"].as_i64().unwrap(), it["event"].clone(), it["sessionId"].clone());
    page["data"].as_array().unwrap().iter().map(of).collect()
}

#[tokio::test]
async fn sessions_that_are_made_and_deleted_are_told_and_in_the_feed() {
    on_each(async |database| {
        let app = App::start(database).await;
        let receiver = Receiver::start().await;
        endpoint(&app, json!({ "url": receiver.url(), "event_types": ["*"] })).await;
        app.session("shop").await;
        app.hear("shop", "4911", "x").await;
        // Made twice is made once.
        let again = json!({ "sessionId": "shop", "start": false });
        assert_eq!(app.post("/api/whatsapp/session", again).await.status, 409);
        assert_eq!(app.delete("/api/whatsapp/session/shop").await.status, 200);
        app.deliveries.drive().await.unwrap();
        assert_eq!(types(&receiver), ["session.created", "message.received", "session.deleted"]);
        assert_eq!(receiver.requests()[0].json()["session_id"], "shop");
        let feed = feed(&app, 0).await;
        let events: Vec<_> = feed.iter().map(|(_, event, _)| event.clone()).collect();
        // The message went with its session.
        assert_eq!(events, ["session.created", "session.deleted"]);
        assert!(feed.iter().all(|(_, _, session)| session == "shop"), "{feed:?}");
        app.close().await;
    })
    .await;
}

#[tokio::test]
async fn the_feed_has_what_becomes_of_endpoints_in_order_and_page_by_page() {
    on_each(async |database| {
        let app = App::start(database).await;
        let receiver = Receiver::start().await;
        endpoint(&app, json!({ "url": receiver.url(), "event_types": ["*"] })).await;
        app.session("shop").await;
        receiver.usually(Behaviour::status(410));
        app.hear("shop", "4911", "x").await;
        app.deliveries.drive().await.unwrap();
        app.hear("shop", "4911", "y").await;
        let all = feed(&app, 0).await;
        let events: Vec<_> = all.iter().map(|(_, event, _)| event.as_str().unwrap()).collect();
        assert_eq!(
            events,
            [
                "session.created",
                "message",
                "webhook.delivery.exhausted",
                "webhook.endpoint.disabled",
                "message"
            ]
        );
        assert!(all.is_sorted_by_key(|(seq, _, _)| *seq));
        assert_eq!(all[3].2, Value::Null);
        // One at a time, nothing is left out and nothing comes twice.
        let (mut after, mut paged) = (0, Vec::new());
        loop {
            let path = format!("/api/whatsapp/events/page?after={after}&limit=1");
            let page = app.get(&path).await.json();
            let Some(event) = page["data"].get(0) else { break };
            paged.push(event["event"].clone());
            after = page["cursor"].as_i64().unwrap();
        }
        assert_eq!(paged, events);
        app.close().await;
    })
    .await;
}

fn ack(app: &App, wa_id: &str, level: AckLevel) -> Event {
    Event::Ack(Ack {
        wa_id: wa_id.to_owned(),
        chat: "4911@s.whatsapp.net".to_owned(),
        by: "4911@s.whatsapp.net".to_owned(),
        level,
        error: None,
        at: app.clock.now(),
    })
}

#[tokio::test]
async fn that_a_message_is_sent_is_told_once_whatever_is_known_first() {
    on_each(async |database| {
        let app = App::start(database).await;
        let receiver = Receiver::start().await;
        endpoint(&app, json!({ "url": receiver.url(), "event_types": ["message.*"] })).await;
        app.session("shop").await;
        for (wa_id, status, levels) in [
            ("in order", MessageStatus::Sending, &[AckLevel::Sent, AckLevel::Delivered][..]),
            ("the server is late", MessageStatus::Sending, &[AckLevel::Read, AckLevel::Sent]),
            ("from a phone", MessageStatus::Sent, &[AckLevel::Delivered]),
        ] {
            let message = NewMessage {
                wa_id: wa_id.to_owned(),
                direction: entity::state::Direction::Outbound,
                status,
                ..app.message("4911", "x")
            };
            app.happen("shop", Event::Message(Box::new(message))).await;
            for level in levels {
                app.happen("shop", ack(&app, wa_id, *level)).await;
            }
        }
        app.deliveries.drive().await.unwrap();
        assert_eq!(
            types(&receiver),
            [
                "message.created",
                "message.sent",
                "message.ack",
                "message.created",
                "message.sent",
                "message.ack",
                "message.created",
                "message.ack"
            ]
        );
        app.close().await;
    })
    .await;
}

#[tokio::test]
async fn a_session_that_another_daemon_takes_over_is_told_as_migrated() {
    on_each(async |database| {
        let app = App::start(database).await;
        let receiver = Receiver::start().await;
        let only = json!({ "url": receiver.url(), "event_types": ["session.migrated"] });
        endpoint(&app, only).await;
        app.session("shop").await;
        let key = app.row("shop").await.id;
        let (nodes, leases) = (app.store.nodes(), app.store.leases());
        let join = async |home: &str| {
            let new = NewNode { home: home.to_owned(), name: home.to_owned(), lease: None };
            nodes.join(new).await.unwrap()
        };
        // The first owner, and the same daemon after a restart, move nothing.
        for home in ["one", "one", "two", "two", "one"] {
            let node = join(home).await;
            let lease = leases.claim(&node, vec![key.clone()]).await.unwrap().remove(0);
            leases.claim(&node, vec![key.clone()]).await.unwrap();
            leases.release(&lease).await.unwrap();
        }
        app.deliveries.drive().await.unwrap();
        assert_eq!(types(&receiver), ["session.migrated"; 2]);
        assert_eq!(receiver.requests()[0].json()["data"]["sessionId"], "shop");
        app.close().await;
    })
    .await;
}

#[tokio::test]
async fn figures_of_an_endpoint_say_how_it_does() {
    on_each(async |database| {
        let app = App::start(database).await;
        let receiver = Receiver::start().await;
        let body = json!({ "url": receiver.url(), "event_types": ["*"], "max_retries": 0 });
        let (id, _) = endpoint(&app, body).await;
        let path = format!("/api/webhooks/{id}/stats");
        let stats =
            async |query: &str| app.get(&format!("{path}{query}")).await.json()["data"].clone();
        let none = stats("").await;
        assert_eq!((&none["attempts"], &none["success_rate"]), (&json!(0), &Value::Null));
        assert_eq!(none["duration_ms"], json!({ "p50": null, "p95": null }));

        app.session("shop").await;
        app.hear("shop", "4911", "x").await;
        app.hear("shop", "4911", "y").await;
        app.deliveries.drive().await.unwrap();
        receiver.next([Behaviour::status(500)]);
        app.hear("shop", "4911", "z").await;
        app.deliveries.drive().await.unwrap();
        app.post(&format!("/api/webhooks/{id}/pause"), json!({})).await;
        app.hear("shop", "4911", "waits").await;
        app.clock.advance(Duration::from_secs(7));

        let now = stats("").await;
        for (member, value) in [
            ("attempts", json!(4)),
            ("delivered", json!(3)),
            ("failed", json!(1)),
            ("exhausted", json!(1)),
            ("success_rate", json!(0.75)),
            ("pending", json!(1)),
            ("in_flight", json!(0)),
            ("oldest_due_seconds", json!(7)),
            ("last_success_at", json!("2027-01-15T08:00:00.000Z")),
            ("last_failure_at", json!("2027-01-15T08:00:00.000Z")),
        ] {
            assert_eq!(now[member], value, "{member}: {now}");
        }
        assert!(now["duration_ms"]["p50"].as_i64() <= now["duration_ms"]["p95"].as_i64());
        // Another time has other figures.
        let before = stats("?since=2027-01-14T00:00:00Z&until=2027-01-15T07:00:00Z").await;
        assert_eq!(before["attempts"], 0);
        let day = stats("?since=2027-01-15T08:00:00Z&until=2027-01-15T09:00:00Z").await;
        assert_eq!(day["attempts"], 4);
        app.get(&format!("{path}?since=2027-01-16T00:00:00Z")).await.invalid(&["/since"]);
        app.get(&format!("{path}?since=x&until=y")).await.invalid(&["/since", "/until"]);
        app.clock.advance(Duration::from_hours(91 * 24));
        app.deliveries.upkeep().await.unwrap();
        assert_eq!(
            database.count("SELECT COUNT(*) FROM webhook_stat WHERE outcome <> 'exhausted'").await,
            0
        );
        app.close().await;
    })
    .await;
}

#[tokio::test]
async fn who_changed_an_endpoint_is_in_the_audit_log_and_no_secret_is() {
    on_each(async |database| {
        let app = App::start(database).await;
        let receiver = Receiver::start().await;
        let url = format!("http://{}/hidden-path?key=hidden-query", receiver.address);
        let headers = json!({ "authorization": "Bearer hidden-header" });
        let (id, secret) =
            endpoint(&app, json!({ "url": url, "headers": headers, "event_types": ["*"] })).await;
        let path = format!("/api/webhooks/{id}");
        app.patch(&path, json!({ "max_in_flight": 2 })).await;
        app.post(&format!("{path}/pause"), json!({})).await;
        app.post(&format!("{path}/resume"), json!({})).await;
        app.post(&format!("{path}/secret/rotate"), json!({})).await;
        app.session("shop").await;
        let replay = app.post(&format!("{path}/replay"), json!({ "after_sequence": 0 })).await;
        let replay = replay.json()["data"]["id"].as_str().unwrap().to_owned();
        app.post(&format!("/api/webhooks/replays/{replay}/cancel"), json!({})).await;
        receiver.usually(Behaviour::status(410));
        app.deliveries.drive().await.unwrap();
        assert_eq!(app.delete(&path).await.status, 204);

        let page = app.get("/api/audit?limit=100").await;
        for hidden in ["hidden", &secret] {
            assert!(!page.text().contains(hidden), "{}", page.text());
        }
        let entries = page.json()["data"].as_array().unwrap().clone();
        let of_endpoint: Vec<_> = entries.iter().rev().filter(|it| it["target"] == *id).collect();
        let actions: Vec<_> = of_endpoint.iter().map(|it| it["action"].as_str().unwrap()).collect();
        assert_eq!(
            actions,
            [
                "webhook_created",
                "webhook_changed",
                "webhook_paused",
                "webhook_resumed",
                "webhook_secret_rotated",
                "webhook_replayed",
                "webhook_replay_cancelled",
                "webhook_disabled",
                "webhook_deleted"
            ]
        );
        for entry in of_endpoint {
            let by_somebody = entry["action"] != "webhook_disabled";
            assert_eq!(entry["tokenId"].is_string(), by_somebody, "{entry}");
            assert_eq!(entry["address"] == "127.0.0.1", by_somebody, "{entry}");
        }
        app.close().await;
    })
    .await;
}
