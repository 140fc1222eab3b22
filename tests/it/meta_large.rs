//! What Meta tells at once may be large: an address book, a year of messages. It is carried out in parts, and nobody who
//! writes beside it waits for all of it.

use std::{
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    time::Duration,
};

use entity::id::MetaEventId;
use futures_util::future::join_all;
use serde_json::{Value, json};
use wagate::store::Patience;

use crate::{
    database::{Database, on_each},
    http_app::App,
    meta::{NUMBER, SECRET, SHARED, WABA, changes, complete, deliver, log, set_up},
};

/// What one round carries out of an address book at most.
const ROUND: i64 = 32 * 100;

/// An address book of so many.
fn people(count: usize) -> Vec<u8> {
    let metadata = json!({ "phone_number_id": NUMBER, "display_phone_number": "15550783881" });
    let entries = (0..count).map(|n| {
        json!({ "type": "contact", "action": "add", "contact": { "phone_number": format!("49151{n:07}") } })
    });
    let value = json!({ "metadata": metadata, "state_sync": entries.collect::<Vec<_>>() });
    posted("smb_app_state_sync", &value)
}

/// So many messages of the past, of as many people as there are tens.
fn past(count: usize) -> Vec<u8> {
    let metadata = json!({ "phone_number_id": NUMBER, "display_phone_number": "15550783881" });
    let threads = (0..count / 10).map(|thread| {
        let person = format!("49152{thread:07}");
        let messages = (0..10).map(|n| {
            json!({ "from": person, "id": format!("{thread}-{n}"), "timestamp": "1739230955",
                    "type": "text", "text": { "body": "old" } })
        });
        json!({ "id": person, "messages": messages.collect::<Vec<_>>() })
    });
    let value = json!({ "metadata": metadata,
                        "history": [{ "threads": threads.collect::<Vec<_>>() }] });
    posted("history", &value)
}

fn posted(field: &str, value: &Value) -> Vec<u8> {
    let body = changes(WABA, &[json!({ "field": field, "value": value })]);
    serde_json::to_vec(&body).unwrap()
}

/// Carries out all there is, while others write in every lane. How often each of them was answered, at least.
async fn beside_others(app: &App) -> u64 {
    let is_over = AtomicBool::new(false);
    // As many keys as come to every lane.
    let answered: Vec<AtomicU64> = (0..16).map(|_| AtomicU64::new(0)).collect();
    let others = join_all(answered.iter().enumerate().map(async |(n, answered)| {
        let key = format!("other {n}");
        while !is_over.load(Ordering::Relaxed) {
            let writer = app.store.writer();
            let unit = writer.run(&key, Patience::Fail, |_| Box::pin(async { Ok(()) }));
            unit.await.unwrap();
            answered.fetch_add(1, Ordering::Relaxed);
        }
    }));
    tokio::join!(others, async {
        app.meta.drive().await.unwrap();
        is_over.store(true, Ordering::Relaxed);
    });
    answered.iter().map(|it| it.load(Ordering::Relaxed)).min().unwrap()
}

