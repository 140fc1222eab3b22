//! Deliveries in the order, and at the pace, that their endpoint asked for.

use std::time::Duration;

use serde_json::{Value, json};

use crate::{
    database::on_each,
    http_app::App,
    receiver::{Behaviour, Receiver},
    webhooks_api::endpoint,
};

/// Answers some with 500, so that order has something to survive.
async fn tell_in_order(app: &App, receiver: &Receiver, ordering: &str) {
    let body = json!({ "url": receiver.url(), "ordering": ordering, "max_in_flight": 8 });
    endpoint(app, body).await;
    app.session("shop").await;
    receiver.next([500, 200, 500, 500].map(Behaviour::status));
    for n in 0..12 {
        app.hear("shop", &format!("4911{}", n % 3), &n.to_string()).await;
    }
    for _ in 0..40 {
        app.deliveries.drive().await.unwrap();
        app.clock.advance(Duration::from_mins(1));
    }
}

#[tokio::test]
async fn strict_order_is_the_order_of_events_whatever_fails() {
    on_each(async |database| {
        let app = App::start(database).await;
        let receiver = Receiver::start().await;
        tell_in_order(&app, &receiver, "strict").await;
        let requests = receiver.requests();
        let sequences: Vec<_> = requests.iter().map(crate::receiver::Request::sequence).collect();
        assert!(sequences.is_sorted(), "{sequences:?}");
        assert_eq!(requests.len(), 12 + 3);
        app.close().await;
    })
    .await;
}

#[tokio::test]
async fn within_a_conversation_order_holds_and_others_go_on() {
    on_each(async |database| {
        let app = App::start(database).await;
        let receiver = Receiver::start().await;
        tell_in_order(&app, &receiver, "by_conversation").await;
        let requests = receiver.requests();
        assert_eq!(requests.len(), 12 + 3);
        let chat = |body: &Value| body["data"]["message"]["chat"].as_str().unwrap().to_owned();
        for n in 0..3 {
            let of: Vec<_> = requests
                .iter()
                .filter(|it| chat(&it.json()) == format!("4911{n}@c.us"))
                .map(crate::receiver::Request::sequence)
                .collect();
            assert!(of.is_sorted() && of.len() >= 4, "{of:?}");
        }
        let sequences: Vec<_> = requests.iter().map(crate::receiver::Request::sequence).collect();
        assert!(!sequences.is_sorted(), "nobody waited for another conversation");
        app.close().await;
    })
    .await;
}

#[tokio::test]
async fn an_endpoint_gets_no_more_at_a_time_than_it_may_have() {
    on_each(async |database| {
        let app = App::start(database).await;
        let receiver = Receiver::start().await;
        endpoint(&app, json!({ "url": receiver.url(), "max_in_flight": 3 })).await;
        app.session("shop").await;
        for n in 0..10 {
            app.hear("shop", "4911", &n.to_string()).await;
        }
        let gate = receiver.hold();
        let driving = async { app.deliveries.drive().await.unwrap() };
        let letting = async {
            for n in 0..10_usize {
                receiver.arrived((3 + n).min(10)).await;
                assert_eq!(receiver.requests().len(), (3 + n).min(10));
                assert!(app.deliveries.stats().in_flight <= 3);
                gate.notify_one();
            }
        };
        tokio::join!(driving, letting);
        assert_eq!(app.deliveries.stats().attempts["success"], 10);
        app.close().await;
    })
    .await;
}

#[tokio::test]
async fn a_rate_is_kept() {
    on_each(async |database| {
        let app = App::start(database).await;
        let receiver = Receiver::start().await;
        let body = json!({ "url": receiver.url(), "rate_per_second": 2, "max_in_flight": 50 });
        endpoint(&app, body).await;
        app.session("shop").await;
        for n in 0..7 {
            app.hear("shop", "4911", &n.to_string()).await;
        }
        for count in [2, 4, 6, 7] {
            app.deliveries.drive().await.unwrap();
            assert_eq!(receiver.requests().len(), count);
            app.clock.advance(Duration::from_secs(1));
        }
        app.close().await;
    })
    .await;
}

#[tokio::test]
async fn what_waits_for_its_next_try_waits_although_another_is_due() {
    on_each(async |database| {
        let app = App::start(database).await;
        let receiver = Receiver::start().await;
        endpoint(&app, json!({ "url": receiver.url() })).await;
        app.session("shop").await;
        receiver.next([500, 200].map(Behaviour::status));
        app.hear("shop", "4911", "first").await;
        app.deliveries.drive().await.unwrap();
        app.hear("shop", "4912", "second").await;
        app.deliveries.drive().await.unwrap();
        let ids = |requests: Vec<crate::receiver::Request>| -> Vec<_> {
            requests.iter().map(|it| it.id().to_owned()).collect()
        };
        let so_far = ids(receiver.requests());
        assert_eq!(so_far.len(), 2, "the first one's time has not come");
        assert_ne!(so_far[0], so_far[1]);

        app.clock.advance(Duration::from_mins(1));
        app.deliveries.drive().await.unwrap();
        assert_eq!(ids(receiver.requests())[2..], so_far[..1]);
        app.close().await;
    })
    .await;
}
