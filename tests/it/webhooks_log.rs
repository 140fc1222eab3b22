//! The log of what an endpoint was told: by page, by status, by type.

use std::time::Duration;

use serde_json::{Value, json};

use crate::{
    database::on_each,
    http_app::App,
    receiver::{Behaviour, Receiver},
    webhooks_api::endpoint,
};

/// What the log has under these filters, read two at a time.
async fn walk(app: &App, endpoint: &str, filters: &str) -> Vec<Value> {
    let (mut rows, mut place) = (Vec::new(), String::new());
    loop {
        let path = format!("/api/webhooks/{endpoint}/events?limit=2{filters}{place}");
        let page = app.get(&path).await.json();
        let data = page["data"].as_array().unwrap();
        assert!(data.len() <= 2);
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
