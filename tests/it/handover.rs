//! A session takes over from others of its account: at `ready`, in its transaction, and by hand.
//!
//! What a client would report is recorded through the store's one door. `handover_wire.rs` has the same with a
//! phone, and with daemons that are killed.

use std::collections::BTreeSet;

use entity::{
    id::{OrganizationId, SessionId},
    session,
    state::{DesiredState, SessionStatus},
};
use futures_util::future::join_all;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use wagate::{
    event::{Account, Change, Disconnect, Event, NewMessage},
    store::{Patience, Store, events::NewEvent, nodes::NewNode},
};

use crate::{
    database::{Kind, on, on_each, second_organization},
    http_app::{Answer, App},
    receiver::Receiver,
    webhooks_api::endpoint,
};

const NUMBER: &str = "15550001111";
const SESSION: &str = "/api/whatsapp/session";

fn account(number: &str, lid: Option<&str>) -> Account {
    Account {
        phone_number: Some(number.to_owned()),
        push_name: Some("Shop".to_owned()),
        jid: Some(format!("{number}@s.whatsapp.net")),
        lid: lid.map(str::to_owned),
    }
}

/// Has a session become connected with the number.
async fn ready(app: &App, id: &str) {
    app.happen(id, Event::Ready(account(NUMBER, None))).await;
}

async fn logged_out(app: &App, id: &str) {
    app.happen(id, Event::Disconnected(Disconnect::LoggedOut { code: Some(401) })).await;
}

/// A session that was connected with the number, and was logged out on the phone.
async fn old(app: &App, id: &str) {
    app.session(id).await;
    ready(app, id).await;
    logged_out(app, id).await;
}

async fn status(app: &App, id: &str) -> Value {
    app.get(&format!("{SESSION}/status/{id}")).await.json()["data"].clone()
}

async fn listed(app: &App, query: &str) -> (BTreeSet<String>, Value) {
    let list = app.get(&format!("{SESSION}/list-realtime{query}")).await.json();
    let data = list["data"].as_array().unwrap().iter();
    let ids = data.map(|it| it["sessionId"].as_str().unwrap().to_owned()).collect();
    (ids, list["summary"]["total"].clone())
}

fn ids<const N: usize>(ids: [&str; N]) -> BTreeSet<String> {
    ids.into_iter().map(str::to_owned).collect()
}

/// The handovers that the audit log has, as old and new session.
async fn audited(app: &App) -> Vec<(String, String)> {
    let log = app.get("/api/audit?action=session_migrated&limit=500").await.json();
    let entries = log["data"].as_array().unwrap().iter();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    entries.map(|it| (text(&it["target"]), text(&it["detail"]["to"]))).collect()
}

/// The handovers that the feed has, as old and new session.
async fn told(app: &App) -> Vec<(String, String)> {
    let page = app.get("/api/whatsapp/events/page?after=0&limit=1000").await.json();
    let events = page["data"].as_array().unwrap().iter();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    events
        .filter(|it| it["event"] == "session.migrated")
        .map(|it| (text(&it["sessionId"]), text(&it["data"]["migratedTo"])))
        .collect()
}

async fn migrate(app: &App, id: &str, body: Value) -> Answer {
    app.post(&format!("{SESSION}/{id}/migrate"), body).await
}

