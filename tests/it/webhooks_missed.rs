//! What an endpoint has missed, and how it comes to be told of it after all.

use std::time::Duration;

use entity::{
    id::ReplayId,
    state::{Direction, MessageStatus},
};
use reqwest::Method;
use sea_orm::{ConnectionTrait, TransactionTrait};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use wagate::{
    event::{Ack, AckLevel, Event, NewMessage},
    maintenance::{Maintenance, Policy},
};

use crate::{
    database::{Database, Kind, on_each},
    http_app::{Answer, App, json as with_json},
    receiver::{Behaviour, Receiver, Request},
    webhooks_api::{endpoint, log},
};

fn texts(requests: &[Request]) -> Vec<String> {
    let text = |it: &Request| it.json()["data"]["message"]["body"].as_str().unwrap().to_owned();
    requests.iter().map(text).collect()
}

async fn replay(app: &App, endpoint: &str, body: Value) -> Value {
    let made = app.post(&format!("/api/webhooks/{endpoint}/replay"), body).await;
    assert_eq!(made.status, 202, "{}", made.text());
    made.json()["data"].clone()
}

/// Has replays go on for a second, and what is owed sent.
async fn go_on(app: &App) {
    app.clock.advance(Duration::from_secs(1));
    app.store.webhooks().step_replays().await.unwrap();
    app.deliveries.drive().await.unwrap();
}

/// Has the account send a message to 4911, and WhatsApp acknowledge it under another name of the chat.
async fn send_and_acknowledge(app: &App, wa_id: &str) {
    let message = NewMessage {
        wa_id: wa_id.to_owned(),
        sender: "6281234567890@s.whatsapp.net".to_owned(),
        direction: Direction::Outbound,
        status: MessageStatus::Sent,
        ..app.message("4911", wa_id)
    };
    app.happen("shop", Event::Message(Box::new(message))).await;
    let (wa_id, chat, at) = (wa_id.to_owned(), "1000001@lid".to_owned(), app.clock.now());
    let (by, level, error) = (chat.clone(), AckLevel::Delivered, None);
    app.happen("shop", Event::Ack(Ack { wa_id, chat, by, level, error, at })).await;
}

#[tokio::test]
async fn a_replay_keeps_the_order_of_each_conversation_and_no_other() {
    on_each(async |database| {
        let app = App::start(database).await;
        let receiver = Receiver::start().await;
        app.session("shop").await;
        app.hear("shop", "4911", "first").await;
        app.hear("shop", "4922", "other").await;
        let body = json!({
            "url": receiver.url(), "event_types": ["message.received"],
            "ordering": "by_conversation", "max_in_flight": 1,
        });
        let (id, _) = endpoint(&app, body).await;
        app.hear("shop", "4911", "live").await;
        replay(&app, &id, json!({ "after_sequence": 0 })).await;
        // What fails keeps back what follows it in its chat, whoever asked for that, and nothing else.
        receiver.next([Behaviour::status(500)]);
        go_on(&app).await;
        assert_eq!(texts(&receiver.requests()), ["first", "other"]);
        app.clock.advance(Duration::from_secs(10));
        app.deliveries.drive().await.unwrap();
        assert_eq!(texts(&receiver.requests()[2..]), ["first", "live", "live"]);
        app.close().await;
    })
    .await;
}

#[tokio::test]
async fn an_acknowledgement_is_of_the_conversation_of_its_message_told_at_once_or_by_a_replay() {
    on_each(async |database| {
        let app = App::start(database).await;
        let receiver = Receiver::start().await;
        app.session("shop").await;
        app.hear("shop", "4911", "hello").await;
        send_and_acknowledge(&app, "3EB0A").await;
        let body = json!({
            "url": receiver.url(), "event_types": ["message.*"], "ordering": "by_conversation",
        });
        let (id, _) = endpoint(&app, body).await;
        send_and_acknowledge(&app, "3EB0B").await;
        replay(&app, &id, json!({ "after_sequence": 0 })).await;
        app.store.webhooks().step_replays().await.unwrap();
        let rows = database
            .query(&format!("SELECT order_key FROM webhook_delivery WHERE endpoint_id = '{id}'"))
            .await;
        let keys: Vec<String> = rows.iter().map(|row| row.try_get_by_index(0).unwrap()).collect();
        let key = format!("{}:4911@s.whatsapp.net", app.row("shop").await.id);
        assert_eq!(keys, vec![key; 2 + 5]);
        app.close().await;
    })
    .await;
}

