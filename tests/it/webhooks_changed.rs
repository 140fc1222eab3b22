//! An endpoint that is changed while it is called, or fails: what was heard of it before says nothing of it now.

use serde_json::{Value, json};

use crate::{
    database::on_each,
    http_app::App,
    receiver::{Behaviour, Receiver},
    webhooks_api::endpoint,
};

async fn shown(app: &App, id: &str) -> Value {
    app.get(&format!("/api/webhooks/{id}")).await.json()["data"].clone()
}

fn told(watcher: &Receiver) -> Vec<Value> {
    watcher.requests().iter().map(|it| it.json()["type"].clone()).collect()
}

/// Has the breaker of an endpoint open, with two events that were never sent.
async fn open_breaker(app: &App, receiver: &Receiver, id: &str) {
    receiver.usually(Behaviour::Reset);
    for n in 0..12 {
        app.hear("shop", "4911", &n.to_string()).await;
    }
    app.deliveries.drive().await.unwrap();
    assert_eq!(receiver.count(), 10);
    assert_eq!(shown(app, id).await["health"]["breaker"], "open");
}

#[tokio::test]
async fn a_late_answer_from_where_an_endpoint_was_does_not_disable_it_where_it_is() {
    on_each(async |database| {
        let app = App::start(database).await;
        let (old, new) = (Receiver::start().await, Receiver::start().await);
        let (id, _) = endpoint(&app, json!({ "url": old.url() })).await;
        app.session("shop").await;
        old.next([Behaviour::status(410)]);
        let gate = old.hold();
        app.hear("shop", "4911", "x").await;
        let driving = async { app.deliveries.drive().await.unwrap() };
        let meanwhile = async {
            old.arrived(1).await;
            let moved =
                app.patch(&format!("/api/webhooks/{id}"), json!({ "url": new.url() })).await;
            assert_eq!(moved.status, 200);
            gate.notify_one();
        };
        tokio::join!(driving, meanwhile);
        let now = shown(&app, &id).await;
        assert_eq!((&now["state"], &now["gaps"]), (&json!("active"), &json!([])));
        assert_eq!(now["health"]["consecutive_failures"], 0);
        app.hear("shop", "4911", "y").await;
        app.deliveries.drive().await.unwrap();
        assert_eq!(new.requests()[0].json()["data"]["message"]["body"], "y");

        // Where it is, a 410 is heard.
        new.next([Behaviour::status(410)]);
        app.hear("shop", "4911", "z").await;
        app.deliveries.drive().await.unwrap();
        assert_eq!(shown(&app, &id).await["state"], "disabled");
        app.close().await;
    })
    .await;
}

#[tokio::test]
async fn another_url_closes_the_breaker_and_its_first_success_is_told() {
    on_each(async |database| {
        let app = App::start(database).await;
        let (old, new) = (Receiver::start().await, Receiver::start().await);
        let watcher = Receiver::start().await;
        let (id, _) = endpoint(&app, json!({ "url": old.url(), "max_in_flight": 1 })).await;
        endpoint(&app, json!({ "url": watcher.url(), "event_types": ["webhook.*"] })).await;
        app.session("shop").await;
        open_breaker(&app, &old, &id).await;
        // Another setting mends nothing, nor does it that it stays where it is.
        let same = json!({ "description": "x", "url": old.url() });
        app.patch(&format!("/api/webhooks/{id}"), same).await;
        assert_eq!(shown(&app, &id).await["health"]["breaker"], "open");
        app.patch(&format!("/api/webhooks/{id}"), json!({ "url": new.url() })).await;
        assert_eq!(shown(&app, &id).await["health"]["breaker"], "closed");
        app.deliveries.drive().await.unwrap();
        assert_eq!(new.count(), 2, "what was never sent need not wait");
        app.deliveries.drive().await.unwrap();
        assert_eq!(told(&watcher), ["webhook.endpoint.failing", "webhook.endpoint.recovered"]);
        app.close().await;
    })
    .await;
}

#[tokio::test]
async fn who_was_told_that_an_endpoint_fails_is_told_when_it_answers_after_it_was_resumed() {
    on_each(async |database| {
        let app = App::start(database).await;
        let (receiver, watcher) = (Receiver::start().await, Receiver::start().await);
        let (id, _) = endpoint(&app, json!({ "url": receiver.url(), "max_in_flight": 1 })).await;
        endpoint(&app, json!({ "url": watcher.url(), "event_types": ["webhook.*"] })).await;
        app.session("shop").await;
        open_breaker(&app, &receiver, &id).await;
        receiver.usually(Behaviour::status(200));
        app.post(&format!("/api/webhooks/{id}/resume"), json!({})).await;
        // Not because somebody said so.
        assert_eq!(told(&watcher), ["webhook.endpoint.failing"]);
        app.deliveries.drive().await.unwrap();
        app.deliveries.drive().await.unwrap();
        assert_eq!(told(&watcher), ["webhook.endpoint.failing", "webhook.endpoint.recovered"]);
        assert_eq!(app.deliveries.stats().recovered, 1);
        app.close().await;
    })
    .await;
}
