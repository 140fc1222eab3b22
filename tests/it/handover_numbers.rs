//! Which number a session that runs elsewhere has: by a `ready` of its own, and not because somebody once said so. And that
//! one which has handed over is seen when it is at work again.

use std::time::Duration;

use entity::state::Role;
use reqwest::Method;
use serde_json::{Value, json};
use wagate::event::{Change, Event};

use crate::{
    database::{Database, on_each, second_organization},
    handover::{NUMBER, SESSION, ids, listed, logged_out, old, ready, status, told},
    http_app::{Answer, App, STATUS_KEY, json as with_json},
};

async fn migrated(app: &App, id: &str) -> Value {
    status(app, id).await["migratedTo"].clone()
}

/// As if a session had been idle all the time, its row being changed when others became connected.
async fn was_idle(database: &Database, id: &str) {
    let sql = format!("UPDATE session SET status_since = 1 WHERE session_id = '{id}'");
    database.execute(&sql).await;
}

/// As if somebody had typed the number in.
async fn set_number(database: &Database, id: &str) {
    let sql = format!("UPDATE session SET phone_number = '{NUMBER}' WHERE session_id = '{id}'");
    database.execute(&sql).await;
}

async fn report(app: &App, id: &str, mut body: Value) {
    body["sessionId"] = json!(format!("wa_{id}"));
    let request = app.anonymous(Method::POST, "/api/whatsapp/status-webhook");
    let told = Answer::to(with_json(request, &body).header("webhook-secret-key", STATUS_KEY)).await;
    assert_eq!(told.status, 200, "{}", told.text());
}

async fn tell(app: &App, id: &str, event: &str, data: Value) -> Value {
    app.clock.advance(Duration::from_secs(1));
    app.tell(id, event, data).await.json()["data"]["status"].clone()
}

async fn external(app: &App, id: &str, more: Value) {
    let mut body = json!({ "sessionData": { "vps_session_id": format!("wa_{id}") } });
    for (name, value) in more.as_object().unwrap() {
        body[name] = value.clone();
    }
    app.external(id, body).await;
}

#[tokio::test]
async fn a_number_that_was_only_said_of_a_session_takes_over_from_nobody() {
    on_each(async |database| {
        let app = App::start(database).await;
        old(&app, "old").await;
        external(&app, "told", json!({})).await;
        // Typed in later: whoever made it has not said so.
        external(&app, "typed", json!({})).await;
        let typed = app.patch(&format!("{SESSION}/typed"), json!({ "phoneNumber": NUMBER })).await;
        assert_eq!(typed.status, 200, "{}", typed.text());
        // Made with the number, and said to have another one: that it is the first again is only said, too.
        external(&app, "disputed", json!({ "phoneNumber": NUMBER })).await;
        for number in ["15550009999", NUMBER] {
            app.clock.advance(Duration::from_secs(1));
            report(&app, "disputed", json!({ "status": "reconnecting", "phoneNumber": number }))
                .await;
        }
        for id in ["typed", "disputed"] {
            assert_eq!(status(&app, id).await["phoneNumber"], NUMBER, "{id}");
            for (event, data) in [
                ("ready", json!({})),
                ("change_state", json!({ "state": "TIMEOUT" })),
                ("change_state", json!({ "state": "CONNECTED" })),
            ] {
                tell(&app, id, event, data).await;
                assert_eq!(migrated(&app, "old").await, Value::Null, "{id}: {event}");
            }
        }
        // Said while it is on its way, and by a report that says nothing else.
        report(&app, "told", json!({ "status": "reconnecting", "phoneNumber": NUMBER })).await;
        assert_eq!(status(&app, "told").await["phoneNumber"], NUMBER);
        for (event, data) in
            [("change_state", json!({ "state": "CONNECTED" })), ("ready", json!({}))]
        {
            assert_eq!(tell(&app, "told", event, data).await, "session_connected");
            assert_eq!(migrated(&app, "old").await, Value::Null, "{event}");
        }
        // Nor does it when it is looked at again.
        was_idle(database, "old").await;
        assert_eq!(app.store.handovers().sweep().await.unwrap(), 0);
        assert!(told(&app).await.is_empty());
        // Its own word does.
        tell(&app, "disputed", "ready", json!({ "phoneNumber": NUMBER })).await;
        assert_eq!(migrated(&app, "old").await, "disputed");
        app.close().await;
    })
    .await;
}

