//! What clients elsewhere tell of one second: in whole seconds, exactly, or without a word of when.

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};

use crate::{
    database::on_each,
    external_receiver::status,
    http_app::{Answer, App, STATUS_KEY, json as with_json},
};

/// A gateway in the middle of a second, with a session, and that second.
async fn within(database: &crate::database::Database) -> (App, i64) {
    let app = App::start(database).await;
    app.external("shop", json!({ "sessionData": { "vps_session_id": "wa_shop" } })).await;
    let second = app.clock.now().as_secs();
    app.clock.advance(Duration::from_millis(700));
    (app, second)
}

async fn report(app: &App, word: &str, at: Value) -> Value {
    let body = json!({ "sessionId": "wa_shop", "status": word, "timestamp": at });
    let request = app.anonymous(Method::POST, "/api/whatsapp/status-webhook");
    let answer = Answer::to(with_json(request, &body).header("webhook-secret-key", STATUS_KEY));
    answer.await.json()["data"].clone()
}

async fn post(app: &App, event: &str, data: Value, at: Value) -> Value {
    let body = json!({ "event": event, "data": data, "timestamp": at });
    app.post("/api/whatsapp/webhook/shop", body).await.json()["data"].clone()
}

#[tokio::test]
async fn what_is_timed_in_whole_seconds_is_not_older_than_what_came_in_that_second() {
    on_each(async |database| {
        let (app, second) = within(database).await;
        // Without a word of when: at 700 ms.
        app.tell("shop", "ready", json!({})).await;
        let told = report(&app, "disconnected", json!(second)).await;
        assert_eq!((&told["outdated"], &told["recorded"]), (&json!(false), &json!(true)), "{told}");
        assert_eq!(told["status"], "session_not_connected");
        // Exactly: at 800 ms.
        app.clock.advance(Duration::from_millis(200));
        let exact =
            post(&app, "change_state", json!({ "state": "CONNECTED" }), json!(second * 1000 + 800));
        assert_eq!(exact.await["status"], "session_connected");
        let told = report(&app, "disconnected", json!("2027-01-15T08:00:00Z")).await;
        assert_eq!(
            (&told["outdated"], &told["status"]),
            (&json!(false), &json!("session_not_connected"))
        );
        let told = report(&app, "connected", json!(second)).await;
        assert_eq!(
            (&told["outdated"], &told["status"]),
            (&json!(false), &json!("session_connected"))
        );
        // Time does not go back with it.
        let row = app.row("shop").await;
        assert_eq!(row.connected_at.unwrap().0, second * 1000 + 800);
        assert_eq!(row.observed_at, row.connected_at);
        // What is exact is older if it is, and so is another second.
        for (at, text) in [
            (json!(second * 1000 + 300), "exactly before"),
            (json!(second * 1000), "exactly at its beginning"),
            (json!("2027-01-15T08:00:00.000Z"), "the same, as text"),
            (json!(second - 1), "the second before"),
        ] {
            let old = report(&app, "disconnected", at).await;
            assert_eq!(
                (&old["outdated"], &old["status"]),
                (&json!(true), &json!("session_connected")),
                "{text}"
            );
        }
        app.close().await;
    })
    .await;
}

#[tokio::test]
async fn the_same_twice_within_a_second_is_a_repetition_unless_something_else_was_between() {
    on_each(async |database| {
        let (app, second) = within(database).await;
        let down = async || {
            let told = post(&app, "disconnected", json!({ "reason": "x" }), json!(second)).await;
            (told["recorded"] == true, told["duplicate"] == true, told["status"].clone())
        };
        let up = async || report(&app, "connected", json!(second)).await["recorded"] == true;
        let (no, yes) = (false, true);
        let ended = json!("session_not_connected");
        assert_eq!(down().await, (yes, no, ended.clone()));
        assert_eq!(down().await, (no, yes, ended.clone()), "sent again");
        assert!(up().await);
        assert_eq!(down().await, (yes, no, ended.clone()), "it was connected in between");
        assert_eq!(down().await, (no, yes, ended.clone()), "sent again");
        assert!(up().await);
        assert!(!up().await, "sent again");
        // Once the second is over it is old news, and known.
        app.clock.advance(Duration::from_secs(2));
        app.tell("shop", "change_state", json!({ "state": "OPENING" })).await;
        assert_eq!(down().await, (no, yes, json!("connecting")));
        app.close().await;
    })
    .await;
}

/// A client that was not answered sends again what it has told, and that comes after what it has told since.
#[tokio::test]
async fn within_a_second_the_last_to_come_counts_unless_it_came_before_and_more_than_a_second_ago()
{
    on_each(async |database| {
        for (later, again) in [(1000, true), (1001, false)] {
            let name = format!("{later} ms later");
            let app = App::start(database).await;
            let second = app.clock.now().as_secs();
            let id = format!("shop-{later}");
            let vps = format!("wa_{later}");
            app.external(&id, json!({ "sessionData": { "vps_session_id": vps } })).await;
            let report = async |word: &str| {
                let body = json!({ "sessionId": vps, "status": word, "timestamp": second });
                let request = app.anonymous(Method::POST, "/api/whatsapp/status-webhook");
                let request = with_json(request, &body).header("webhook-secret-key", STATUS_KEY);
                let told = Answer::to(request).await.json()["data"].clone();
                (told["recorded"] == true, told["duplicate"] == true, told["status"].clone())
            };
            let (up, down) = (json!("session_connected"), json!("session_not_connected"));
            assert_eq!(report("connected").await, (true, false, up.clone()), "{name}");
            assert_eq!(report("disconnected").await, (true, false, down.clone()), "{name}");
            app.clock.advance(Duration::from_millis(later));
            let expected = if again { (true, false, up) } else { (false, true, down) };
            assert_eq!(report("connected").await, expected, "{name}");
            app.close().await;
        }
    })
    .await;
}

#[tokio::test]
async fn what_does_not_say_when_counts_as_now_and_what_does_as_it_says() {
    on_each(async |database| {
        let (app, second) = within(database).await;
        post(&app, "ready", json!({}), json!(second - 60)).await;
        let told = app.tell("shop", "disconnected", json!({ "reason": "x" })).await.json();
        assert_eq!(told["data"]["status"], "session_not_connected");
        // It is later than all that is timed before this moment.
        for at in [json!(second - 1), json!((second - 1) * 1000), json!(second * 1000 + 699)] {
            let late = post(&app, "ready", json!({}), at.clone()).await;
            assert_eq!(late["outdated"], true, "{at}");
        }
        let now = post(&app, "ready", json!({}), json!(second * 1000 + 700)).await;
        assert_eq!(now["status"], "session_connected", "of one moment the last word counts");
        // And what is timed is later than what was untimed before.
        app.clock.advance(Duration::from_secs(5));
        let next = post(&app, "disconnected", json!({ "reason": "y" }), json!(second + 4)).await;
        assert_eq!(next["status"], "session_not_connected");
        assert_eq!(status(&app, "shop").await["lastDisconnect"]["reason"], "y");
        app.close().await;
    })
    .await;
}
