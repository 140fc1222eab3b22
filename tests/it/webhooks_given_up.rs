//! What is never sent is told of; and a few deliveries that are always refused do not keep others waiting.

use std::time::Duration;

use serde_json::{Value, json};

use crate::{
    database::on_each,
    http_app::App,
    receiver::{Behaviour, Receiver},
    webhooks_api::{endpoint, log},
};

fn told(watcher: &Receiver) -> Vec<Value> {
    watcher.requests().iter().map(|it| it.json()["type"].clone()).collect()
}

#[tokio::test]
async fn what_grows_too_old_unsent_is_told_of_once_for_each_endpoint() {
    on_each(async |database| {
        let app = App::start(database).await;
        let (receiver, watcher) = (Receiver::start().await, Receiver::start().await);
        let (id, _) = endpoint(&app, json!({ "url": receiver.url() })).await;
        let second = Receiver::start().await;
        let (other, _) = endpoint(&app, json!({ "url": second.url() })).await;
        endpoint(&app, json!({ "url": watcher.url(), "event_types": ["webhook.*"] })).await;
        app.session("shop").await;
        for id in [&id, &other] {
            app.post(&format!("/api/webhooks/{id}/pause"), json!({})).await;
        }
        // More than are given up by one transaction.
        for n in 0..300 {
            app.hear("shop", "4911", &n.to_string()).await;
        }
        app.clock.advance(Duration::from_hours(73));
        app.deliveries.upkeep().await.unwrap();
        // A notice of each, to the watcher and to the other of the two, which waits.
        assert_eq!(app.store.webhooks().backlog().await.unwrap().0, 4);
        assert_eq!(app.deliveries.stats().exhausted, 600);
        app.deliveries.drive().await.unwrap();
        assert_eq!(told(&watcher), ["webhook.delivery.exhausted"; 2]);
        assert_eq!((receiver.count(), second.count()), (0, 0));
        app.close().await;
    })
    .await;
}

/// A daemon that was away for days sends nothing that is older than the endpoint wants, whoever is first.
#[tokio::test]
async fn what_is_too_old_when_it_is_taken_is_not_sent() {
    on_each(async |database| {
        let app = App::start(database).await;
        let (receiver, watcher) = (Receiver::start().await, Receiver::start().await);
        let (id, _) = endpoint(&app, json!({ "url": receiver.url() })).await;
        endpoint(&app, json!({ "url": watcher.url(), "event_types": ["webhook.*"] })).await;
        app.session("shop").await;
        app.hear("shop", "4911", "old").await;
        app.clock.advance(Duration::from_hours(73));
        app.hear("shop", "4911", "new").await;
        app.deliveries.drive().await.unwrap();
        app.deliveries.drive().await.unwrap();
        let bodies: Vec<_> = receiver
            .requests()
            .iter()
            .map(|it| it.json()["data"]["message"]["body"].clone())
            .collect();
        assert_eq!(bodies, ["new"]);
        let row = &log(&app, &id).await[1];
        assert_eq!((&row["status"], &row["error"]), (&json!("exhausted"), &json!("expired")));
        assert_eq!(told(&watcher), ["webhook.delivery.exhausted"]);
        app.close().await;
    })
    .await;
}

#[tokio::test]
async fn a_receiver_that_refuses_a_few_for_ever_gets_all_others_when_its_breaker_is_probed() {
    on_each(async |database| {
        let app = App::start(database).await;
        let receiver = Receiver::start().await;
        let (id, _) = endpoint(&app, json!({ "url": receiver.url() })).await;
        app.session("shop").await;
        receiver.usually(Behaviour::status(422));
        for n in 0..10 {
            app.hear("shop", "4911", &format!("poison {n}")).await;
        }
        app.deliveries.drive().await.unwrap();
        let health =
            async || app.get(&format!("/api/webhooks/{id}")).await.json()["data"]["health"].clone();
        assert_eq!(health().await["breaker"], "open");
        app.hear("shop", "4911", "good").await;
        receiver.usually(Behaviour::status(200));
        app.clock.advance(Duration::from_secs(30));
        let before = receiver.requests().len();
        app.deliveries.drive().await.unwrap();
        let probe = receiver.requests().remove(before);
        assert_eq!(probe.json()["data"]["message"]["body"], "good");
        assert_eq!(health().await["breaker"], "closed");
        app.close().await;
    })
    .await;
}
