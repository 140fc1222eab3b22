//! An endpoint's order is changed while it is owed something: nothing is left behind, and what is owed keeps
//! to the new one.

use std::time::Duration;

use serde_json::json;

use crate::{
    database::{Database, on_each},
    http_app::App,
    receiver::{Behaviour, Receiver, Request},
    webhooks_api::endpoint,
};

const CHATS: usize = 3;
const EACH: usize = 4;

/// An endpoint with this order that is paused and owed messages of some chats.
async fn owed(app: &App, receiver: &Receiver, ordering: &str) -> String {
    let body = json!({ "url": receiver.url(), "ordering": ordering, "max_in_flight": 20 });
    let (id, _) = endpoint(app, body).await;
    app.post(&format!("/api/webhooks/{id}/pause"), json!({})).await;
    for n in 0..CHATS * EACH {
        app.hear("shop", &format!("4911{}", n % CHATS), &n.to_string()).await;
    }
    id
}

async fn to(app: &App, id: &str, ordering: &str) {
    let changed = app.patch(&format!("/api/webhooks/{id}"), json!({ "ordering": ordering })).await;
    assert_eq!(changed.status, 200);
}

fn sequences(requests: &[Request]) -> Vec<i64> {
    requests.iter().map(Request::sequence).collect()
}

fn chat(request: &Request) -> String {
    request.json()["data"]["message"]["chat"].as_str().unwrap().to_owned()
}

/// Opens the endpoint; the first request is refused, and all comes in the end.
async fn come(app: &App, receiver: &Receiver, id: &str) -> Vec<Request> {
    receiver.next([Behaviour::status(500)]);
    app.post(&format!("/api/webhooks/{id}/resume"), json!({})).await;
    for _ in 0..CHATS * EACH {
        app.deliveries.drive().await.unwrap();
        app.clock.advance(Duration::from_secs(10));
    }
    assert_eq!(app.store.webhooks().backlog().await.unwrap(), (0, 0));
    receiver.requests()
}

async fn changed(from: &str, to_order: &str, check: impl Fn(&[Request])) {
    let (from, to_order, check) = (from.to_owned(), to_order.to_owned(), &check);
    on_each(async |database: &Database| {
        let app = App::start(database).await;
        let receiver = Receiver::start().await;
        app.session("shop").await;
        let id = owed(&app, &receiver, &from).await;
        to(&app, &id, &to_order).await;
        let requests = come(&app, &receiver, &id).await;
        assert_eq!(requests.len(), CHATS * EACH + 1);
        check(&requests);
        app.close().await;
    })
    .await;
}

#[tokio::test]
async fn what_was_owed_in_any_order_goes_out_one_by_one_when_that_is_asked_for() {
    for from in ["none", "by_conversation"] {
        changed(from, "strict", |requests| {
            let sequences = sequences(requests);
            assert!(sequences.is_sorted(), "{sequences:?}");
        })
        .await;
    }
}

#[tokio::test]
async fn what_was_owed_one_by_one_does_not_wait_for_another_conversation_any_more() {
    for from in ["none", "strict"] {
        changed(from, "by_conversation", |requests| {
            for n in 0..CHATS {
                let own = format!("4911{n}@c.us");
                let own: Vec<_> = requests.iter().filter(|it| chat(it) == own).cloned().collect();
                let own = sequences(&own);
                assert!(own.is_sorted() && own.len() >= EACH, "{own:?}");
            }
            assert!(!sequences(requests).is_sorted(), "nobody waited for another conversation");
        })
        .await;
    }
}

#[tokio::test]
async fn what_was_owed_in_order_waits_for_nothing_when_there_is_none() {
    changed("strict", "none", |requests| {
        // All the others were sent before the first was sent again.
        let sequences = sequences(requests);
        let last = sequences.last().unwrap();
        assert_eq!(sequences.iter().filter(|it| *it == last).count(), 2, "{sequences:?}");
    })
    .await;
}

/// A daemon that ended in the middle of it, or a replay that did not know of it.
#[tokio::test]
async fn what_a_change_of_order_has_left_is_found_by_upkeep() {
    on_each(async |database| {
        let app = App::start(database).await;
        let receiver = Receiver::start().await;
        app.session("shop").await;
        let id = owed(&app, &receiver, "none").await;
        database.execute("UPDATE webhook_endpoint SET ordering = 'strict'").await;
        let strict = "SELECT COUNT(*) FROM webhook_delivery WHERE order_key = ''";
        assert_eq!(database.count(strict).await, 0);
        app.deliveries.upkeep().await.unwrap();
        assert_eq!(database.count(strict).await, i64::try_from(CHATS * EACH).unwrap());
        assert_eq!(app.store.webhooks().reorder_all().await.unwrap(), 0);
        let sequences = sequences(&come(&app, &receiver, &id).await);
        assert!(sequences.is_sorted(), "{sequences:?}");
        app.close().await;
    })
    .await;
}
