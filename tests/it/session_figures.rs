//! What one session does, of which `/metrics` says nothing.

use std::time::Duration;

use reqwest::StatusCode;
use serde_json::json;

use crate::{database::on_each, http_app::App};

#[tokio::test]
async fn a_session_s_figures_are_of_its_own_messages_of_the_last_day() {
    on_each(async |database| {
        let app = App::start(database).await;
        for id in ["shop", "other"] {
            app.session(id).await;
        }
        app.connect("shop").await;
        let figures = async || {
            let shown = app.get("/api/whatsapp/session/shop/figures").await;
            assert_eq!(shown.status, StatusCode::OK, "{}", shown.text());
            shown.json()["data"].clone()
        };
        let none = figures().await;
        assert_eq!(none["sessionId"], "shop");
        assert_eq!((&none["received"], &none["sent"]), (&json!(0), &json!(0)));

        app.hear("shop", "6281111111111", "yesterday morning").await;
        app.clock.advance(Duration::from_hours(25));
        for n in 0..3 {
            app.hear("shop", "6281111111111", &format!("number {n}")).await;
        }
        app.hear("other", "6281111111111", "to somebody else").await;
        // Nobody runs it: it waits.
        let queued = json!({ "to": "6281111111111", "text": "an answer to wait", "queue": true });
        let sent = app.post("/api/whatsapp/session/shop/messages", queued).await;
        assert!(sent.status.is_success(), "{}", sent.text());
        let seen = figures().await;
        let counts = [&seen["received"], &seen["waiting"], &seen["sent"]];
        assert_eq!(counts, [&json!(3), &json!(1), &json!(0)]);
        assert_eq!(seen["isWhole"], true);

        for (status, ack) in [("sent", 2), ("sent", 3), ("sent", 0), ("failed", 0)] {
            let written = app.message("6281111111111", "written by us");
            let id = written.id.to_string();
            app.happen("shop", wagate::event::Event::Message(Box::new(written))).await;
            database
                .execute(&format!(
                    "UPDATE message SET direction = 'outbound', status = '{status}', ack = {ack} \
                     WHERE id = '{id}'"
                ))
                .await;
        }
        let seen = figures().await;
        assert_eq!((&seen["sent"], &seen["failed"]), (&json!(3), &json!(1)), "{seen}");
        assert_eq!(seen["acks"], json!({ "server": 1, "delivered": 1, "read": 1, "played": 0 }));

        let stranger = app.stranger(database).await;
        let path = "/api/whatsapp/session/shop/figures";
        let asked = app.anonymous(reqwest::Method::GET, path).bearer_auth(&stranger);
        crate::http_app::Answer::to(asked).await.problem(404, "SESSION_NOT_FOUND");
        app.close().await;
    })
    .await;
}
