//! Sessions that could not hand over when another one of their account became connected do so later.

use std::time::Duration;

use entity::{
    UnixMillis,
    id::SessionId,
    state::{DesiredState, Role},
};
use reqwest::Method;
use sea_orm::{ConnectionTrait as _, TransactionTrait as _};
use serde_json::{Value, json};
use wagate::{
    clock::Clock,
    event::{Disconnect, Event},
    store::{Patience, events::NewEvent, nodes::NewNode},
};
use wagate_simulator::Options;

use crate::{
    database::{Database, Kind, on, on_each, second_organization},
    handover::{NUMBER, SESSION, account, audited, logged_out, old, ready, status, told},
    http_app::{Answer, App, json as with_json},
    world::{ALICE, World},
};

async fn sweep(app: &App) -> u64 {
    app.store.handovers().sweep().await.unwrap()
}

async fn migrated(app: &App, id: &str) -> Value {
    status(app, id).await["migratedTo"].clone()
}

/// As if a session had been idle all the time, its row being changed when others became connected.
async fn was_idle(database: &Database, id: &str) {
    let sql = format!("UPDATE session SET status_since = 1 WHERE session_id = '{id}'");
    database.execute(&sql).await;
}

/// Two sessions of one account, both connected.
async fn both(app: &App, one: &str, two: &str) {
    for id in [one, two] {
        app.session(id).await;
        ready(app, id).await;
        app.clock.advance(Duration::from_secs(1));
    }
}

#[tokio::test]
async fn what_was_idle_then_hands_over_once_and_what_has_ended_since_does_not() {
    on_each(async |database| {
        let app = App::start(database).await;
        both(&app, "one", "two").await;
        app.external("vps", json!({})).await;
        app.tell("vps", "ready", json!({ "phoneNumber": NUMBER })).await;
        app.hear("one", "15550002222", "to one").await;
        assert_eq!(sweep(&app).await, 0, "all are connected");

        app.clock.advance(Duration::from_secs(1));
        logged_out(&app, "one").await;
        app.tell("vps", "disconnected", json!({ "reason": "LOGOUT" })).await;
        assert_eq!((sweep(&app).await, told(&app).await.len()), (0, 0));
        for id in ["one", "vps"] {
            assert_eq!(migrated(&app, id).await, Value::Null, "no `ready` took over from {id}");
            was_idle(database, id).await;
        }
        assert_eq!(sweep(&app).await, 2);
        for id in ["one", "vps"] {
            assert_eq!(migrated(&app, id).await, "two", "{id}");
        }
        let history = app.get(&format!("{SESSION}/two/messages")).await.json();
        assert_eq!(history["data"][0]["body"], "to one");
        let (before, events) = (app.row("one").await, told(&app).await);
        assert_eq!((sweep(&app).await, events.len(), audited(&app).await.len()), (0, 2, 2));
        assert_eq!((app.row("one").await, told(&app).await), (before, events));
        let entry = app.get("/api/audit?action=session_migrated").await.json()["data"][0].clone();
        assert_eq!(entry["tokenId"], Value::Null, "nobody did it: {entry}");
        app.close().await;
    })
    .await;
}

#[tokio::test]
async fn of_two_connected_ones_it_is_the_one_that_was_connected_last() {
    on_each(async |database| {
        let app = App::start(database).await;
        app.session("one").await;
        ready(&app, "one").await;
        both(&app, "two", "three").await;
        logged_out(&app, "one").await;
        was_idle(database, "one").await;
        assert_eq!((sweep(&app).await, migrated(&app, "one").await), (1, json!("three")));
        app.close().await;
    })
    .await;
}

#[tokio::test]
async fn what_somebody_has_stopped_or_is_about_to_pair_is_left_until_the_next_ready() {
    on_each(async |database| {
        let app = App::start(database).await;
        both(&app, "one", "two").await;
        // Stopped by a person, who may mean to start it.
        app.happen("one", Event::Disconnected(Disconnect::Stopped)).await;
        assert_eq!(app.row("one").await.desired_state, DesiredState::Stopped);
        // Made for the number, and never connected.
        let meant = json!({ "sessionId": "meant", "phoneNumber": NUMBER, "start": false });
        app.post(SESSION, meant).await;
        was_idle(database, "meant").await;
        assert_eq!(sweep(&app).await, 0);
        app.clock.advance(Duration::from_secs(1));
        ready(&app, "two").await;
        for id in ["one", "meant"] {
            assert_eq!(migrated(&app, id).await, "two", "{id}");
        }
        app.close().await;
    })
    .await;
}