async fn started(database: &Database) -> App {
    let app = App::start(database).await;
    set_up(&app, &app.token, complete(NUMBER, WABA, SECRET)).await;
    app
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_book_of_fifty_thousand_people_stops_nobody_elses_writes() {
    on_each(async |database| {
        let app = started(database).await;
        assert_eq!(deliver(&app, SHARED, SECRET, &people(50_000)).await.status, 200);
        // In one unit there would be two at most: before it and behind it.
        let answered = beside_others(&app).await;
        assert!(answered >= 400, "{answered}");
        assert_eq!(database.count("SELECT count(*) FROM contact").await, 50_000);
        assert_eq!(log(&app, &app.token).await[0]["state"], "processed");
        app.close().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_thousand_messages_of_the_past_stop_nobody_elses_writes() {
    on_each(async |database| {
        let app = started(database).await;
        assert_eq!(deliver(&app, SHARED, SECRET, &past(2000)).await.status, 200);
        let answered = beside_others(&app).await;
        assert!(answered >= 30, "{answered}");
        assert_eq!(database.count("SELECT count(*) FROM message").await, 2000);
        assert_eq!(database.count("SELECT count(DISTINCT wa_id) FROM message").await, 2000);
        assert_eq!(log(&app, &app.token).await[0]["state"], "processed");
        app.close().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_dies_over_something_large_has_it_gone_on_with_where_he_was() {
    on_each(async |database| {
        let app = started(database).await;
        assert_eq!(deliver(&app, SHARED, SECRET, &people(4000)).await.status, 200);
        let progress = "SELECT CAST(progress AS BIGINT) FROM meta_event";
        // Dead somewhere in the middle of a round: the future is dropped where it waits.
        let count = async || database.count("SELECT count(*) FROM contact").await;
        tokio::select! {
            biased;
            () = async { while count().await < 300 {} } => {}
            round = app.meta.round() => panic!("it came to its end: {round:?}"),
        }
        // What was handed to the writer before that is still written.
        app.store
            .writer()
            .run(app.organization.as_str(), Patience::Fail, |_| Box::pin(async { Ok(()) }))
            .await
            .unwrap();
        let reached = count().await;
        assert!((300..4000).contains(&reached), "{reached}");
        assert_eq!(database.count(progress).await, reached, "a part and its progress are one");
        app.meta.round().await.unwrap();
        assert_eq!(count().await, reached, "it is still the dead one's");
        app.clock.advance(Duration::from_mins(2));
        // The others are let in between two rounds.
        app.meta.round().await.unwrap();
        assert_eq!(count().await, (reached + ROUND).min(4000));
        app.meta.drive().await.unwrap();
        assert_eq!(count().await, 4000);
        assert_eq!(log(&app, &app.token).await[0]["state"], "processed");
        // From the beginning, if it is asked for again.
        database.execute("DELETE FROM contact_identity").await;
        database.execute("DELETE FROM contact").await;
        let again = app.post("/api/meta/events/reprocess", json!({ "state": "processed" })).await;
        assert_eq!(again.status, 202, "{}", again.text());
        app.meta.drive().await.unwrap();
        assert_eq!(count().await, 4000);
        app.close().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_of_thousands_of_things_is_kept_in_parts_and_the_rest_when_it_is_posted_again() {
    on_each(async |database| {
        let app = started(database).await;
        let statuses = (0..1800).map(|n| json!({ "id": format!("s{n}"), "status": "sent" }));
        let value = json!({ "metadata": { "phone_number_id": NUMBER },
                            "statuses": statuses.collect::<Vec<_>>() });
        let body = posted("messages", &value);
        let units = || app.store.writer().stats().units;
        let before = units();
        assert_eq!(deliver(&app, SHARED, SECRET, &body).await.status, 200);
        assert!(units() - before >= 4, "{}", units() - before);
        let events = "SELECT count(*) FROM meta_event";
        assert_eq!(database.count(events).await, 1800);
        // As if it had been broken off after the first part.
        database
            .execute("DELETE FROM meta_event WHERE id NOT IN (SELECT id FROM meta_event ORDER BY id LIMIT 500)")
            .await;
        assert_eq!(deliver(&app, SHARED, SECRET, &body).await.status, 200);
        assert_eq!(database.count(events).await, 1800);
        assert_eq!(database.count("SELECT count(DISTINCT body_id) FROM meta_event").await, 1);
        assert_eq!(database.count("SELECT count(*) FROM meta_body").await, 1);
        // The same thing over and over is one thing.
        let value = json!({ "metadata": { "phone_number_id": NUMBER },
                            "statuses": vec![json!({}); 100_000] });
        let before = units();
        assert_eq!(deliver(&app, SHARED, SECRET, &posted("messages", &value)).await.status, 200);
        assert!(units() - before < 4, "{}", units() - before);
        assert_eq!(database.count(events).await, 1801);
        app.close().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn thousands_of_events_are_put_back_in_parts_and_a_request_that_was_broken_off_goes_on() {
    on_each(async |database| {
        let app = started(database).await;
        let (organization, now) = (&app.organization, app.clock.now().0);
        let rows: Vec<_> = (0..1200)
            .map(|n| {
                let id = MetaEventId::new(app.clock.now(), n);
                format!(
                    "('{id}', '{organization}', 'b', 'p', 't', false, {now}, 'k{n}', true, {now}, \
                     'processed', 7, {now})"
                )
            })
            .collect();
        database
            .execute(&format!(
                "INSERT INTO meta_event (id, organization_id, body_id, place, event_type, is_unrouted, event_ts, \
                 dedup_key, processed, processed_at, state, progress, created_at) VALUES {}",
                rows.join(", ")
            ))
            .await;
        let waiting = "SELECT count(*) FROM meta_event WHERE state = 'waiting' AND progress = 0";
        let ask = async || {
            let request = app.request(reqwest::Method::POST, "/api/meta/events/reprocess");
            let request = request.header("Idempotency-Key", "k").json(&json!({ "type": "t" }));
            let answer = request.send().await.unwrap();
            let status = answer.status().as_u16();
            (status, answer.json::<Value>().await.unwrap()["data"]["events"].clone())
        };
        let before = app.store.writer().stats().units;
        assert_eq!(ask().await, (202, json!(1200)));
        assert!(app.store.writer().stats().units - before >= 3);
        assert_eq!(database.count(waiting).await, 1200);
        // As if it had been broken off after the first part.
        database
            .execute(
                "UPDATE meta_event SET state = 'processed' \
                 WHERE id IN (SELECT id FROM meta_event ORDER BY id DESC LIMIT 700)",
            )
            .await;
        database.execute("UPDATE idempotency SET resource_id = '500+' WHERE key = 'k'").await;
        assert_eq!(ask().await, (202, json!(1200)));
        assert_eq!(database.count(waiting).await, 1200);
        assert_eq!(ask().await.1, json!(1200), "and what is done is done once");
        app.close().await;
    })
    .await;
}
