//! Sending the past again.

use std::time::Duration;

use serde_json::json;

use crate::{database::on_each, http_app::App, receiver::Receiver, webhooks_api::endpoint};

#[tokio::test]
async fn a_range_is_sent_again_as_a_job_that_can_be_watched_and_stopped() {
    on_each(async |database| {
        let app = App::start(database).await;
        let receiver = Receiver::start().await;
        app.session("shop").await;
        app.connect("shop").await;
        // Recorded before there was anybody to be told.
        for n in 0..5 {
            app.hear("shop", "4911", &n.to_string()).await;
        }
        app.clock.advance(Duration::from_secs(10));
        let body = json!({
            "url": receiver.url(), "event_types": ["message.received"], "max_in_flight": 1,
        });
        let (id, _) = endpoint(&app, body).await;
        let path = format!("/api/webhooks/{id}/replay");
        app.post(&path, json!({})).await.invalid(&["/since"]);
        app.post(&path, json!({ "since": "yesterday", "rate_per_second": 0 }))
            .await
            .invalid(&["/since", "/rate_per_second"]);

        let since = json!({ "since": "2027-01-15T00:00:00Z", "rate_per_second": 2 });
        let made = app.post(&path, since.clone()).await;
        assert_eq!(made.status, 202);
        let replay = made.json()["data"]["id"].as_str().unwrap().to_owned();
        let step = async || {
            app.store.webhooks().step_replays().await.unwrap();
            app.deliveries.drive().await.unwrap();
            app.clock.advance(Duration::from_secs(1));
            app.get(&format!("/api/webhooks/replays/{replay}")).await.json()["data"].clone()
        };
        // Two events a second are looked at: the first was no message.
        let mut seen = Vec::new();
        for _ in 0..4 {
            let now = step().await;
            seen.push((now["deliveries"].as_i64().unwrap(), now["state"].clone()));
        }
        assert_eq!(
            seen,
            [
                (1, json!("running")),
                (3, json!("running")),
                (5, json!("running")),
                (5, json!("done"))
            ]
        );
        let sent = receiver.requests();
        assert_eq!(sent.len(), 5);
        let text = |it: &crate::receiver::Request| it.json()["data"]["message"]["body"].clone();
        assert_eq!(sent.iter().map(text).collect::<Vec<_>>(), ["0", "1", "2", "3", "4"]);
        let cancel = format!("/api/webhooks/replays/{replay}/cancel");
        app.post(&cancel, json!({})).await.problem(409, "REPLAY_ENDED");

        // Once more: the same ids, and stopped half-way.
        let again = app.post(&path, since).await.json()["data"]["id"].as_str().unwrap().to_owned();
        app.store.webhooks().step_replays().await.unwrap();
        app.post(&format!("/api/webhooks/replays/{again}/cancel"), json!({})).await;
        app.clock.advance(Duration::from_secs(1));
        app.store.webhooks().step_replays().await.unwrap();
        app.deliveries.drive().await.unwrap();
        let all = receiver.requests();
        assert_eq!(all.len(), 6);
        assert_eq!(all[5].id(), sent[0].id());
        let missing = "/api/webhooks/replays/rpl_01JBXQK7G00000000000000000";
        app.get(missing).await.problem(404, "REPLAY_NOT_FOUND");
        app.close().await;
    })
    .await;
}
