//! What waits to be sent when its session hands over to one that runs elsewhere: nobody can send it, and that is told.

use std::time::Duration;

use serde_json::{Value, json};

use crate::{
    database::on_each,
    external_receiver::feed,
    handover::{NUMBER, SESSION, migrate, old, status},
    http_app::App,
    receiver::Receiver,
    webhooks_api::endpoint,
};

/// Messages that wait in a session, by their ids.
async fn queue(app: &App, id: &str, count: usize) -> Vec<String> {
    let mut ids = Vec::new();
    for number in 0..count {
        let body = json!({ "to": "15550002222", "text": format!("{number}"), "queue": true });
        let queued = app.post(&format!("{SESSION}/{id}/messages"), body).await;
        let queued = queued.json()["data"].clone();
        assert_eq!(queued["status"], "queued", "{queued}");
        ids.push(queued["id"].as_str().unwrap().to_owned());
    }
    ids
}

async fn message(app: &App, session: &str, id: &str) -> Value {
    app.get(&format!("{SESSION}/{session}/messages/{id}")).await.json()["data"].clone()
}

async fn has_failed(app: &App, session: &str, ids: &[String]) {
    for id in ids {
        let seen = message(app, session, id).await;
        assert_eq!(
            (&seen["status"], &seen["ack"], &seen["error"]),
            (&json!("failed"), &json!(-1), &json!("handed_over")),
            "{seen}"
        );
    }
}

#[tokio::test]
async fn what_waits_has_failed_when_its_session_hands_over_to_one_that_runs_elsewhere() {
    on_each(async |database| {
        let app = App::start(database).await;
        let receiver = Receiver::start().await;
        let chosen =
            json!({ "url": receiver.url(), "event_types": ["message.ack"], "ordering": "strict" });
        endpoint(&app, chosen).await;
        old(&app, "old").await;
        let waiting = queue(&app, "old", 3).await;
        let other = {
            app.session("other").await;
            queue(&app, "other", 1).await
        };
        app.external("vps", json!({})).await;
        app.clock.advance(Duration::from_secs(1));
        app.tell("vps", "ready", json!({ "phoneNumber": NUMBER })).await;
        assert_eq!(status(&app, "old").await["migratedTo"], "vps");
        has_failed(&app, "old", &waiting).await;
        let told: Vec<_> = feed(&app, "old")
            .await
            .into_iter()
            .filter(|(name, _)| name == "message_ack")
            .map(|(_, data)| {
                (data["message"]["messageId"].clone(), data["ack"].clone(), data["error"].clone())
            })
            .collect();
        let expected: Vec<_> =
            waiting.iter().map(|id| (json!(id), json!(-1), json!("handed_over"))).collect();
        assert_eq!(told, expected);
        app.deliveries.drive().await.unwrap();
        assert_eq!(receiver.count(), 3, "endpoints are told");
        // Said again, nothing more; and what is no one's heir's is left.
        app.clock.advance(Duration::from_secs(1));
        app.tell("vps", "ready", json!({ "phoneNumber": NUMBER })).await;
        assert_eq!(
            feed(&app, "old").await.iter().filter(|(name, _)| name == "message_ack").count(),
            3
        );
        assert_eq!(message(&app, "other", &other[0]).await["status"], "queued");
        app.close().await;
    })
    .await;
}

#[tokio::test]
async fn so_it_has_by_hand_and_when_the_daemon_died_over_it_but_not_for_an_heir_that_sends() {
    on_each(async |database| {
        let app = App::start(database).await;
        app.external("vps", json!({})).await;
        app.tell("vps", "ready", json!({ "phoneNumber": NUMBER })).await;
        app.clock.advance(Duration::from_secs(1));
        old(&app, "old").await;
        let waiting = queue(&app, "old", 1).await;
        // One that was about to leave when its daemon died.
        let also = queue(&app, "old", 1).await;
        let sql = format!("UPDATE message SET status = 'sending' WHERE id = '{}'", also[0]);
        database.execute(&sql).await;
        let dry = migrate(&app, "vps", json!({ "dryRun": true })).await;
        assert_eq!(dry.status, 200, "{}", dry.text());
        assert_eq!(message(&app, "old", &waiting[0]).await["status"], "queued");
        migrate(&app, "vps", json!({})).await;
        assert_eq!(status(&app, "old").await["migratedTo"], "vps");
        has_failed(&app, "old", &[waiting, also].concat()).await;

        // The handover was written, and what follows was not.
        for (id, heir) in [("left", "vps"), ("sent", "here")] {
            app.session(id).await;
            if heir == "here" {
                app.session(heir).await;
            }
            let waiting = queue(&app, id, 1).await;
            let sql = format!(
                "UPDATE session SET migrated_to = (SELECT id FROM session WHERE session_id = '{heir}') \
                 WHERE session_id = '{id}'"
            );
            database.execute(&sql).await;
            assert_eq!(app.store.handovers().sweep().await.unwrap(), 0);
            if heir == "vps" {
                has_failed(&app, id, &waiting).await;
            } else {
                assert_eq!(message(&app, id, &waiting[0]).await["status"], "queued");
            }
        }
        app.close().await;
    })
    .await;
}

#[tokio::test]
async fn what_cannot_be_failed_keeps_nobody_behind_it_from_it() {
    on_each(async |database| {
        let app = App::start(database).await;
        app.external("vps", json!({})).await;
        old(&app, "old").await;
        // As many as are looked at together have been told of, and wait all the same; then one that has not.
        let ids = queue(&app, "old", 201).await;
        let last = &ids[200];
        let later = "UPDATE message SET created_at = created_at + 1000, status = 'sent' WHERE id =";
        database.execute(&format!("{later} '{last}'")).await;
        app.clock.advance(Duration::from_secs(1));
        app.tell("vps", "ready", json!({ "phoneNumber": NUMBER })).await;
        has_failed(&app, "old", &ids[..200]).await;
        let before = feed(&app, "old").await.len();
        database.execute("UPDATE message SET status = 'queued', ack = 0, error = NULL").await;

        app.store.handovers().sweep().await.unwrap();
        has_failed(&app, "old", std::slice::from_ref(last)).await;
        assert!(feed(&app, "old").await.len() > before);
        app.close().await;
    })
    .await;
}