/// The whole history of a session by texts, page by page.
async fn history(app: &App, id: &str) -> Vec<String> {
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

async fn hear(app: &App, id: &str, message: &NewMessage) {
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
async fn another_organization_with_the_same_number_is_not_touched() {
    on_each(async |database| {
        let app = App::start(database).await;
        let other = second_organization(database).await;
        let theirs = app.token_of(&other, entity::state::Role::Admin).await;
        let make = json!({ "sessionId": "theirs", "phoneNumber": NUMBER, "start": false });
        let request = app.anonymous(Method::POST, SESSION).bearer_auth(&theirs);
        Answer::to(crate::http_app::json(request, &make)).await;
        let key = find(&app.store, &other, "theirs").await;
        old(&app, "ours").await;
        app.session("new").await;
        ready(&app, "new").await;
        assert_eq!(status(&app, "ours").await["migratedTo"], "new");
        assert_eq!(find(&app.store, &other, "theirs").await, key);

        // Nor can it be named.
        let refused = migrate(&app, "new", json!({ "from": ["ours", "theirs"] })).await;
        refused.invalid(&["/from/1"]);
        let path = format!("{SESSION}/new/migrate");
        let request = app.anonymous(Method::POST, &path).bearer_auth(&theirs);
        Answer::to(crate::http_app::json(request, &json!({})))
            .await
            .problem(404, "SESSION_NOT_FOUND");
        assert_eq!(find(&app.store, &other, "theirs").await, key);
        app.close().await;
    })
    .await;
}

async fn find(store: &Store, organization: &OrganizationId, id: &str) -> session::Model {
    store.sessions().find(organization, &id.parse().unwrap()).await.unwrap().unwrap()
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

#[tokio::test]
async fn what_runs_or_is_another_account_s_is_left_alone() {
    on_each(async |database| {
        let app = App::start(database).await;
        let reconnecting = Event::ChangeState(Change::Connecting);
        for id in ["connecting", "scanned", "connected", "owned", "recycled"] {
            app.session(id).await;
        }
        // So that none takes over from the others.
        app.happen("recycled", Event::Ready(account(NUMBER, Some("1@lid")))).await;
        for id in ["connecting", "scanned", "owned"] {
            app.happen(id, Event::Ready(account(NUMBER, Some("2@lid")))).await;
        }
        app.happen("connected", Event::Ready(account(NUMBER, Some("2@lid")))).await;
        app.happen("connecting", reconnecting).await;
        app.show_qr("scanned", "2@code").await;
        logged_out(&app, "recycled").await;
        logged_out(&app, "owned").await;
        let node = NewNode { home: "there".to_owned(), name: "there".to_owned(), lease: None };
        let node = app.store.nodes().join(node).await.unwrap();
        let key = app.row("owned").await.id;
        let lease = app.store.leases().claim(&node, vec![key]).await.unwrap().remove(0);

        app.session("new").await;
        app.happen("new", Event::Ready(account(NUMBER, Some("2@lid")))).await;
        for id in ["connecting", "scanned", "connected", "owned", "recycled"] {
            assert_eq!(app.row(id).await.migrated_to, None, "{id}");
        }
        assert!(audited(&app).await.is_empty());

        let skipped = migrate(&app, "new", json!({})).await.json()["data"]["skipped"].clone();
        let skipped: BTreeSet<_> = skipped
            .as_array()
            .unwrap()
            .iter()
            .map(|it| (it["sessionId"].as_str().unwrap(), it["reason"].as_str().unwrap()))
            .collect();
        let running = ["connecting", "scanned", "connected", "owned"].map(|id| (id, "running"));
        let mut expected = BTreeSet::from(running);
        expected.insert(("recycled", "other_account"));
        assert_eq!(skipped, expected);

        // Nobody runs it any more.
        app.store.leases().release(&lease).await.unwrap();
        app.happen("new", Event::Ready(account(NUMBER, Some("2@lid")))).await;
        assert_eq!(audited(&app).await, [("owned".to_owned(), "new".to_owned())]);
        app.close().await;
    })
    .await;
}

#[tokio::test]
async fn by_hand_a_dry_run_says_what_comes_of_it_and_changes_nothing() {
    on_each(async |database| {
        let app = App::start(database).await;
        let body = json!({ "url": "https://receiver.test/", "session_ids": ["old"] });
        let (chooses, _) = endpoint(&app, body).await;
        app.session("new").await;
        ready(&app, "new").await;
        // It is no longer connected when `new` is not told of it any more.
        app.session("old").await;
        ready(&app, "old").await;
        app.hear("old", "15550002222", "one").await;
        app.hear("old", "15550002222", "two").await;
        app.patch(&format!("{SESSION}/old"), json!({ "isNotification": false })).await;
        app.post("/api/campaigns", json!({ "name": "Sale", "sessionId": "old" })).await;
        logged_out(&app, "old").await;

        let look = async || {
            let tables =
                ["session", "webhook_endpoint", "campaign", "audit", "webhook_event", "event"];
            let mut counts = Vec::new();
            for table in tables {
                counts.push(database.count(&format!("SELECT count(*) FROM {table}")).await);
            }
            let webhook = app.get(&format!("/api/webhooks/{chooses}")).await.json();
            (counts, app.row("old").await, app.row("new").await, webhook)
        };
        let before = look().await;
        let would = migrate(&app, "new", json!({ "dryRun": true })).await.json()["data"].clone();
        assert_eq!(
            would,
            json!({
                "sessionId": "new", "dryRun": true, "skipped": [],
                "migrated": [{
                    "sessionId": "old", "messages": 2, "settings": ["isNotification"],
                    "webhooks": [chooses], "campaigns": 1,
                }],
            })
        );
        assert_eq!(look().await, before);

        let did = migrate(&app, "new", json!({ "from": ["old"] })).await.json()["data"].clone();
        assert_eq!(did["migrated"], would["migrated"]);
        assert_eq!(status(&app, "old").await["migratedTo"], "new");
        assert_eq!(status(&app, "new").await["isNotification"], false);
        assert_eq!(app.row("new").await.is_notification, Some(false));
        assert_eq!(told(&app).await.len(), 1);
        let entry = app.get("/api/audit?action=session_migrated").await.json()["data"][0].clone();
        assert!(entry["tokenId"].is_string(), "somebody did it: {entry}");
        app.close().await;
    })
    .await;
}

#[tokio::test]
async fn by_hand_what_cannot_be_is_refused_as_a_whole() {
    on_each(async |database| {
        let app = App::start(database).await;
        app.session("new").await;
        migrate(&app, "new", json!({})).await.problem(409, "SESSION_NEVER_CONNECTED");
        ready(&app, "new").await;
        app.session("runs").await;
        ready(&app, "runs").await;
        app.session("idle").await;
        ready(&app, "idle").await;
        logged_out(&app, "idle").await;
        let other = json!({ "sessionId": "other", "phoneNumber": "15550009999", "start": false });
        app.post(SESSION, other).await;
        app.session("none").await;

        let from = json!({ "from": ["idle", "runs", "other", "none", "new"] });
        for dry_run in [true, false] {
            let mut body = from.clone();
            body["dryRun"] = dry_run.into();
            let problem = migrate(&app, "new", body).await.problem(409, "MIGRATION_REFUSED");
            let why: BTreeSet<_> = problem["sessions"]
                .as_array()
                .unwrap()
                .iter()
                .map(|it| (it["sessionId"].as_str().unwrap(), it["reason"].as_str().unwrap()))
                .collect();
            let expected = BTreeSet::from([
                ("runs", "running"),
                ("other", "other_number"),
                ("none", "other_number"),
                ("new", "itself"),
            ]);
            assert_eq!(why, expected);
            assert_eq!(app.row("idle").await.migrated_to, None);
        }
        migrate(&app, "new", json!({ "from": [] })).await.invalid(&["/from"]);
        migrate(&app, "new", json!({ "from": ["idle", "no-such"] })).await.invalid(&["/from/1"]);
        migrate(&app, "new", json!({ "from": ["a b"] })).await.invalid(&["/from/0"]);
        migrate(&app, "new", json!({ "from": "idle" })).await.invalid(&["/from"]);
        migrate(&app, "new", json!({ "dryRun": "yes" })).await.invalid(&["/dryRun"]);
        migrate(&app, "nobody", json!({})).await.problem(404, "SESSION_NOT_FOUND");

        // To another one than where it has gone.
        migrate(&app, "new", json!({ "from": ["idle"] })).await;
        let elsewhere = migrate(&app, "runs", json!({ "from": ["idle"] })).await;
        let problem = elsewhere.problem(409, "MIGRATION_REFUSED");
        assert_eq!(problem["sessions"][0]["reason"], "migrated_elsewhere");
        app.close().await;
    })
    .await;
}

#[tokio::test]
async fn the_history_of_all_is_read_through_the_new_session_each_message_once_and_in_order() {
    on_each(async |database| {
        let app = App::start(database).await;
        let mut texts = Vec::new();
        let mut shared = None;
        for id in ["a", "b", "c"] {
            app.session(id).await;
            ready(&app, id).await;
            // Those before have handed over to it, and what they had is part of what it has.
            for n in 0..3 {
                app.clock.advance(std::time::Duration::from_millis(1));
                let text = format!("{id}{n}");
                let message = app.message("15550002222", &text);
                hear(&app, id, &message).await;
                texts.push(text);
                shared.get_or_insert(message);
            }
            // The phone hands over what another session has had.
            let before = shared.clone().unwrap();
            hear(&app, id, &NewMessage { id: app.message("1", "").id, ..before }).await;
            logged_out(&app, id).await;
        }
        texts.reverse();
        assert_eq!(history(&app, "c").await, texts);
        assert_eq!(app.row("a").await.migrated_to, Some(app.row("c").await.id));
        assert_eq!(status(&app, "c").await["migratedFrom"], json!(["b", "a"]));

        // By its id through either; the old session has still what it had.
        let first = shared.unwrap().id;
        for id in ["a", "c"] {
            let seen = app.get(&format!("{SESSION}/{id}/messages/{first}")).await.json();
            assert_eq!(
                (&seen["data"]["body"], &seen["data"]["sessionId"]),
                (&json!("a0"), &json!(id))
            );
        }
        app.get(&format!("{SESSION}/b/messages/{first}")).await.problem(404, "MESSAGE_NOT_FOUND");
        let filtered = app
            .get(&format!("{SESSION}/c/messages?chat=15550002222&direction=inbound"))
            .await
            .json();
        assert_eq!(filtered["data"].as_array().unwrap().len(), texts.len());
        app.close().await;
    })
    .await;
}

#[tokio::test]
async fn two_sessions_that_become_ready_at_once_do_not_take_each_other_for_idle() {
    on_each(async |database| {
        let app = App::start(database).await;
        old(&app, "old").await;
        let names: Vec<_> = (0..6).map(|n| format!("new{n}")).collect();
        for name in &names {
            app.session(name).await;
        }
        join_all(names.iter().map(|name| ready(&app, name))).await;
        for name in &names {
            let row = app.row(name).await;
            assert_eq!((row.status, row.migrated_to), (SessionStatus::SessionConnected, None));
        }
        // One of them has what the old one had.
        assert_eq!(audited(&app).await.len(), 1);
        assert_eq!(told(&app).await.len(), 1);
        app.close().await;
    })
    .await;
}

#[tokio::test]
async fn of_two_daemons_whose_sessions_become_ready_at_once_neither_waits_for_the_other_for_ever() {
    on(Kind::Postgres, async |database| {
        let app = App::start(database).await;
        let other = database.open().await;
        for round in 0..8 {
            let [old_id, one, two] = ["old", "one", "two"].map(|name| format!("{name}{round}"));
            old(&app, &old_id).await;
            app.session(&one).await;
            app.session(&two).await;
            let event = async |store: &Store, id: &str| {
                let new = NewEvent {
                    organization_id: app.organization.clone(),
                    session_key: app.row(id).await.id,
                    generation: None,
                    event: Event::Ready(account(NUMBER, None)),
                    at: app.clock.now(),
                    care: None,
                    posted: None,
                };
                store.writer().record(new, Patience::Fail).await.unwrap();
            };
            tokio::join!(event(&app.store, &one), event(&other.store, &two));
            for id in [&one, &two] {
                let row = app.row(id).await;
                assert_eq!(
                    (row.status, &row.migrated_to),
                    (SessionStatus::SessionConnected, &None)
                );
            }
            // What is connected hands over to nobody, so that each round begins anew.
            logged_out(&app, &one).await;
            logged_out(&app, &two).await;
        }
        // Each round's old one and the two of each round before, one by one.
        let audited = audited(&app).await;
        let distinct: BTreeSet<_> = audited.iter().map(|(old, _)| old).collect();
        assert_eq!(distinct.len(), audited.len(), "{audited:?}");
        other.close().await;
        app.close().await;
    })
    .await;
}

#[tokio::test]
async fn a_start_and_a_handover_at_the_same_moment_have_one_winner() {
    on_each(async |database| {
        let app = App::start(database).await;
        let (mut started, mut handed_over) = (0, 0);
        for round in 0..12 {
            let (old_id, new) = (format!("old{round}"), format!("new{round}"));
            // A number of its own, so that rounds have nothing to do with each other.
            let number = format!("1555001{round:04}");
            app.session(&old_id).await;
            app.happen(&old_id, Event::Ready(account(&number, None))).await;
            logged_out(&app, &old_id).await;
            app.session(&new).await;
            let path = format!("{SESSION}/{old_id}/start");
            let (answer, _) = tokio::join!(app.post(&path, json!({})), async {
                // Neither always comes first.
                for _ in 0..(round * 3) {
                    tokio::task::yield_now().await;
                }
                app.happen(&new, Event::Ready(account(&number, None))).await
            });
            let row = app.row(&old_id).await;
            if row.migrated_to.is_some() {
                let problem = answer.json();
                assert!(problem["code"] == "SESSION_MIGRATED" || answer.status == 503, "{problem}");
                assert_eq!(row.desired_state, DesiredState::Stopped);
                assert_eq!(row.status, SessionStatus::SessionNotConnected, "it does not run");
                handed_over += 1;
            } else {
                assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
                assert_eq!(row.desired_state, DesiredState::Running);
                started += 1;
                app.post(&format!("{SESSION}/{old_id}/stop"), json!({})).await;
            }
        }
        assert_eq!(started + handed_over, 12);
        app.close().await;
    })
    .await;
}

#[tokio::test]
async fn settings_are_set_changed_cleared_and_bounded() {
    on_each(async |database| {
        let app = App::start(database).await;
        let body = json!({
            "sessionId": "shop", "start": false, "isNotification": true,
            "aiConfig": { "prompt": "Be kind\u{0}", "depth": { "n": [1, 2.5, null] } },
        });
        let made = app.post(SESSION, body.clone()).await;
        assert_eq!(made.status, StatusCode::CREATED, "{}", made.text());
        let made = made.json()["data"].clone();
        assert_eq!((&made["isNotification"], &made["aiConfig"]), (&json!(true), &body["aiConfig"]));
        app.session("plain").await;
        let plain = status(&app, "plain").await;
        assert_eq!((&plain["isNotification"], &plain["aiConfig"]), (&json!(false), &Value::Null));

        let path = format!("{SESSION}/shop");
        let changed = app.patch(&path, json!({ "isNotification": false })).await.json();
        assert_eq!(changed["data"]["isNotification"], false);
        assert_eq!(changed["data"]["aiConfig"], body["aiConfig"]);
        let cleared = app.patch(&path, json!({ "aiConfig": null })).await.json();
        assert_eq!(cleared["data"]["aiConfig"], Value::Null);
        let entry = app.get("/api/audit?action=session_changed&limit=1").await.json();
        assert_eq!(entry["data"][0]["detail"], json!({ "changed": ["aiConfig"] }));

        for (name, wrong) in [
            ("isNotification", json!("yes")),
            ("isNotification", json!(1)),
            ("aiConfig", json!([])),
            ("aiConfig", json!("{}")),
            ("aiConfig", json!({ "long": "x".repeat(16 << 10) })),
        ] {
            let pointer = format!("/{name}");
            let body = json!({ name: wrong });
            app.patch(&path, body.clone()).await.invalid(&[&pointer]);
            app.post(SESSION, body).await.invalid(&[&pointer]);
        }
        let longest = "x".repeat((16 << 10) - 11);
        let kept = app.patch(&path, json!({ "aiConfig": { "long": longest } })).await;
        assert_eq!(kept.status, StatusCode::OK, "{}", kept.text());

        // A repeated request is the same only with the same settings.
        let keyed = async |body: &Value| {
            let request = app.request(Method::POST, SESSION).header("idempotency-key", "k");
            Answer::to(crate::http_app::json(request, body)).await
        };
        let body = json!({ "start": false, "aiConfig": { "a": 1 } });
        let first = keyed(&body).await.json()["data"]["sessionId"].clone();
        assert_eq!(keyed(&body).await.json()["data"]["sessionId"], first);
        let other = keyed(&json!({ "start": false, "aiConfig": { "a": 2 } })).await;
        other.problem(422, "IDEMPOTENCY_KEY_REUSED");
        app.close().await;
    })
    .await;
}

#[tokio::test]
async fn campaigns_are_made_once_found_again_and_outlive_their_session() {
    on_each(async |database| {
        let app = App::start(database).await;
        app.session("shop").await;
        let keyed = async |body: &Value| {
            let request =
                app.request(Method::POST, "/api/campaigns").header("idempotency-key", "k");
            Answer::to(crate::http_app::json(request, body)).await
        };
        let body = json!({ "name": "Sale", "sessionId": "shop" });
        let made = keyed(&body).await;
        assert_eq!(made.status, StatusCode::CREATED, "{}", made.text());
        let made = made.json()["data"].clone();
        assert!(made["id"].as_str().unwrap().starts_with("camp_"));
        let again = keyed(&body).await;
        assert_eq!((again.status, &again.json()["data"]), (StatusCode::OK, &made));
        keyed(&json!({ "name": "Other" })).await.problem(422, "IDEMPOTENCY_KEY_REUSED");
        let path = format!("/api/campaigns/{}", made["id"].as_str().unwrap());
        assert_eq!(app.get(&path).await.json()["data"], made);

        app.post("/api/campaigns", json!({})).await.invalid(&["/name"]);
        app.post("/api/campaigns", json!({ "name": "" })).await.invalid(&["/name"]);
        app.post("/api/campaigns", json!({ "name": "x", "sessionId": "a b" }))
            .await
            .invalid(&["/sessionId"]);
        let nobody = json!({ "name": "x", "sessionId": "nobody" });
        app.post("/api/campaigns", nobody).await.problem(404, "SESSION_NOT_FOUND");
        app.get("/api/campaigns/camp_nonsense").await.problem(404, "CAMPAIGN_NOT_FOUND");

        app.delete(&format!("{SESSION}/shop?logout=false")).await;
        assert_eq!(app.get(&path).await.json()["data"]["sessionId"], Value::Null);
        app.close().await;
    })
    .await;
}

#[tokio::test]
async fn old_sessions_are_none_that_an_organization_may_not_have_more_of() {
    on_each(async |database| {
        let app = App::start(database).await;
        let path = format!("/api/organizations/{}", app.organization);
        app.patch(&path, json!({ "maxSessions": 2 })).await;
        old(&app, "old").await;
        app.session("new").await;
        let third = json!({ "sessionId": "third", "start": false });
        app.post(SESSION, third.clone()).await.problem(409, "TOO_MANY_SESSIONS");
        ready(&app, "new").await;
        assert_eq!(app.post(SESSION, third).await.status, StatusCode::CREATED);
        app.close().await;
    })
    .await;
}
