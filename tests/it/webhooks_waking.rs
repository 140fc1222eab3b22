//! What has the daemon look for something to send: a bell for what it recorded itself, the time for all else.

use std::time::Duration;

use serde_json::json;
use tokio_util::sync::CancellationToken;
use wagate::{
    event::Event,
    store::{Patience, events::NewEvent},
};

use crate::{
    database::{Kind, on, on_each},
    http_app::App,
    receiver::{Behaviour, Receiver},
    webhooks_api::endpoint,
};

#[tokio::test]
async fn what_happens_here_is_sent_at_once_and_what_failed_when_its_time_comes() {
    on_each(async |database| {
        let app = App::start(database).await;
        let receiver = Receiver::start().await;
        endpoint(&app, json!({ "url": receiver.url() })).await;
        app.session("shop").await;
        let stop = CancellationToken::new();
        let running = app.deliveries.clone().run(stop.clone());
        let meanwhile = async {
            // Time stands still.
            for n in 1..=3 {
                app.hear("shop", "4911", "x").await;
                receiver.arrived(n).await;
            }
            receiver.next([Behaviour::status(500)]);
            app.hear("shop", "4911", "y").await;
            receiver.arrived(4).await;
            while app.store.webhooks().backlog().await.unwrap() != (1, 0) {}
            app.clock.advance(Duration::from_secs(6));
            receiver.arrived(5).await;
            stop.cancel();
        };
        tokio::join!(running, meanwhile);
        app.close().await;
    })
    .await;
}

#[tokio::test]
async fn what_another_daemon_has_recorded_is_found_within_a_second() {
    on(Kind::Postgres, async |database| {
        let app = App::start(database).await;
        let receiver = Receiver::start().await;
        endpoint(&app, json!({ "url": receiver.url() })).await;
        app.session("shop").await;
        let other = database.open().await;
        let stop = CancellationToken::new();
        let running = app.deliveries.clone().run(stop.clone());
        let meanwhile = async {
            app.hear("shop", "4911", "here").await;
            receiver.arrived(1).await;
            while app.store.webhooks().backlog().await.unwrap() != (0, 0) {}
            let message = Event::Message(Box::new(app.message("4911", "elsewhere")));
            let new = NewEvent {
                organization_id: app.organization.clone(),
                session_key: app.row("shop").await.id,
                generation: None,
                event: message,
                at: app.clock.now(),
                care: None,
                posted: None,
            };
            other.store.writer().record(new, Patience::Fail).await.unwrap();
            app.clock.advance(Duration::from_secs(1));
            receiver.arrived(2).await;
            stop.cancel();
        };
        tokio::join!(running, meanwhile);
        other.close().await;
        app.close().await;
    })
    .await;
}
