//! A session takes over from others of its account at `ready`, in the transaction of the event.
//!
//! What a client would report is recorded through the store's one door. `handover_left.rs` has who is left alone,
//! `handover_by_hand.rs` what is asked for, `handover_at_once.rs` several at one moment, `handover_history.rs` the history of
//! all, `handover_external.rs` sessions that run elsewhere, `handover_place.rs` one that comes back with its heir, and
//! `handover_wire.rs` a phone, and daemons that are killed.

use std::collections::BTreeSet;

use entity::{id::SessionId, state::DesiredState};
use reqwest::StatusCode;
use serde_json::{Value, json};
use wagate::event::{Account, Disconnect, Event, NewMessage};

use crate::{
    database::on_each,
    http_app::{Answer, App},
    receiver::Receiver,
    webhooks_api::endpoint,
};

pub(crate) const NUMBER: &str = "15550001111";
pub(crate) const SESSION: &str = "/api/whatsapp/session";

pub(crate) fn account(number: &str, lid: Option<&str>) -> Account {
    Account {
        phone_number: Some(number.to_owned()),
        push_name: Some("Shop".to_owned()),
        jid: Some(format!("{number}@s.whatsapp.net")),
        lid: lid.map(str::to_owned),
    }
}

/// Has a session become connected with the number.
pub(crate) async fn ready(app: &App, id: &str) {
    app.happen(id, Event::Ready(account(NUMBER, None))).await;
}

pub(crate) async fn logged_out(app: &App, id: &str) {
    app.happen(id, Event::Disconnected(Disconnect::LoggedOut { code: Some(401) })).await;
}

/// A session that was connected with the number, and was logged out on the phone.
pub(crate) async fn old(app: &App, id: &str) {
    app.session(id).await;
    ready(app, id).await;
    logged_out(app, id).await;
}

pub(crate) async fn status(app: &App, id: &str) -> Value {
    app.get(&format!("{SESSION}/status/{id}")).await.json()["data"].clone()
}

pub(crate) async fn listed(app: &App, query: &str) -> (BTreeSet<String>, Value) {
    let list = app.get(&format!("{SESSION}/list-realtime{query}")).await.json();
    let data = list["data"].as_array().unwrap().iter();
    let ids = data.map(|it| it["sessionId"].as_str().unwrap().to_owned()).collect();
    (ids, list["summary"]["total"].clone())
}

pub(crate) fn ids<const N: usize>(ids: [&str; N]) -> BTreeSet<String> {
    ids.into_iter().map(str::to_owned).collect()
}

/// The handovers that the audit log has, as old and new session.
pub(crate) async fn audited(app: &App) -> Vec<(String, String)> {
    let log = app.get("/api/audit?action=session_migrated&limit=500").await.json();
    let entries = log["data"].as_array().unwrap().iter();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    entries.map(|it| (text(&it["target"]), text(&it["detail"]["to"]))).collect()
}

/// The handovers that the feed has, as old and new session.
pub(crate) async fn told(app: &App) -> Vec<(String, String)> {
    let page = app.get("/api/whatsapp/events/page?after=0&limit=1000").await.json();
    let events = page["data"].as_array().unwrap().iter();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    events
        .filter(|it| it["event"] == "session.migrated")
        .map(|it| (text(&it["sessionId"]), text(&it["data"]["migratedTo"])))
        .collect()
}

pub(crate) async fn migrate(app: &App, id: &str, body: Value) -> Answer {
    app.post(&format!("{SESSION}/{id}/migrate"), body).await
}

/// The whole history of a session by texts, page by page.
pub(crate) async fn history(app: &App, id: &str) -> Vec<String> {
    let (mut texts, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = app.get(&format!("{SESSION}/{id}/messages?limit=2{cursor}")).await.json();
        let data = page["data"].as_array().unwrap();
        assert!(data.len() <= 2);
        texts.extend(data.iter().map(|it| it["body"].as_str().unwrap().to_owned()));
        match page["nextCursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return texts,
        }
    }
}

pub(crate) async fn hear(app: &App, id: &str, message: &NewMessage) {
    app.happen(id, Event::Message(Box::new(message.clone()))).await;
}

