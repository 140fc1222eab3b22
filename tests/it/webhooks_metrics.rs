//! What an operator sees of deliveries.

use std::time::Duration;

use serde_json::json;

use crate::{
    database::on_each,
    http_app::App,
    http_metrics::Figures,
    receiver::{Behaviour, Receiver},
    webhooks_api::endpoint,
};

#[tokio::test]
async fn what_waits_what_fails_and_what_is_given_up_are_figures() {
    on_each(async |database| {
        let app = App::start(database).await;
        let receiver = Receiver::start().await;
        let body = json!({ "url": receiver.url(), "max_in_flight": 1, "max_retries": 1 });
        let (id, _) = endpoint(&app, body).await;
        app.session("shop").await;
        let figures = async |wanted: &[(&str, &str)]| {
            let figures = Figures::of(&app).await;
            for (series, value) in wanted {
                assert_eq!(figures.get(series), *value, "{series}");
            }
        };
        figures(&[
            ("wagate_webhook_oldest_due_seconds", "0"),
            ("wagate_webhook_backlog{state=\"pending\"}", "0"),
            ("wagate_webhook_endpoints{state=\"active\"}", "1"),
        ])
        .await;

        // Nobody sends anything, and it grows older.
        for n in 0..10 {
            app.hear("shop", "4911", &n.to_string()).await;
        }
        app.clock.advance(Duration::from_secs(90));
        figures(&[
            ("wagate_webhook_oldest_due_seconds", "90"),
            ("wagate_webhook_backlog{state=\"pending\"}", "10"),
        ])
        .await;

        // Ten failures open the breaker; what is put off is not due.
        receiver.usually(Behaviour::status(500));
        app.deliveries.drive().await.unwrap();
        figures(&[
            ("wagate_webhook_attempts_total{result=\"http_status\"}", "10"),
            ("wagate_webhook_oldest_due_seconds", "0"),
            ("wagate_webhook_failing_total", "1"),
            ("wagate_webhook_endpoints_failing", "1"),
            ("wagate_webhook_exhausted_total", "0"),
        ])
        .await;
        app.clock.advance(Duration::from_secs(40));
        app.deliveries.drive().await.unwrap();
        figures(&[("wagate_webhook_exhausted_total", "1")]).await;

        receiver.usually(Behaviour::status(200));
        app.clock.advance(Duration::from_mins(30));
        app.deliveries.drive().await.unwrap();
        figures(&[
            ("wagate_webhook_attempts_total{result=\"success\"}", "9"),
            ("wagate_webhook_recovered_total", "1"),
            ("wagate_webhook_endpoints_failing", "0"),
            ("wagate_webhook_backlog{state=\"pending\"}", "0"),
        ])
        .await;

        receiver.usually(Behaviour::status(410));
        app.hear("shop", "4911", "x").await;
        app.deliveries.drive().await.unwrap();
        figures(&[
            ("wagate_webhook_disabled_total", "1"),
            ("wagate_webhook_endpoints{state=\"disabled\"}", "1"),
            ("wagate_webhook_exhausted_total", "2"),
        ])
        .await;
        app.post(&format!("/api/webhooks/{id}/resume"), json!({})).await;
        app.post(&format!("/api/webhooks/{id}/pause"), json!({})).await;
        figures(&[("wagate_webhook_endpoints{state=\"paused\"}", "1")]).await;
        app.close().await;
    })
    .await;
}