/// Seed 001's own `ready` says no number. Whoever made the session has.
#[tokio::test]
async fn the_number_that_a_session_was_made_with_takes_over_when_it_becomes_connected() {
    on_each(async |database| {
        let app = App::start(database).await;
        let other = second_organization(database).await;
        let theirs = app.token_of(&other, Role::Admin).await;
        let make = json!({ "sessionId": "theirs", "phoneNumber": NUMBER, "start": false });
        let make = with_json(app.anonymous(Method::POST, SESSION).bearer_auth(&theirs), &make);
        assert_eq!(Answer::to(make).await.status, 201);
        for (id, events) in [
            ("plain", vec![("ready", json!({}))]),
            // It was made for whoever scans the code.
            (
                "scanned",
                vec![
                    ("qr", json!({ "qr": "2@x" })),
                    ("authenticated", json!({})),
                    ("loading_screen", json!({ "percent": 5, "message": "Loading" })),
                    ("ready", json!({})),
                ],
            ),
            ("stated", vec![("change_state", json!({ "state": "CONNECTED" }))]),
        ] {
            let (idle, busy) = (format!("idle-{id}"), format!("busy-{id}"));
            old(&app, &idle).await;
            external(&app, id, json!({ "phoneNumber": NUMBER })).await;
            app.session(&busy).await;
            app.happen(&busy, Event::ChangeState(Change::Connecting)).await;
            set_number(database, &busy).await;
            let last = events.len() - 1;
            for (number, (event, data)) in events.into_iter().enumerate() {
                assert_eq!(migrated(&app, &idle).await, Value::Null, "{id}: {event}");
                let said = tell(&app, id, event, data).await;
                assert_eq!(said == "session_connected", number == last, "{id}: {event}");
            }
            assert_eq!(migrated(&app, &idle).await, id);
            assert_eq!(migrated(&app, &busy).await, Value::Null, "{id}");
            assert_eq!(app.row(id).await.account_jid, None, "it has not said so itself");
            // What has ended since hands over when a lost connection is back, and what was locked when it is looked at.
            for sweeps in [false, true] {
                let since = format!("since-{id}-{sweeps}");
                old(&app, &since).await;
                if sweeps {
                    was_idle(database, &since).await;
                    assert_eq!(app.store.handovers().sweep().await.unwrap(), 1, "{id}");
                } else {
                    tell(&app, id, "change_state", json!({ "state": "TIMEOUT" })).await;
                    tell(&app, id, "change_state", json!({ "state": "CONNECTED" })).await;
                }
                assert_eq!(migrated(&app, &since).await, id, "{since}");
            }
            // Its messages say another number: that one is its own from then on.
            let own = json!({
                "id": "3EB1", "from": "15550009999@c.us", "to": "4915110000001@c.us", "fromMe": true,
                "body": "x", "timestamp": app.clock.now().as_secs() + 1,
            });
            app.clock.advance(Duration::from_secs(2));
            tell(&app, id, "message_create", json!({ "message": own })).await;
            let row = app.row(id).await;
            let seen = (row.phone_number.as_deref(), row.given_phone_number);
            assert_eq!(seen, (Some("15550009999"), None));
            tell(&app, id, "disconnected", json!({ "reason": "LOGOUT" })).await;
            app.delete(&format!("{SESSION}/{busy}?logout=false")).await;
        }
        let theirs = app.store.sessions().find(&other, &"theirs".parse().unwrap()).await.unwrap();
        assert_eq!(theirs.unwrap().migrated_to, None);
        app.close().await;
    })
    .await;
}

