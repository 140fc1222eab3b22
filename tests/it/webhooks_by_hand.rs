//! Sending something again by hand: at once, as far as that can be.

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};

use crate::{
    database::on_each,
    http_app::{Answer, App},
    receiver::{Behaviour, Receiver},
    webhooks_api::{endpoint, log},
};

/// As clients do that say of every request that it is JSON.
async fn post_nothing(app: &App, path: &str) -> Answer {
    let request = app.request(Method::POST, path).header("content-type", "application/json");
    Answer::to(request).await
}

#[tokio::test]
async fn what_needs_no_body_takes_an_empty_one_that_says_it_is_json() {
    on_each(async |database| {
        let app = App::start(database).await;
        let receiver = Receiver::start().await;
        let (id, _) = endpoint(&app, json!({ "url": receiver.url() })).await;
        app.session("shop").await;
        app.hear("shop", "4911", "x").await;
        app.deliveries.drive().await.unwrap();
        let path = format!("/api/webhooks/{id}");
        for verb in ["pause", "resume", "test", "secret/rotate"] {
            let answer = post_nothing(&app, &format!("{path}/{verb}")).await;
            assert_eq!(answer.status, 200, "{verb}: {}", answer.text());
        }
        let delivery = log(&app, &id).await[0]["id"].as_str().unwrap().to_owned();
        let retry = format!("/api/webhooks/events/{delivery}/retry");
        assert_eq!(post_nothing(&app, &retry).await.status, 202);
        let replay = app.post(&format!("{path}/replay"), json!({ "after_sequence": 0 })).await;
        let replay = replay.json()["data"]["id"].as_str().unwrap().to_owned();
        let cancel = format!("/api/webhooks/replays/{replay}/cancel");
        assert_eq!(post_nothing(&app, &cancel).await.status, 200);
        for path in ["session/shop/qr/url", "session/shop/logout"] {
            let answer = post_nothing(&app, &format!("/api/whatsapp/{path}")).await;
            assert!(answer.status.is_success(), "{path}: {} {}", answer.status, answer.text());
        }
        // What is there must be JSON all the same, and whoever needs members asks for them.
        let half = app.request(Method::POST, &retry).header("content-type", "application/json");
        Answer::to(half.body("{")).await.problem(400, "MALFORMED_JSON");
        post_nothing(&app, "/api/webhooks").await.problem(400, "MALFORMED_JSON");
        app.close().await;
    })
    .await;
}

#[tokio::test]
async fn one_that_is_sent_again_by_hand_goes_before_retries_that_are_due() {
    on_each(async |database| {
        let app = App::start(database).await;
        let receiver = Receiver::start().await;
        let (id, _) = endpoint(&app, json!({ "url": receiver.url(), "max_in_flight": 1 })).await;
        app.session("shop").await;
        receiver.usually(Behaviour::status(500));
        for n in 0..3 {
            app.hear("shop", "4911", &n.to_string()).await;
        }
        app.deliveries.drive().await.unwrap();
        assert_eq!(receiver.count(), 3);
        app.clock.advance(Duration::from_mins(1));
        receiver.usually(Behaviour::status(200));
        let last = receiver.requests()[2].id().to_owned();
        let rows = log(&app, &id).await;
        let row = rows.iter().find(|row| row["event_id"] == last.as_str()).unwrap();
        let retry = format!("/api/webhooks/events/{}/retry", row["id"].as_str().unwrap());
        assert_eq!(app.post(&retry, json!({})).await.status, 202);
        app.deliveries.drive().await.unwrap();
        assert_eq!(receiver.requests()[3].id(), last);
        assert_eq!(receiver.count(), 6);
        app.close().await;
    })
    .await;
}

#[tokio::test]
async fn one_that_is_sent_again_by_hand_is_the_probe_of_an_open_breaker() {
    on_each(async |database| {
        let app = App::start(database).await;
        let receiver = Receiver::start().await;
        let (id, _) = endpoint(&app, json!({ "url": receiver.url(), "max_in_flight": 1 })).await;
        app.session("shop").await;
        receiver.usually(Behaviour::status(500));
        for n in 0..15 {
            app.hear("shop", "4911", &n.to_string()).await;
        }
        app.deliveries.drive().await.unwrap();
        assert_eq!(receiver.count(), 10, "then the breaker opens");
        let rows = log(&app, &id).await;
        let tried = rows.iter().find(|row| row["attempts"] == 1).unwrap();
        let retry = format!("/api/webhooks/events/{}/retry", tried["id"].as_str().unwrap());

        // It fails: the breaker is open again, and nothing else was burnt.
        let answer = app.post(&retry, json!({})).await;
        assert_eq!(answer.status, 202);
        assert_eq!(answer.json()["data"]["held_until"], Value::Null);
        app.deliveries.drive().await.unwrap();
        assert_eq!(receiver.count(), 11);
        assert_eq!(receiver.requests()[10].id(), tried["event_id"].as_str().unwrap());

        // It succeeds: all that was never sent follows.
        receiver.usually(Behaviour::status(200));
        assert_eq!(app.post(&retry, json!({})).await.status, 202);
        app.deliveries.drive().await.unwrap();
        let requests = receiver.requests();
        assert_eq!(requests[11].id(), tried["event_id"].as_str().unwrap());
        assert_eq!(requests.len(), 17);
        let shown = app.get(&format!("/api/webhooks/{id}")).await.json();
        assert_eq!(shown["data"]["health"]["breaker"], "closed");
        app.close().await;
    })
    .await;
}

#[tokio::test]
async fn a_receiver_that_asked_to_be_left_alone_is_and_the_answer_says_until_when() {
    on_each(async |database| {
        let app = App::start(database).await;
        let receiver = Receiver::start().await;
        let (id, _) = endpoint(&app, json!({ "url": receiver.url() })).await;
        app.session("shop").await;
        let asks = vec![("retry-after", "120".to_owned())];
        receiver.next([Behaviour::Answer(503, asks, Vec::new())]);
        app.hear("shop", "4911", "x").await;
        app.deliveries.drive().await.unwrap();
        let delivery = log(&app, &id).await[0]["id"].as_str().unwrap().to_owned();
        let answer = app.post(&format!("/api/webhooks/events/{delivery}/retry"), json!({})).await;
        assert_eq!(answer.json()["data"]["held_until"], "2027-01-15T08:02:00.000Z");
        app.deliveries.drive().await.unwrap();
        assert_eq!(receiver.count(), 1);
        app.clock.advance(Duration::from_mins(2));
        app.deliveries.drive().await.unwrap();
        assert_eq!(receiver.count(), 2);
        app.close().await;
    })
    .await;
}
