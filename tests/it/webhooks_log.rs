//! The log of what an endpoint was told: by page, by status, by type.

use std::time::Duration;

use entity::{UnixMillis, id::AttemptId};
use serde_json::{Value, json};

use crate::{
    database::on_each,
    http_app::App,
    receiver::{Behaviour, Receiver},
    webhooks_api::endpoint,
};

/// What the log has under these filters, read two at a time.
async fn walk(app: &App, endpoint: &str, filters: &str) -> Vec<Value> {
    walk_list(app, &format!("/api/webhooks/{endpoint}/events"), 2, filters).await
}

async fn walk_list(app: &App, list: &str, limit: usize, filters: &str) -> Vec<Value> {
    let (mut rows, mut place) = (Vec::new(), String::new());
    loop {
        let path = format!("{list}?limit={limit}{filters}{place}");
        let page = app.get(&path).await.json();
        let data = page["data"].as_array().unwrap();
        assert!(data.len() <= limit);
        rows.extend(data.iter().cloned());
        match page["next_cursor"].as_str() {
            Some(cursor) => place = format!("&cursor={cursor}"),
            None => return rows,
        }
    }
}

#[tokio::test]
async fn the_log_is_read_by_pages_newest_first_under_its_filters() {
    on_each(async |database| {
        let app = App::start(database).await;
        let receiver = Receiver::start().await;
        let body = json!({
            "url": receiver.url(), "max_in_flight": 1, "max_retries": 0,
            "event_types": ["message.received", "session.ready"],
        });
        let (id, _) = endpoint(&app, body).await;
        app.session("shop").await;
        // Every other one is refused.
        receiver.next([200, 500, 200, 500, 200, 500].map(Behaviour::status));
        for n in 0..5 {
            app.hear("shop", "4911", &n.to_string()).await;
            app.deliveries.drive().await.unwrap();
            app.clock.advance(Duration::from_secs(1));
        }
        app.connect("shop").await;
        app.deliveries.drive().await.unwrap();
        // Nobody was told of this one yet.
        app.hear("shop", "4911", "5").await;

        let all = walk(&app, &id, "").await;
        let told = |row: &Value| {
            (
                row["status"].as_str().unwrap().to_owned(),
                row["event_type"].as_str().unwrap().to_owned(),
            )
        };
        let row = |status: &str, event_type: &str| (status.to_owned(), event_type.to_owned());
        assert_eq!(
            all.iter().map(told).collect::<Vec<_>>(),
            [
                row("pending", "message.received"),
                row("exhausted", "session.ready"),
                row("succeeded", "message.received"),
                row("exhausted", "message.received"),
                row("succeeded", "message.received"),
                row("exhausted", "message.received"),
                row("succeeded", "message.received"),
            ]
        );
        for (filters, wanted) in [
            ("&status=succeeded", vec![2, 4, 6]),
            ("&status=exhausted", vec![1, 3, 5]),
            ("&status=pending", vec![0]),
            ("&type=session.ready", vec![1]),
            ("&type=message.received&status=exhausted", vec![3, 5]),
            ("&type=session.qr", vec![]),
        ] {
            let wanted: Vec<_> =
                wanted.into_iter().map(|place: usize| all[place].clone()).collect();
            assert_eq!(walk(&app, &id, filters).await, wanted, "{filters}");
        }
        let path = format!("/api/webhooks/{id}/events");
        for (bad, pointer) in [
            ("status=lost", "/status"),
            ("type=nothing", "/type"),
            ("cursor=evt_1", "/cursor"),
            ("limit=0", "/limit"),
            ("limit=many", "/limit"),
        ] {
            app.get(&format!("{path}?{bad}")).await.invalid(&[pointer]);
        }
        app.close().await;
    })
    .await;
}

#[tokio::test]
async fn past_two_hundred_tries_the_latest_are_shown_and_all_can_be_read() {
    on_each(async |database| {
        let app = App::start(database).await;
        let receiver = Receiver::start().await;
        let (endpoint_id, _) = endpoint(&app, json!({ "url": receiver.url() })).await;
        app.session("shop").await;
        app.hear("shop", "4911", "hello").await;
        receiver.next([500, 200].map(Behaviour::status));
        app.deliveries.drive().await.unwrap();
        let id = walk(&app, &endpoint_id, "").await[0]["id"].as_str().unwrap().to_owned();
        let path = format!("/api/webhooks/events/{id}");
        let shown = async || app.get(&path).await.json()["data"].clone();
        let seen = shown().await;
        assert_eq!(seen["attempt_log"].as_array().unwrap().len(), 1);
        assert_eq!(seen["has_older_attempts"], false);
        let first = seen["attempt_log"][0].clone();

        // As many as a receiver that never answers well is called with, in the course of time.
        let began = app.clock.now().0;
        for number in 2..=200_i32 {
            let at = UnixMillis(began + i64::from(number));
            let attempt = AttemptId::new(at, 0);
            let row = format!(
                "INSERT INTO webhook_attempt (id, delivery_id, endpoint_id, number, started_at, \
                 duration_ms, status, error) VALUES ('{attempt}', '{id}', '{endpoint_id}', {number}, {}, 1, \
                 500, 'server_error')",
                at.0
            );
            database.execute(&row).await;
        }
        let seen = shown().await;
        assert_eq!(seen["attempt_log"].as_array().unwrap().len(), 200);
        assert_eq!((&seen["attempt_log"][0], &seen["has_older_attempts"]), (&first, &json!(false)));

        app.clock.advance(Duration::from_hours(1));
        app.deliveries.drive().await.unwrap();
        let seen = shown().await;
        let log = seen["attempt_log"].as_array().unwrap();
        assert_eq!((log.len(), &seen["has_older_attempts"]), (200, &json!(true)));
        assert_eq!((&log[0]["number"], &log[199]["status"]), (&json!(2), &json!(200)));

        // The list has all of them, the newest first.
        let attempts = format!("{path}/attempts");
        let mut all = walk_list(&app, &attempts, 50, "").await;
        assert_eq!(all.len(), 201);
        let failed = walk_list(&app, &attempts, 50, "&failed=true").await;
        assert_eq!(failed, all[1..]);
        let good = walk_list(&app, &attempts, 50, "&failed=false").await;
        assert_eq!(good, all[..1]);
        all.reverse();
        assert_eq!((&all[0], &all[1..]), (&first, log.as_slice()));
        let strange = format!("/api/webhooks/events/{}/attempts", "dlv_00000000000000000000000000");
        app.get(&strange).await.problem(404, "DELIVERY_NOT_FOUND");
        app.close().await;
    })
    .await;
}
