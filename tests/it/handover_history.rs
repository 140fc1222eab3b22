//! What a session that has taken over shows of those before it, and how many sessions there are then.

use reqwest::StatusCode;
use serde_json::json;
use wagate::event::NewMessage;

use crate::{
    database::on_each,
    handover::{SESSION, hear, history, logged_out, old, ready, status},
    http_app::App,
};

#[tokio::test]
async fn the_history_of_all_is_read_through_the_new_session_each_message_once_and_in_order() {
    on_each(async |database| {
        let app = App::start(database).await;
        let mut texts = Vec::new();
        let mut shared = None;
        for id in ["a", "b", "c"] {
            app.session(id).await;
            ready(&app, id).await;
            // Those before have handed over to it, and what they had is part of what it has.
            for n in 0..3 {
                app.clock.advance(std::time::Duration::from_millis(1));
                let text = format!("{id}{n}");
                let message = app.message("15550002222", &text);
                hear(&app, id, &message).await;
                texts.push(text);
                shared.get_or_insert(message);
            }
            // The phone hands over what another session has had.
            let before = shared.clone().unwrap();
            hear(&app, id, &NewMessage { id: app.message("1", "").id, ..before }).await;
            logged_out(&app, id).await;
        }
        texts.reverse();
        assert_eq!(history(&app, "c").await, texts);
        assert_eq!(app.row("a").await.migrated_to, Some(app.row("c").await.id));
        assert_eq!(status(&app, "c").await["migratedFrom"], json!(["b", "a"]));

        // By its id through either; the old session has still what it had.
        let first = shared.unwrap().id;
        for id in ["a", "c"] {
            let seen = app.get(&format!("{SESSION}/{id}/messages/{first}")).await.json();
            assert_eq!(
                (&seen["data"]["body"], &seen["data"]["sessionId"]),
                (&json!("a0"), &json!(id))
            );
        }
        app.get(&format!("{SESSION}/b/messages/{first}")).await.problem(404, "MESSAGE_NOT_FOUND");
        let filtered = app
            .get(&format!("{SESSION}/c/messages?chat=15550002222&direction=inbound"))
            .await
            .json();
        assert_eq!(filtered["data"].as_array().unwrap().len(), texts.len());
        app.close().await;
    })
    .await;
}

#[tokio::test]
async fn old_sessions_are_none_that_an_organization_may_not_have_more_of() {
    on_each(async |database| {
        let app = App::start(database).await;
        let path = format!("/api/organizations/{}", app.organization);
        app.patch(&path, json!({ "maxSessions": 2 })).await;
        old(&app, "old").await;
        app.session("new").await;
        let third = json!({ "sessionId": "third", "start": false });
        app.post(SESSION, third.clone()).await.problem(409, "TOO_MANY_SESSIONS");
        ready(&app, "new").await;
        assert_eq!(app.post(SESSION, third).await.status, StatusCode::CREATED);
        app.close().await;
    })
    .await;
}