#[tokio::test]
async fn a_gap_begins_with_what_was_not_taken_and_its_replay_sends_nothing_twice() {
    on_each(async |database| {
        let app = App::start(database).await;
        let receiver = Receiver::start().await;
        app.session("shop").await;
        let body = json!({
            "url": receiver.url(), "event_types": ["message.received"], "max_in_flight": 1,
            "max_age_seconds": 3600,
        });
        let (id, _) = endpoint(&app, body).await;
        app.hear("shop", "4911", "before").await;
        app.deliveries.drive().await.unwrap();
        // It is to be tried again, and the endpoint is off by then; the next one is taken.
        for (text, status) in [("late", 500), ("taken", 200), ("refused", 410)] {
            receiver.next([Behaviour::status(status)]);
            app.hear("shop", "4911", text).await;
            app.deliveries.drive().await.unwrap();
        }
        app.hear("shop", "4911", "unowed").await;
        app.clock.advance(Duration::from_hours(2));
        app.deliveries.upkeep().await.unwrap();
        let late = log(&app, &id).await.into_iter().find(|row| row["error"] == "expired").unwrap();

        let resumed = app.post(&format!("/api/webhooks/{id}/resume"), json!({})).await.json();
        let missed = &resumed["data"]["missed"];
        let first = late["sequence"].as_i64().unwrap();
        assert_eq!(missed["after_sequence"], first - 1, "{missed}");
        let range = json!({
            "after_sequence": missed["after_sequence"],
            "through_sequence": missed["through_sequence"],
        });
        let made = replay(&app, &id, range.clone()).await;
        assert_eq!(made["undelivered_only"], true);
        go_on(&app).await;
        let sent = texts(&receiver.requests());
        assert_eq!(sent[..4], ["before", "late", "taken", "refused"]);
        assert_eq!(sent[4..], ["late", "refused", "unowed"]);

        // It has all of it now; and all of it again, if somebody says so.
        replay(&app, &id, range.clone()).await;
        go_on(&app).await;
        assert_eq!(receiver.count(), 7);
        let mut all = range;
        all["undelivered_only"] = json!(false);
        replay(&app, &id, all).await;
        go_on(&app).await;
        assert_eq!(texts(&receiver.requests()[7..]), ["late", "taken", "refused", "unowed"]);
        app.close().await;
    })
    .await;
}

#[tokio::test]
async fn a_replay_to_an_endpoint_that_is_disabled_stops_and_says_what_is_left() {
    on_each(async |database| {
        let app = App::start(database).await;
        let receiver = Receiver::start().await;
        app.session("shop").await;
        for n in 0..5 {
            app.hear("shop", "4911", &n.to_string()).await;
        }
        let body = json!({ "url": receiver.url(), "event_types": ["message.received"] });
        let (id, _) = endpoint(&app, body).await;
        let after = app.store.webhooks().span(&app.organization, None, None).await.unwrap().1 - 5;
        let range = json!({ "after_sequence": after, "rate_per_second": 2 });
        let made = replay(&app, &id, range).await;
        receiver.usually(Behaviour::status(410));
        go_on(&app).await;
        go_on(&app).await;
        let path = format!("/api/webhooks/replays/{}", made["id"].as_str().unwrap());
        let shown = app.get(&path).await.json()["data"].clone();
        assert_eq!((&shown["state"], &shown["deliveries"]), (&json!("stopped"), &json!(2)));
        let left = json!({ "after_sequence": after + 2, "through_sequence": after + 5 });
        assert_eq!(shown["remaining"], left);
        assert!(shown["finished_at"].is_string());
        app.post(&format!("{path}/cancel"), json!({})).await.problem(409, "REPLAY_ENDED");

        // It stays so, and the rest can be asked for.
        receiver.usually(Behaviour::status(200));
        app.post(&format!("/api/webhooks/{id}/resume"), json!({})).await;
        go_on(&app).await;
        assert_eq!(app.get(&path).await.json()["data"]["state"], "stopped");
        let before = receiver.count();
        replay(&app, &id, left).await;
        go_on(&app).await;
        assert_eq!(receiver.count() - before, 3);
        app.close().await;
    })
    .await;
}

/// A request of another organization.
async fn ask(app: &App, token: &str, method: Method, path: &str, body: Option<Value>) -> Value {
    let request = app.anonymous(method, path).bearer_auth(token);
    let request = match &body {
        Some(body) => with_json(request, body),
        None => request,
    };
    let answer = Answer::to(request).await;
    assert!(answer.status.is_success(), "{}", answer.text());
    answer.json()["data"].clone()
}

