//! Replays go on, whoever is at them: each step is made once, and one's trouble is its own.

use std::time::Duration;

use serde_json::{Value, json};
use wagate::store::{Error, Store};

use crate::{
    database::{Database, Kind, Opened, on_each},
    http_app::App,
    receiver::Receiver,
    webhooks_api::endpoint,
};

const RATE: usize = 10;

/// An endpoint that is to be told again of everything, by its id, and the id of the replay.
async fn told_again(app: &App, receiver: &Receiver) -> (String, String) {
    let body = json!({ "url": receiver.url(), "event_types": ["message.received"] });
    let (id, _) = endpoint(app, body).await;
    let range = json!({ "after_sequence": 0, "rate_per_second": RATE });
    let made = app.post(&format!("/api/webhooks/{id}/replay"), range).await;
    assert_eq!(made.status, 202, "{}", made.text());
    (id, made.json()["data"]["id"].as_str().unwrap().to_owned())
}

async fn shown(app: &App, replay: &str) -> Value {
    app.get(&format!("/api/webhooks/replays/{replay}")).await.json()["data"].clone()
}

/// Deliveries to an endpoint, and of how many events.
async fn owed(database: &Database, endpoint: &str) -> (i64, i64) {
    let of = format!("FROM webhook_delivery WHERE endpoint_id = '{endpoint}'");
    let all = database.count(&format!("SELECT count(*) {of}")).await;
    (all, database.count(&format!("SELECT count(DISTINCT event_id) {of}")).await)
}

#[tokio::test(flavor = "multi_thread")]
async fn two_daemons_at_one_replay_make_each_of_its_steps_once() {
    const EVENTS: usize = 35;
    on_each(async |database: &Database| {
        let app = App::start(database).await;
        let receiver = Receiver::start().await;
        app.session("shop").await;
        for number in 0..EVENTS {
            app.hear("shop", "4911", &number.to_string()).await;
        }
        let (id, replay) = told_again(&app, &receiver).await;
        // A file has one daemon; that looks twice at a time.
        let other: Option<Opened> = match database.kind {
            Kind::Sqlite => None,
            Kind::Postgres => Some(database.open().await),
        };
        let second: &Store = other.as_ref().map_or(&app.store, |other| &other.store);
        let mut steps = 0;
        while shown(&app, &replay).await["state"] == "running" {
            app.clock.advance(Duration::from_secs(1));
            if let Some(other) = &other {
                other.clock.advance(Duration::from_secs(1));
            }
            let before = owed(database, &id).await.0;
            let (webhooks, theirs) = (app.store.webhooks(), second.webhooks());
            let (one, two) = tokio::join!(webhooks.step_replays(), theirs.step_replays());
            assert_eq!(one.unwrap() + two.unwrap(), 1, "who comes second finds it done");
            steps += 1;
            let made = usize::try_from(owed(database, &id).await.0 - before).unwrap();
            assert!(made <= RATE, "{made} in a step");
            assert!(steps <= EVENTS, "it has no end");
        }
        assert_eq!(steps, EVENTS / RATE + 1);
        let all = i64::try_from(EVENTS).unwrap();
        assert_eq!(owed(database, &id).await, (all, all));
        let shown = shown(&app, &replay).await;
        assert_eq!((&shown["state"], &shown["deliveries"]), (&json!("done"), &json!(EVENTS)));
        // Nobody goes on with it.
        app.clock.advance(Duration::from_secs(1));
        assert_eq!(app.store.webhooks().step_replays().await.unwrap(), 0);
        if let Some(other) = other {
            other.close().await;
        }
        app.close().await;
    })
    .await;
}

/// Has the database refuse what an endpoint is to be owed.
async fn refuse(database: &Database, endpoint: &str) {
    let sql = match database.kind {
        Kind::Sqlite => format!(
            "CREATE TRIGGER refuse BEFORE INSERT ON webhook_delivery \
             WHEN NEW.endpoint_id = '{endpoint}' BEGIN SELECT RAISE(ABORT, 'refused'); END"
        ),
        Kind::Postgres => format!(
            "CREATE FUNCTION refuse() RETURNS trigger AS $$ BEGIN IF NEW.endpoint_id = '{endpoint}' \
             THEN RAISE EXCEPTION 'refused'; END IF; RETURN NEW; END $$ LANGUAGE plpgsql; \
             CREATE TRIGGER refuse BEFORE INSERT ON webhook_delivery \
             FOR EACH ROW EXECUTE FUNCTION refuse()"
        ),
    };
    database.execute(&sql).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_whose_step_fails_keeps_no_other_from_its_own() {
    on_each(async |database: &Database| {
        let app = App::start(database).await;
        let receiver = Receiver::start().await;
        app.session("shop").await;
        for number in 0..3 {
            app.hear("shop", "4911", &number.to_string()).await;
        }
        let (bad, in_vain) = told_again(&app, &receiver).await;
        let (good, goes_on) = told_again(&app, &receiver).await;
        refuse(database, &bad).await;
        app.clock.advance(Duration::from_secs(1));
        // Said, so that it stands in the log.
        let stepped = app.store.webhooks().step_replays().await;
        assert!(matches!(stepped, Err(Error::Database(_))), "{stepped:?}");
        let done = shown(&app, &goes_on).await;
        assert_eq!((&done["state"], &done["deliveries"]), (&json!("done"), &json!(3)));
        assert_eq!(owed(database, &good).await, (3, 3));
        let running = shown(&app, &in_vain).await;
        assert_eq!((&running["state"], &running["deliveries"]), (&json!("running"), &json!(0)));
        assert_eq!(owed(database, &bad).await, (0, 0), "nothing of its step is there");

        // Mended, it goes on from where it was.
        let allow = match database.kind {
            Kind::Sqlite => "DROP TRIGGER refuse",
            Kind::Postgres => "DROP TRIGGER refuse ON webhook_delivery; DROP FUNCTION refuse()",
        };
        database.execute(allow).await;
        app.clock.advance(Duration::from_secs(1));
        assert_eq!(app.store.webhooks().step_replays().await.unwrap(), 1);
        let done = shown(&app, &in_vain).await;
        assert_eq!((&done["state"], &done["deliveries"]), (&json!("done"), &json!(3)));
        assert_eq!(owed(database, &bad).await, (3, 3));
        app.close().await;
    })
    .await;
}
