//! An endpoint that is dead and owed a hundred thousand deliveries, among ninety-nine that are not.
//!
//! What it costs the others is counted: what they get in each round, the places that it takes, and on
//! PostgreSQL the rows that are read. How long they wait is what `bench webhooks` measures.

use std::{ops::RangeInclusive, time::Duration};

use reqwest::Method;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::{
    database::{Database, Kind, on_each},
    http_app::{Answer, App, json as with_json},
    receiver::{Behaviour, Receiver},
    webhooks_api::endpoint,
};

const OTHERS: usize = 99;
const OWED: i64 = 100_000;
const ROUNDS: usize = 5;

/// Owes an endpoint as much as that, since long ago; of one conversation, if it has an order.
async fn owe(database: &Database, app: &App, endpoint: &str, ordering: &str) {
    // That of the only session with the contact who writes in each round.
    let of_contact = "(SELECT id || ':4911@s.whatsapp.net' FROM session)";
    let key = if ordering == "none" { "NULL" } else { of_contact };
    let (padded, numbers) = match database.kind {
        Kind::Postgres => {
            ("lpad(n::text, 26, '0')", format!("generate_series(1, {OWED}) AS numbers(n)"))
        }
        Kind::Sqlite => (
            "printf('%026d', n)",
            format!(
                "(WITH RECURSIVE numbers(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers \
                 WHERE n < {OWED}) SELECT n FROM numbers)"
            ),
        ),
    };
    let organization = &app.organization;
    let expires = (app.clock.now() + Duration::from_hours(72)).0;
    for statement in [
        format!(
            "INSERT INTO webhook_event (id, organization_id, seq, event_type, conversation, \
             payload, occurred_at) SELECT 'evt_' || {padded}, '{organization}', n - {OWED}, \
             'message.received', '', '{{}}', 1 FROM {numbers}"
        ),
        format!(
            "INSERT INTO webhook_delivery (id, organization_id, endpoint_id, event_id, event_type, \
             seq, order_key, replay_id, cause, state, attempts, next_at, expires_at, created_at) \
             SELECT 'dlv_' || {padded}, '{organization}', '{endpoint}', 'evt_' || {padded}, \
             'message.received', n - {OWED}, {key}, '', 'event', 'pending', 0, 0, {expires}, 1 \
             FROM {numbers}"
        ),
    ] {
        database.execute(&statement).await;
    }
}

/// Has something happen a few times, with time in between, and sees that all of the others have it before
/// time moves.
async fn rounds(app: &App, receiver: &Receiver) {
    for round in 0..ROUNDS {
        let before = receiver.count();
        app.hear("shop", "4911", &format!("round {round}")).await;
        app.deliveries.drive().await.unwrap();
        assert_eq!(receiver.count(), before + OTHERS, "each of the others, once, in this round");
        app.clock.advance(Duration::from_secs(40));
    }
}

/// Rows of deliveries and events that statements have read so far; PostgreSQL counts them when a connection
/// ends.
async fn read_so_far(database: &Database) -> i64 {
    let others = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() \
                  AND backend_type = 'client backend' AND pid <> pg_backend_pid()";
    while database.count(others).await > 0 {
        tokio::task::yield_now().await;
    }
    let read = "SELECT CAST(sum(seq_tup_read + idx_tup_fetch) AS BIGINT) FROM pg_stat_user_tables \
                WHERE relname IN ('webhook_delivery', 'webhook_event')";
    let index = "SELECT CAST(sum(idx_tup_read) AS BIGINT) FROM pg_stat_user_indexes \
                 WHERE relname IN ('webhook_delivery', 'webhook_event')";
    database.count(read).await + database.count(index).await
}

/// What the others get beside a dead endpoint of this order, and what that costs: within so many tries, and `rows` more
/// than without it.
async fn beside_a_dead_one(ordering: &str, tries: RangeInclusive<usize>, rows: i64) {
    let tries = &tries;
    on_each(async |database| {
        let app = App::start(database).await;
        let (receiver, dead) = (Receiver::start().await, Receiver::start().await);
        dead.usually(Behaviour::Reset);
        for n in 0..OTHERS {
            let url = format!("http://{}/{n}", receiver.address);
            endpoint(&app, json!({ "url": url, "event_types": ["message.*"] })).await;
        }
        app.session("shop").await;
        rounds(&app, &receiver).await;
        app.deliveries.upkeep().await.unwrap();
        app.close().await;
        let counts = database.kind == Kind::Postgres;
        let usual = if counts { read_so_far(database).await } else { 0 };

        let app = App::start(database).await;
        let body = json!({
            "url": dead.url(), "event_types": ["message.*"], "max_in_flight": 4, "ordering": ordering,
        });
        let (id, _) = endpoint(&app, body).await;
        owe(database, &app, &id, ordering).await;
        rounds(&app, &receiver).await;
        let reached = dead.count();
        assert!(tries.contains(&reached), "{reached}");
        // Looks for what nobody asks for cost no more.
        app.deliveries.upkeep().await.unwrap();
        app.close().await;
        if counts {
            let read = read_so_far(database).await - usual;
            assert!(read < usual + rows, "{read} rows were read, and without the dead one {usual}");
        }
        let owed = "SELECT count(*) FROM webhook_delivery WHERE state = 'pending'";
        assert_eq!(database.count(owed).await, OWED + i64::try_from(ROUNDS).unwrap());
    })
    .await;
}