#[tokio::test]
async fn replays_of_one_organization_do_not_keep_back_another_s() {
    on_each(async |database: &Database| {
        let app = App::start(database).await;
        let receiver = Receiver::start().await;
        app.session("shop").await;
        app.hear("shop", "4911", "x").await;
        let (id, _) = endpoint(&app, json!({ "url": receiver.url() })).await;
        for _ in 0..25 {
            let replay = ReplayId::new(app.clock.now(), rand::random());
            database
                .execute(&format!(
                    "INSERT INTO webhook_replay (id, organization_id, endpoint_id, state, after_seq, \
                     through_seq, cursor_seq, owed, rate_per_second, stepped_at, created_at) VALUES \
                     ('{replay}', '{}', '{id}', 'running', 0, 1000, 0, 0, 1, 0, 0)",
                    app.organization
                ))
                .await;
        }
        app.clock.advance(Duration::from_secs(1));
        let token = app.stranger(database).await;
        let body = json!({ "url": receiver.url(), "event_types": ["message.*"] });
        let theirs = ask(&app, &token, Method::POST, "/api/webhooks", Some(body)).await;
        let path = format!("/api/webhooks/{}/replay", theirs["id"].as_str().unwrap());
        let body = json!({ "after_sequence": 0 });
        let theirs = ask(&app, &token, Method::POST, &path, Some(body)).await;
        assert_eq!(app.store.webhooks().step_replays().await.unwrap(), 20);
        let path = format!("/api/webhooks/replays/{}", theirs["id"].as_str().unwrap());
        assert_eq!(ask(&app, &token, Method::GET, &path, None).await["state"], "done");
        // The others go on by turns.
        let unstepped = "SELECT count(*) FROM webhook_replay WHERE stepped_at = 0";
        assert_eq!(database.count(unstepped).await, 6);
        assert_eq!(app.store.webhooks().step_replays().await.unwrap(), 6);
        assert_eq!(database.count(unstepped).await, 0);
        app.close().await;
    })
    .await;
}

#[tokio::test]
async fn an_organization_has_five_replays_running_at_most() {
    on_each(async |database| {
        let app = App::start(database).await;
        let receiver = Receiver::start().await;
        let (id, _) = endpoint(&app, json!({ "url": receiver.url() })).await;
        let body = json!({ "after_sequence": 0 });
        let mut made = json!(null);
        for _ in 0..5 {
            made = replay(&app, &id, body.clone()).await;
        }
        let path = format!("/api/webhooks/{id}/replay");
        let sixth = || app.request(Method::POST, &path).header("idempotency-key", "sixth");
        Answer::to(with_json(sixth(), &body)).await.problem(409, "TOO_MANY_REPLAYS");
        let cancel = format!("/api/webhooks/replays/{}/cancel", made["id"].as_str().unwrap());
        assert_eq!(app.post(&cancel, json!({})).await.status, 200);
        // What was refused has not used its key up, and what was made is not counted again.
        let first = Answer::to(with_json(sixth(), &body)).await;
        assert_eq!(first.status, 202, "{}", first.text());
        assert_eq!(Answer::to(with_json(sixth(), &body)).await.status, 200);
        app.close().await;
    })
    .await;
}

#[tokio::test]
async fn what_is_sent_does_not_wait_for_replays() {
    on_each(async |database: &Database| {
        let app = App::start(database).await;
        let receiver = Receiver::start().await;
        app.session("shop").await;
        app.hear("shop", "4911", "replayed").await;
        let body = json!({ "url": receiver.url(), "event_types": ["message.received"] });
        let (id, _) = endpoint(&app, body).await;
        replay(&app, &id, json!({ "after_sequence": 0 })).await;
        // Nobody can so much as look at replays. SQLite has nothing that would keep readers away.
        let db = database.connect().await;
        let held = db.begin().await.unwrap();
        if database.kind == Kind::Postgres {
            let lock = "LOCK TABLE webhook_replay IN ACCESS EXCLUSIVE MODE";
            held.execute_unprepared(lock).await.unwrap();
        }
        let stop = CancellationToken::new();
        let running = app.deliveries.clone().run(stop.clone());
        let meanwhile = async {
            app.hear("shop", "4911", "live").await;
            receiver.until(|all| texts(all).contains(&"live".to_owned())).await;
            if database.kind == Kind::Postgres {
                assert_eq!(texts(&receiver.requests()), ["live"]);
            }
            held.rollback().await.unwrap();
            receiver.until(|all| texts(all).contains(&"replayed".to_owned())).await;
            stop.cancel();
        };
        tokio::join!(running, meanwhile);
        db.close().await.unwrap();
        app.close().await;
    })
    .await;
}

