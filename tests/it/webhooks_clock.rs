//! The machine's clock is set while deliveries wait, and while they are under way.

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

/// A daemon that sends by itself; the clock is set while a request is under way, which is then answered with 500. Gives
/// how long the delivery waits for its next try.
async fn with_one_under_way(
    database: &Database,
    set: impl Fn(&App),
    then: impl AsyncFn(&App, i64),
) {
    let app = App::start(database).await;
    let receiver = Receiver::start().await;
    let (id, _) = endpoint(&app, json!({ "url": receiver.url() })).await;
    app.session("shop").await;
    let gate = receiver.hold();
    let stop = CancellationToken::new();
    let running = app.deliveries.clone().run(stop.clone());
    let meanwhile = async {
        app.hear("shop", "4911", "under way").await;
        receiver.arrived(1).await;
        set(&app);
        receiver.release();
        // The clock's being set is known before the answer comes: another round has begun since.
        app.hear("shop", "4912", "meanwhile").await;
        receiver.arrived(2).await;
        while app.store.webhooks().backlog().await.unwrap() != (0, 1) {}
        receiver.next([Behaviour::status(500)]);
        gate.notify_one();
        while app.store.webhooks().backlog().await.unwrap().1 != 0 {}
        let waits =
            "SELECT COALESCE(MAX(next_at), 0) FROM webhook_delivery WHERE state = 'pending'";
        let waits = database.count(waits).await - app.clock.now().0;
        then(&app, waits).await;
        app.clock.advance(Duration::from_millis(6_100));
        receiver.arrived(3).await;
        while app.store.webhooks().backlog().await.unwrap() != (0, 0) {}
        app.deliveries.upkeep().await.unwrap();
        let rows = log(&app, &id).await;
        assert!(rows.iter().all(|row| row["status"] == "succeeded"), "{rows:?}");
        assert_eq!(app.deliveries.stats().exhausted, 0);
        stop.cancel();
    };
    tokio::join!(running, meanwhile);
    app.close().await;
}

#[tokio::test]
async fn a_request_that_is_under_way_while_the_clock_is_set_is_judged_by_the_time_before() {
    let (day, hours) = (Duration::from_hours(24), Duration::from_hours(5));
    let sets: [fn(&App, Duration); 2] =
        [|app, by| app.clock.set_ahead(by), |app, by| app.clock.set_back(by)];
    for (set, by) in sets.into_iter().zip([4 * day, hours]) {
        let by = &by;
        on_each(async |database| {
            let set = |app: &App| set(app, *by);
            with_one_under_way(database, set, async |app, waits| {
                assert!((4_000..=6_000).contains(&waits), "{waits} ms until it is tried again");
                // It has as long left as it had, though it was being sent when the clock was set.
                let ends = "SELECT MIN(expires_at) FROM webhook_delivery WHERE attempts = 1 \
                            AND state = 'pending'";
                let left = database.count(ends).await - app.clock.now().0;
                let three_days = 3 * 24 * 3_600_000;
                assert!(left >= three_days - 1_000, "{left}");
            })
            .await;
        })
        .await;
    }
}