#[tokio::test]
async fn a_hundred_thousand_owed_to_a_dead_endpoint_take_nothing_from_ninety_nine_others() {
    // Ten tries until its breaker opens, then one probe for each time that it is half open.
    beside_a_dead_one("none", 10..=10 + 3 + ROUNDS, 2_000).await;
}

/// One delivery is tried again and again, so its breaker stays closed, and all that waits behind it is due.
#[tokio::test]
async fn a_hundred_thousand_of_one_conversation_behind_one_that_fails_take_nothing_from_others() {
    // Each look costs some hundreds of rows, and would cost some hundred thousand if it went through all of them.
    beside_a_dead_one("by_conversation", 1..=ROUNDS, 10 * OWED).await;
}

#[tokio::test]
async fn an_endpoint_that_never_answers_holds_its_own_places_and_no_others() {
    on_each(async |database| {
        let app = App::start(database).await;
        let (receiver, dead) = (Receiver::start().await, Receiver::start().await);
        for n in 0..OTHERS {
            let url = format!("http://{}/{n}", receiver.address);
            endpoint(&app, json!({ "url": url, "event_types": ["message.*"] })).await;
        }
        // Longer than all of this takes.
        let body = json!({
            "url": dead.url(), "event_types": ["message.*"], "max_in_flight": 4, "timeout_ms": 30_000,
        });
        let (id, _) = endpoint(&app, body).await;
        owe(database, &app, &id, "none").await;
        app.session("shop").await;
        let gate = dead.hold();
        let stop = CancellationToken::new();
        let running = app.deliveries.clone().run(stop.clone());
        let meanwhile = async {
            dead.arrived(4).await;
            for round in 1..=3 {
                app.hear("shop", "4911", "x").await;
                receiver.arrived(round * OTHERS).await;
            }
            assert_eq!(dead.count(), 4, "it has its places, and no more");
            dead.usually(Behaviour::status(410));
            gate.notify_waiters();
            stop.cancel();
        };
        tokio::join!(running, meanwhile);
        assert_eq!(receiver.count(), 3 * OTHERS);
        app.close().await;
    })
    .await;
}

/// Of sixty-four places, the daemon leaves one organization no more than three quarters.
#[tokio::test]
async fn an_organization_whose_receivers_never_answer_leaves_places_to_others() {
    on_each(async |database| {
        let app = App::start(database).await;
        let (receiver, silent) = (Receiver::start().await, Receiver::start().await);
        let gate = silent.hold();
        for n in 0..10 {
            let body = json!({
                "url": format!("http://{}/{n}", silent.address), "event_types": ["message.*"],
                "max_in_flight": 10, "timeout_ms": 30_000,
            });
            endpoint(&app, body).await;
        }
        app.session("shop").await;
        let stranger = app.stranger(database).await;
        let body = json!({ "url": receiver.url(), "event_types": ["session.created"] });
        let made = with_json(app.anonymous(Method::POST, "/api/webhooks"), &body);
        assert_eq!(Answer::to(made.bearer_auth(&stranger)).await.status, 201);
        for n in 0..10 {
            app.hear("shop", "4911", &n.to_string()).await;
        }
        let stop = CancellationToken::new();
        let running = app.deliveries.clone().run(stop.clone());
        let meanwhile = async {
            silent.arrived(48).await;
            for n in 1..=3 {
                let body = json!({ "sessionId": format!("theirs-{n}"), "start": false });
                let made = with_json(app.anonymous(Method::POST, "/api/whatsapp/session"), &body);
                assert_eq!(Answer::to(made.bearer_auth(&stranger)).await.status, 201);
                receiver.arrived(n).await;
            }
            assert_eq!(silent.count(), 48, "three quarters, and no more");
            silent.usually(Behaviour::status(410));
            silent.release();
            gate.notify_waiters();
            stop.cancel();
        };
        tokio::join!(running, meanwhile);
        app.close().await;
    })
    .await;
}