#[tokio::test]
async fn three_old_sessions_hand_over_all_they_have_when_a_new_one_becomes_ready() {
    on_each(async |database| {
        let app = App::start(database).await;
        let receiver = Receiver::start().await;
        // One was made for the number and never linked, two were, the second later than the first.
        let meant = json!({ "sessionId": "meant", "phoneNumber": NUMBER, "start": false });
        app.post(SESSION, meant).await;
        for id in ["first", "second"] {
            app.clock.advance(std::time::Duration::from_secs(1));
            app.session(id).await;
            ready(&app, id).await;
            app.hear(id, "15550002222", &format!("to {id}")).await;
        }
        let settings = json!({ "isNotification": true, "aiConfig": { "model": "first" } });
        app.patch(&format!("{SESSION}/first"), settings).await;
        app.patch(&format!("{SESSION}/second"), json!({ "aiConfig": { "model": "second" } })).await;
        for id in ["first", "second"] {
            logged_out(&app, id).await;
        }
        let body = json!({
            "url": receiver.url(), "event_types": ["session.*"], "session_ids": ["first", "other"],
            "ordering": "strict",
        });
        let (chooses, _) = endpoint(&app, body).await;
        let body = json!({ "url": receiver.url(), "session_ids": ["other"] });
        let (does_not, _) = endpoint(&app, body).await;
        let body = json!({ "name": "Sale", "sessionId": "second" });
        let campaign = app.post("/api/campaigns", body).await.json()["data"]["id"].clone();

        app.session("new").await;
        app.patch(&format!("{SESSION}/new"), json!({ "userId": "u" })).await;
        ready(&app, "new").await;

        for id in ["meant", "first", "second"] {
            let seen = status(&app, id).await;
            assert_eq!(seen["migratedTo"], "new", "{seen}");
            assert!(seen["migratedAt"].is_string() && seen["isConnected"] == false);
            assert_eq!(
                seen["message"],
                "Another session of the account has taken over: see migratedTo"
            );
            assert_eq!(app.row(id).await.desired_state, DesiredState::Stopped);
        }
        let seen = status(&app, "new").await;
        let from: BTreeSet<_> = seen["migratedFrom"]
            .as_array()
            .unwrap()
            .iter()
            .map(|it| it.as_str().unwrap())
            .collect();
        assert_eq!(from, BTreeSet::from(["first", "meant", "second"]));
        assert_eq!((&seen["isConnected"], &seen["migratedTo"]), (&json!(true), &Value::Null));
        // Of the last one that was connected where it has a setting, of the one before where not.
        assert_eq!(seen["aiConfig"], json!({ "model": "second" }));
        assert_eq!(seen["isNotification"], true);
        assert_eq!(seen["userId"], "u");

        let chosen = app.get(&format!("/api/webhooks/{chooses}")).await.json()["data"].clone();
        assert_eq!(chosen["session_ids"], json!(["first", "other", "new"]));
        let chosen = app.get(&format!("/api/webhooks/{does_not}")).await.json()["data"].clone();
        assert_eq!(chosen["session_ids"], json!(["other"]));
        let campaign = campaign.as_str().unwrap();
        let campaign = app.get(&format!("/api/campaigns/{campaign}")).await.json()["data"].clone();
        assert_eq!(campaign["sessionId"], "new");
        let of_new = app.get("/api/campaigns?sessionId=new").await.json();
        assert_eq!(of_new["data"].as_array().unwrap().len(), 1);
        assert_eq!(history(&app, "new").await, ["to second", "to first"]);

        // What was chosen by the old session counts for the very event that brought the handover.
        app.deliveries.drive().await.unwrap();
        let types: Vec<_> =
            receiver.requests().iter().map(|it| it.json()["type"].clone()).collect();
        assert_eq!(types, ["session.ready", "session.migrated"]);
        let body = receiver.requests()[1].json();
        let data = &body["data"];
        assert_eq!((&data["sessionId"], &data["migratedTo"]), (&json!("first"), &json!("new")));
        assert_eq!(
            (&data["reason"], &data["phoneNumber"]),
            (&json!("handed_over"), &json!(NUMBER))
        );

        assert_eq!(listed(&app, "").await, (ids(["new"]), json!(1)));
        let migrated = ids(["meant", "first", "second"]);
        assert_eq!(listed(&app, "?migrated=true").await, (migrated, json!(3)));
        let all = ids(["meant", "first", "second", "new"]);
        assert_eq!(listed(&app, "?migrated=include").await, (all, json!(4)));
        assert_eq!(listed(&app, "?migrated=true&limit=2").await.0.len(), 2);
        let item = app.get(&format!("{SESSION}/list-realtime?migrated=true")).await.json();
        assert_eq!(item["data"][0]["migratedTo"], "new");

        let told: BTreeSet<_> = told(&app).await.into_iter().collect();
        assert_eq!(told.len(), 3);
        assert_eq!(audited(&app).await.into_iter().collect::<BTreeSet<_>>(), told);
        app.close().await;
    })
    .await;
}