#[tokio::test]
async fn a_number_that_was_a_session_s_before_somebody_scanned_it_again_takes_over_from_nobody() {
    on_each(async |database| {
        let app = App::start(database).await;
        let (none, number) = (json!({}), json!({ "phoneNumber": NUMBER }));
        for (id, has_code, made_with, said) in [
            ("scanned", true, &none, &number),
            ("silent", false, &none, &number),
            ("given-scanned", true, &number, &none),
            ("given-silent", false, &number, &none),
        ] {
            external(&app, id, made_with.clone()).await;
            tell(&app, id, "ready", said.clone()).await;
            let later = format!("beside-{id}");
            app.clock.advance(Duration::from_secs(1));
            app.session(&later).await;
            ready(&app, &later).await;
            logged_out(&app, &later).await;
            let at = app.clock.now().as_secs();
            tell(&app, id, "disconnected", json!({ "reason": "LOGOUT" })).await;
            if has_code {
                app.clock.advance(Duration::from_mins(1));
                tell(&app, id, "qr", json!({ "qr": "2@anybody" })).await;
                tell(&app, id, "authenticated", json!({})).await;
            }
            assert_eq!(tell(&app, id, "ready", json!({})).await, "session_connected");
            was_idle(database, &later).await;
            assert_eq!(app.store.handovers().sweep().await.unwrap(), 0, "{id}");
            if has_code {
                // What comes late is of whoever was there before.
                let body = json!({
                    "event": "ready", "timestamp": at - 1,
                    "data": { "phoneNumber": NUMBER, "pushName": "Late" },
                });
                let path = format!("/api/whatsapp/webhook/{id}");
                let late = app.post(&path, body).await.json();
                assert_eq!(late["data"]["outdated"], true);
                assert_eq!(app.row(id).await.account_jid, None);
            }
            assert_eq!(migrated(&app, &later).await, Value::Null, "{id}");
            // A lost connection that is back is still the same account's.
            tell(&app, id, "ready", json!({ "phoneNumber": NUMBER })).await;
            assert_eq!(migrated(&app, &later).await, id);
            tell(&app, id, "change_state", json!({ "state": "TIMEOUT" })).await;
            tell(&app, id, "change_state", json!({ "state": "CONNECTED" })).await;
            assert!(app.row(id).await.account_jid.is_some());
            tell(&app, id, "disconnected", json!({ "reason": "LOGOUT" })).await;
        }
        app.close().await;
    })
    .await;
}

#[tokio::test]
async fn a_number_that_its_account_has_said_counts_when_a_lost_connection_is_back() {
    on_each(async |database| {
        let app = App::start(database).await;
        external(&app, "shop", json!({})).await;
        tell(&app, "shop", "ready", json!({ "phoneNumber": NUMBER })).await;
        for (round, (event, data)) in
            [("change_state", json!({ "state": "CONNECTED" })), ("ready", json!({}))]
                .into_iter()
                .enumerate()
        {
            // One has ended since, and one was never connected: no `ready` took over from them.
            let (ended, meant) = (format!("ended{round}"), format!("meant{round}"));
            app.clock.advance(Duration::from_secs(1));
            old(&app, &ended).await;
            let body = json!({ "sessionId": meant, "phoneNumber": NUMBER, "start": false });
            assert_eq!(app.post(SESSION, body).await.status, 201);
            assert_eq!(app.store.handovers().sweep().await.unwrap(), 0);
            // It goes on being connected, whatever it says again.
            tell(&app, "shop", event, data.clone()).await;
            assert_eq!(migrated(&app, &ended).await, Value::Null, "{event}");
            tell(&app, "shop", "change_state", json!({ "state": "TIMEOUT" })).await;
            assert_eq!(tell(&app, "shop", event, data).await, "session_connected");
            for id in [ended, meant] {
                assert_eq!(migrated(&app, &id).await, "shop", "{event}: {id}");
            }
        }
        app.session("here").await;
        // What has ended may be anybody's when it is back, however it comes back: its number is to be said then.
        for back in [
            ("change_state", json!({ "state": "OPENING" })),
            ("authenticated", json!({})),
            ("loading_screen", json!({ "percent": 5, "message": "Loading" })),
            ("qr", json!({ "qr": "2@x" })),
        ] {
            app.clock.advance(Duration::from_secs(1));
            tell(&app, "shop", "disconnected", json!({ "reason": "NAVIGATION" })).await;
            ready(&app, "here").await;
            assert_eq!(migrated(&app, "shop").await, "here");
            tell(&app, "shop", back.0, back.1).await;
            assert_eq!(tell(&app, "shop", "ready", json!({})).await, "session_connected");
            assert_eq!(migrated(&app, "shop").await, "here", "{}", back.0);
            tell(&app, "shop", "ready", json!({ "phoneNumber": NUMBER })).await;
            assert_eq!(migrated(&app, "shop").await, Value::Null, "{}", back.0);
        }
        app.close().await;
    })
    .await;
}

