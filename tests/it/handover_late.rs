//! A `ready` that is told late takes over from what was idle then, and from nothing that was at work beside it.

use std::time::Duration;

use serde_json::{Value, json};

use crate::{database::on_each, handover::status, http_app::App};

const NUMBER: &str = "15550001111";

async fn tell(app: &App, id: &str, event: &str, data: Value, at: Option<i64>) {
    let mut body = json!({ "event": event, "data": data });
    if let Some(at) = at {
        body["timestamp"] = json!(at);
    }
    let told = app.post(&format!("/api/whatsapp/webhook/{id}"), body).await;
    assert_eq!(told.status, 200, "{}", told.text());
}

#[tokio::test]
async fn what_has_ended_since_then_does_not_hand_over_whenever_it_is_told() {
    on_each(async |database| {
        let app = App::start(database).await;
        let numbered = || json!({ "phoneNumber": NUMBER });
        for id in ["before", "since", "learnt", "late", "soon"] {
            app.external(id, json!({})).await;
        }
        tell(&app, "before", "ready", numbered(), None).await;
        tell(&app, "before", "disconnected", json!({ "reason": "LOGOUT" }), None).await;
        app.clock.advance(Duration::from_secs(10));
        tell(&app, "since", "ready", numbered(), None).await;
        assert_eq!(status(&app, "before").await["migratedTo"], "since");
        // Beside it, and its number is told when it is connected already.
        tell(&app, "learnt", "ready", json!({}), None).await;
        let then = app.clock.now().0;
        app.clock.advance(Duration::from_mins(5));
        tell(&app, "since", "disconnected", json!({ "reason": "LOGOUT" }), None).await;
        app.clock.advance(Duration::from_secs(10));
        for (id, at) in [("learnt", then - 1), ("late", then)] {
            tell(&app, id, "ready", numbered(), Some(at)).await;
            let seen = status(&app, id).await;
            let seen = (&seen["isConnected"], &seen["phoneNumber"]);
            assert_eq!(seen, (&json!(true), &json!(NUMBER)), "{id}");
            assert_eq!(app.store.handovers().sweep().await.unwrap(), 0);
            assert_eq!(status(&app, "since").await["migratedTo"], Value::Null, "{id}");
        }
        // A clock that is somewhat behind is no reason.
        tell(&app, "soon", "ready", numbered(), Some(app.clock.now().0 - 20_000)).await;
        assert_eq!(status(&app, "since").await["migratedTo"], "soon");
        app.close().await;
    })
    .await;
}