#[tokio::test]
async fn a_session_that_has_handed_over_is_started_by_nothing_and_says_where_to_go() {
    on_each(async |database| {
        let app = App::start(database).await;
        old(&app, "old").await;
        app.session("new").await;
        ready(&app, "new").await;
        for (what, body) in [
            ("start", json!({})),
            ("restart", json!({})),
            ("pair", json!({ "phoneNumber": NUMBER })),
            ("messages", json!({ "to": "15550002222", "text": "x", "queue": true })),
            ("migrate", json!({})),
        ] {
            let answer = app.post(&format!("{SESSION}/old/{what}"), body).await;
            let problem = answer.problem(409, "SESSION_MIGRATED");
            assert_eq!(problem["migratedTo"], "new", "{what}");
        }
        let body = json!({ "name": "Sale", "sessionId": "old" });
        let problem = app.post("/api/campaigns", body).await.problem(409, "SESSION_MIGRATED");
        assert_eq!(problem["migratedTo"], "new");
        assert_eq!(app.row("old").await.desired_state, DesiredState::Stopped);
        // What ends is allowed.
        assert_eq!(
            app.post(&format!("{SESSION}/old/stop"), json!({})).await.status,
            StatusCode::OK
        );

        // Nor does a daemon that looks what nobody runs.
        assert!(
            app.store
                .leases()
                .neglected()
                .await
                .unwrap()
                .iter()
                .all(|row| { row.session_id != "old".parse::<SessionId>().unwrap() })
        );

        // The heir is deleted: the old session is what it was, with what it had.
        app.hear("new", "15550002222", "to new").await;
        app.delete(&format!("{SESSION}/new?logout=false")).await;
        let seen = status(&app, "old").await;
        assert_eq!((&seen["migratedTo"], &seen["migratedAt"]), (&Value::Null, &Value::Null));
        assert_eq!(seen["lastDisconnect"]["reason"], "logged_out");
        assert_eq!(listed(&app, "").await.0, ids(["old"]));
        assert_eq!(
            app.post(&format!("{SESSION}/old/start"), json!({})).await.status,
            StatusCode::OK
        );
        app.close().await;
    })
    .await;
}

#[tokio::test]
async fn twice_in_a_row_is_the_same_as_once() {
    on_each(async |database| {
        let app = App::start(database).await;
        let (chooses, _) =
            endpoint(&app, json!({ "url": "https://receiver.test/", "session_ids": ["old"] }))
                .await;
        old(&app, "old").await;
        app.session("new").await;
        ready(&app, "new").await;
        let look = async || {
            let webhook = app.get(&format!("/api/webhooks/{chooses}")).await.json();
            (app.row("old").await, webhook, audited(&app).await, told(&app).await)
        };
        let before = look().await;
        app.clock.advance(std::time::Duration::from_secs(5));
        ready(&app, "new").await;
        let again = migrate(&app, "new", json!({})).await.json()["data"].clone();
        assert_eq!((&again["migrated"], &again["skipped"]), (&json!([]), &json!([])));
        let again = migrate(&app, "new", json!({ "from": ["old"] })).await.json()["data"].clone();
        assert_eq!(again["migrated"], json!([]));
        assert_eq!(look().await, before);
        assert_eq!(before.2.len(), 1);
        app.close().await;
    })
    .await;
}
