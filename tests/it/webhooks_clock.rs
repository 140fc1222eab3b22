//! The machine's clock is set while deliveries wait.

use std::time::Duration;

use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::{
    database::{Database, on_each},
    http_app::App,
    receiver::{Behaviour, Receiver},
    webhooks_api::{endpoint, log},
};

/// A daemon that sends by itself; one delivery has failed and waits. Then the clock is set, and two others go out.
async fn with_one_that_waits(
    database: &Database,
    set: impl Fn(&App),
    then: impl AsyncFn(&App, &Receiver, &str),
) {
    let app = App::start(database).await;
    let receiver = Receiver::start().await;
    let (id, _) = endpoint(&app, json!({ "url": receiver.url() })).await;
    app.session("shop").await;
    receiver.next([Behaviour::status(500)]);
    let stop = CancellationToken::new();
    let running = app.deliveries.clone().run(stop.clone());
    let meanwhile = async {
        app.hear("shop", "4911", "waits").await;
        receiver.arrived(1).await;
        while app.store.webhooks().backlog().await.unwrap() != (1, 0) {}
        set(&app);
        // The second is taken in a round that has begun since.
        for count in 2..=3 {
            app.hear("shop", "4911", "meanwhile").await;
            receiver.arrived(count).await;
        }
        then(&app, &receiver, &id).await;
        stop.cancel();
    };
    tokio::join!(running, meanwhile);
    app.close().await;
}

#[tokio::test]
async fn a_clock_that_is_set_back_by_hours_keeps_no_retry_waiting_for_them() {
    on_each(async |database| {
        let set = |app: &App| app.clock.set_back(Duration::from_hours(5));
        with_one_that_waits(database, set, async |app, receiver, id| {
            // As long as it was to wait, from now on.
            app.clock.advance(Duration::from_millis(6_100));
            receiver.arrived(4).await;
            while app.store.webhooks().backlog().await.unwrap() != (0, 0) {}
            let rows = log(app, id).await;
            assert!(rows.iter().all(|row| row["status"] == "succeeded"), "{rows:?}");
        })
        .await;
    })
    .await;
}

#[tokio::test]
async fn a_clock_that_is_set_days_ahead_has_nothing_given_up() {
    on_each(async |database| {
        let ahead = Duration::from_hours(4 * 24);
        let set = |app: &App| app.clock.set_ahead(ahead);
        with_one_that_waits(database, set, async |app, receiver, id| {
            // Another daemon notices the same: nothing is kept for longer than three days for that.
            app.store.webhooks().clock_went_ahead(ahead).await.unwrap();
            let latest = database.count("SELECT MAX(expires_at) FROM webhook_delivery").await;
            let longest = app.clock.now() + Duration::from_hours(3 * 24);
            assert!(latest <= longest.0, "{latest} {longest:?}");
            receiver.arrived(4).await;
            while app.store.webhooks().backlog().await.unwrap() != (0, 0) {}
            // Nor when all that is too old is looked for.
            app.deliveries.upkeep().await.unwrap();
            let rows = log(app, id).await;
            assert!(rows.iter().all(|row| row["status"] == "succeeded"), "{rows:?}");
            assert_eq!(app.deliveries.stats().exhausted, 0);
        })
        .await;
    })
    .await;
}