#[tokio::test]
async fn a_session_that_has_handed_over_and_is_at_work_again_is_in_the_lists() {
    on_each(async |database| {
        let app = App::start(database).await;
        external(&app, "vps", json!({})).await;
        tell(&app, "vps", "ready", json!({ "phoneNumber": NUMBER })).await;
        tell(&app, "vps", "disconnected", json!({ "reason": "LOGOUT" })).await;
        app.clock.advance(Duration::from_secs(1));
        app.session("here").await;
        ready(&app, "here").await;
        assert_eq!(listed(&app, "").await, (ids(["here"]), json!(1)));
        let taken_over = "Another session of the account has taken over: see migratedTo";
        assert_eq!(status(&app, "vps").await["message"], taken_over);
        for (event, data, filter) in [
            ("qr", json!({ "qr": "2@x" }), "needsQR"),
            ("loading_screen", json!({ "percent": 5, "message": "Loading" }), "loading"),
            ("ready", json!({}), "connected"),
        ] {
            tell(&app, "vps", event, data).await;
            assert_eq!(listed(&app, "").await, (ids(["here", "vps"]), json!(2)), "{event}");
            let (found, _) = listed(&app, &format!("?status={filter}")).await;
            assert!(found.contains("vps"), "{event}");
            let seen = status(&app, "vps").await;
            assert_eq!(seen["migratedTo"], "here", "its history is the other's");
            assert_ne!(seen["message"], taken_over, "{event}");
            assert_eq!(listed(&app, "?migrated=true").await.0, ids(["vps"]));
        }
        tell(&app, "vps", "disconnected", json!({ "reason": "LOGOUT" })).await;
        assert_eq!(listed(&app, "").await, (ids(["here"]), json!(1)));
        app.close().await;
    })
    .await;
}

#[tokio::test]
async fn an_acknowledgement_that_carries_a_message_of_the_old_session_does_not_announce_it_again() {
    on_each(async |database| {
        let app = App::start(database).await;
        for id in ["old", "new"] {
            external(&app, id, json!({})).await;
        }
        let own = |from: &str| {
            json!({
                "id": "3EB1", "from": from, "to": "4915110000001@c.us", "fromMe": true, "body": "x",
                "timestamp": app.clock.now().as_secs(),
            })
        };
        let message = own(&format!("{NUMBER}@c.us"));
        tell(&app, "old", "ready", json!({ "phoneNumber": NUMBER })).await;
        tell(&app, "old", "message_create", json!({ "message": message })).await;
        tell(&app, "old", "disconnected", json!({ "reason": "LOGOUT" })).await;
        tell(&app, "new", "ready", json!({ "phoneNumber": NUMBER })).await;
        // Also where the account is called by its hidden identity.
        for (message, level) in [(message, 2), (own("77001122334455@lid"), 3)] {
            app.clock.advance(Duration::from_secs(1));
            let told = app.tell("new", "message_ack", json!({ "message": message, "ack": level }));
            assert_eq!(told.await.json()["data"]["recorded"], true);
        }
        let names = crate::external_day::names(&app, "new").await;
        assert_eq!(names, ["ready", "message_ack", "message_ack"]);
        let page = app.get(&format!("{SESSION}/new/messages")).await.json();
        let rows = page["data"].as_array().unwrap();
        assert_eq!(rows.len(), 1, "{rows:?}");
        assert_eq!(rows[0]["ack"], 3);
        app.close().await;
    })
    .await;
}