#[tokio::test]
async fn what_is_owed_again_of_old_events_is_sent_after_they_were_retired() {
    on_each(async |database| {
        let app = App::start(database).await;
        let receiver = Receiver::start().await;
        app.session("shop").await;
        app.hear("shop", "4911", "replayed").await;
        let body = json!({
            "url": receiver.url(), "event_types": ["message.received"], "max_in_flight": 1,
            "max_retries": 0,
        });
        let (id, _) = endpoint(&app, body).await;
        receiver.next([Behaviour::status(500)]);
        app.hear("shop", "4911", "retried").await;
        app.deliveries.drive().await.unwrap();
        let row = log(&app, &id).await.remove(0);
        assert_eq!((&row["status"], &row["cause"]), (&json!("exhausted"), &json!("event")));

        let day = Duration::from_hours(24);
        app.clock.advance(40 * day);
        let path = format!("/api/webhooks/events/{}/retry", row["id"].as_str().unwrap());
        let retried = app.post(&path, json!({})).await;
        assert_eq!(
            (retried.status.as_u16(), &retried.json()["data"]["cause"]),
            (202, &json!("retry"))
        );
        let through = row["sequence"].as_i64().unwrap() - 1;
        replay(&app, &id, json!({ "after_sequence": 0, "through_sequence": through })).await;
        app.store.webhooks().step_replays().await.unwrap();

        let policy = Policy { webhooks: Some(30 * day), ..Policy::default() };
        let sweep = async || {
            let stop = CancellationToken::new();
            Maintenance::new(app.store.clone(), policy, stop).sweep().await.unwrap();
            database.count("SELECT count(*) FROM webhook_event WHERE NOT in_feed").await
        };
        assert_eq!(sweep().await, 2);
        app.deliveries.drive().await.unwrap();
        // What was asked for by hand goes first.
        assert_eq!(texts(&receiver.requests()), ["retried", "retried", "replayed"]);
        assert_eq!(sweep().await, 0);
        app.close().await;
    })
    .await;
}

#[tokio::test]
async fn an_organization_tests_three_endpoints_at_a_time() {
    on_each(async |database| {
        let app = App::start(database).await;
        let receiver = Receiver::start().await;
        let (id, _) = endpoint(&app, json!({ "url": receiver.url() })).await;
        let path = format!("/api/webhooks/{id}/test");
        let test = || app.post(&path, json!({}));
        let gate = receiver.hold();
        let fourth = async {
            receiver.arrived(3).await;
            let refused = test().await;
            receiver.release();
            gate.notify_waiters();
            refused
        };
        let (first, second, third, refused) = tokio::join!(test(), test(), test(), fourth);
        refused.problem(429, "TOO_MANY_TESTS");
        assert!(!refused.header("retry-after").is_empty());
        for answer in [first, second, third, test().await] {
            assert_eq!(answer.status, 200);
            assert_eq!(answer.json()["data"]["delivered"], true);
        }
        app.close().await;
    })
    .await;
}

#[tokio::test]
async fn registering_has_an_endpoint_that_was_disabled_called_again() {
    on_each(async |database| {
        let app = App::start(database).await;
        let receiver = Receiver::start().await;
        app.session("shop").await;
        app.connect("shop").await;
        let register = || {
            let body = json!({ "phone_number": "6281234567890", "webhook_url": receiver.url() });
            app.post("/api/webhooks/register", body)
        };
        let made = register().await.json()["data"].clone();
        receiver.next([Behaviour::status(410)]);
        app.hear("shop", "4911", "refused").await;
        app.deliveries.drive().await.unwrap();
        let path = format!("/api/webhooks/{}", made["id"].as_str().unwrap());
        assert_eq!(app.get(&path).await.json()["data"]["state"], "disabled");

        let again = register().await;
        assert_eq!(again.status, 200);
        let again = again.json()["data"].clone();
        assert_eq!((&again["id"], &again["state"]), (&made["id"], &json!("active")));
        let missed = &again["missed"];
        assert_eq!(missed["reason"], "gone");
        let (after, through) = (&missed["after_sequence"], &missed["through_sequence"]);
        assert!(through.as_i64().unwrap() > after.as_i64().unwrap(), "{missed}");
        app.hear("shop", "4911", "taken").await;
        app.deliveries.drive().await.unwrap();
        assert_eq!(receiver.count(), 2);

        // Pausing it was somebody's wish: it stays so, and the answer says it.
        app.post(&format!("{path}/pause"), json!({})).await;
        let paused = register().await.json()["data"].clone();
        assert_eq!((&paused["state"], &paused["missed"]), (&json!("paused"), &Value::Null));
        app.close().await;
    })
    .await;
}