#[tokio::test]
async fn what_runs_is_another_account_s_or_another_organization_s_is_left_alone_here_too() {
    on_each(async |database| {
        let app = App::start(database).await;
        let lid = async |id: &str, lid: &str| {
            app.session(id).await;
            app.happen(id, Event::Ready(account(NUMBER, Some(lid)))).await;
        };
        for (id, of) in [("recycled", "1@lid"), ("owned", "2@lid"), ("new", "2@lid")] {
            lid(id, of).await;
            app.clock.advance(Duration::from_secs(1));
        }
        let node = NewNode { home: "there".to_owned(), name: "there".to_owned(), lease: None };
        let node = app.store.nodes().join(node).await.unwrap();
        let key = app.row("owned").await.id;
        let lease = app.store.leases().claim(&node, vec![key]).await.unwrap().remove(0);
        for id in ["recycled", "owned"] {
            logged_out(&app, id).await;
            was_idle(database, id).await;
        }

        let other = second_organization(database).await;
        let theirs = app.token_of(&other, Role::Admin).await;
        let make = json!({ "sessionId": "theirs", "start": false });
        let request = app.anonymous(Method::POST, SESSION).bearer_auth(&theirs);
        Answer::to(with_json(request, &make)).await;
        let id: SessionId = "theirs".parse().unwrap();
        let find = async || app.store.sessions().find(&other, &id).await.unwrap().unwrap();
        let key = find().await.id;
        for event in [
            Event::Ready(account(NUMBER, None)),
            Event::Disconnected(Disconnect::LoggedOut { code: Some(401) }),
        ] {
            let new = NewEvent {
                organization_id: other.clone(),
                session_key: key.clone(),
                generation: None,
                event,
                at: app.clock.now(),
                care: None,
                posted: None,
            };
            app.store.writer().record(new, Patience::Fail).await.unwrap();
        }

        assert_eq!(sweep(&app).await, 0);
        // Nobody runs it any more.
        app.store.leases().release(&lease).await.unwrap();
        assert_eq!(sweep(&app).await, 1);
        assert_eq!(audited(&app).await, [("owned".to_owned(), "new".to_owned())]);
        assert_eq!(migrated(&app, "recycled").await, Value::Null);
        assert_eq!(find().await.migrated_to, None);
        app.close().await;
    })
    .await;
}

#[tokio::test]
async fn a_session_that_was_being_changed_at_that_moment_hands_over_later() {
    on(Kind::Postgres, async |database| {
        let app = App::start(database).await;
        old(&app, "old").await;
        app.session("new").await;
        let key = app.row("old").await.id;
        // Somebody changes the row, and takes his time: `ready` does not wait for him.
        let connection = database.connect().await;
        let change = connection.begin().await.unwrap();
        let touch = format!("UPDATE session SET user_id = 'u' WHERE id = '{key}'");
        change.execute_unprepared(&touch).await.unwrap();
        app.clock.advance(Duration::from_secs(1));
        ready(&app, "new").await;
        assert_eq!(status(&app, "new").await["isConnected"], true);
        assert_eq!((sweep(&app).await, migrated(&app, "old").await), (0, Value::Null));
        change.commit().await.unwrap();
        assert_eq!((sweep(&app).await, migrated(&app, "old").await), (1, json!("new")));
        assert_eq!(app.row("old").await.user_id.as_deref(), Some("u"));
        app.close().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_daemon_looks_again_by_itself() {
    on_each(async |database| {
        let clock = Clock::manual(UnixMillis(1_795_500_000_000));
        let world = World::start_at(clock, database, Options::default(), |_| {}).await;
        let phone = world.connect("one", ALICE).await;
        let device = phone.online_devices()[0].device;
        world.create("two").await;
        let qr = world.until_qr("two").await;
        phone.scan(&qr).await.unwrap();
        world.until_status("two", "session_connected").await;
        phone.unlink(device).unwrap();
        world.until_status("one", "session_not_connected").await;
        was_idle(database, "one").await;
        // Further than from one look to the next.
        world.clock.advance(Duration::from_mins(2));
        world
            .until("the handover", async || {
                let seen = world.status("one").await;
                if seen["migratedTo"] == "two" { Ok(()) } else { Err(seen) }
            })
            .await;
        // It was no `ready` of the other one that has brought it.
        let events = world.events("two").await;
        assert_eq!(events.iter().filter(|(name, _)| name == "ready").count(), 1, "{events:?}");
        world.end().await;
    })
    .await;
}
