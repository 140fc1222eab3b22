//! Sessions that run elsewhere take over, and are taken over: by what their clients post, in the transaction of it.

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};
use wagate_simulator::{Options, Simulator};

use crate::{
    database::{Database, Kind, on_each},
    handover::{NUMBER, SESSION, audited, old, status, told},
    http_app::{Answer, App, STATUS_KEY, json as with_json},
    process::{Installation, KILL_AT, aborted},
    webhooks_api::endpoint,
    world::DEADLINE,
};

/// How a client elsewhere says that it is connected.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Way {
    /// Seed 001: `ready`, with whose session it is.
    Ready,
    /// The same, as whatsapp-web.js has it in `info`.
    Info,
    /// Seed 000, by what the session is called where it runs.
    Status,
}

const WAYS: [Way; 3] = [Way::Ready, Way::Info, Way::Status];

async fn report(app: &App, id: &str, body: &Value) -> Answer {
    let mut body = body.clone();
    body["sessionId"] = json!(format!("wa_{id}"));
    let request = app.anonymous(Method::POST, "/api/whatsapp/status-webhook");
    Answer::to(with_json(request, &body).header("webhook-secret-key", STATUS_KEY)).await
}

/// Has the client of an external session say that it is connected.
async fn connect(app: &App, id: &str, number: &str, way: Way) -> Value {
    let said = match way {
        Way::Ready => app.tell(id, "ready", json!({ "phoneNumber": number })).await,
        Way::Info => {
            let wid = json!({ "user": number, "_serialized": format!("{number}@c.us") });
            app.tell(id, "ready", json!({ "info": { "wid": wid } })).await
        }
        Way::Status => {
            report(app, id, &json!({ "status": "connected", "phoneNumber": number })).await
        }
    };
    assert_eq!(said.status, 200, "{}", said.text());
    said.json()["data"].clone()
}

/// An external session, of which its maker has said whose it is.
async fn external(app: &App, id: &str, number: &str) {
    let data = json!({ "vps_session_id": format!("wa_{id}") });
    app.external(id, json!({ "sessionData": data, "phoneNumber": number })).await;
}

#[tokio::test]
async fn an_external_session_that_becomes_connected_takes_over_however_it_is_said() {
    on_each(async |database| {
        let app = App::start(database).await;
        let mut round = 0;
        for way in WAYS {
            for old_runs_elsewhere in [false, true] {
                round += 1;
                let what = format!("{way:?}, from elsewhere: {old_runs_elsewhere}");
                let number = format!("1555007{round:04}");
                let (old, new) = (format!("old{round}"), format!("new{round}"));
                if old_runs_elsewhere {
                    external(&app, &old, &number).await;
                    connect(&app, &old, &number, Way::Ready).await;
                    app.tell(&old, "disconnected", json!({ "reason": "LOGOUT" })).await;
                } else {
                    let body = json!({ "sessionId": old, "phoneNumber": number, "start": false });
                    app.post(SESSION, body).await;
                }
                let settings = json!({ "isNotification": true, "aiConfig": { "of": old } });
                app.patch(&format!("{SESSION}/{old}"), settings).await;
                let body = json!({ "url": "https://receiver.test/", "session_ids": [old] });
                let (chooses, _) = endpoint(&app, body).await;
                let body = json!({ "name": "Sale", "sessionId": old });
                let campaign = app.post("/api/campaigns", body).await.json()["data"].clone();
                app.hear(&old, "15550002222", &what).await;

                external(&app, &new, &number).await;
                app.clock.advance(Duration::from_secs(1));
                let said = connect(&app, &new, &number, way).await;
                assert_eq!(said["status"], "session_connected", "{what}");
                assert_eq!(status(&app, &old).await["migratedTo"], json!(new), "{what}");
                let seen = status(&app, &new).await;
                assert_eq!(seen["migratedFrom"], json!([old]), "{what}");
                assert_eq!(seen["isNotification"], true);
                assert_eq!(seen["aiConfig"], json!({ "of": old }));
                let webhook = app.get(&format!("/api/webhooks/{chooses}")).await.json();
                assert_eq!(webhook["data"]["session_ids"], json!([old, new]));
                let campaign = format!("/api/campaigns/{}", campaign["id"].as_str().unwrap());
                assert_eq!(app.get(&campaign).await.json()["data"]["sessionId"], json!(new));
                let path = format!("{SESSION}/{new}/messages");
                let history = app.get(&path).await.json()["data"].clone();
                assert_eq!(history[0]["body"], json!(what));

                // Said again, in another way, it is the same as once.
                app.clock.advance(Duration::from_secs(1));
                connect(&app, &new, &number, Way::Status).await;
                let pair = (old.clone(), new.clone());
                for list in [audited(&app).await, told(&app).await] {
                    assert_eq!(list.iter().filter(|it| **it == pair).count(), 1, "{what}");
                }
            }
        }
        assert_eq!(audited(&app).await.len(), round);
        app.close().await;
    })
    .await;
}

#[tokio::test]
async fn an_embedded_session_that_becomes_ready_takes_over_from_an_external_one_that_may_come_back()
{
    on_each(async |database| {
        let app = App::start(database).await;
        external(&app, "vps", NUMBER).await;
        connect(&app, "vps", NUMBER, Way::Ready).await;
        app.tell("vps", "disconnected", json!({ "reason": "LOGOUT" })).await;
        app.clock.advance(Duration::from_secs(1));
        old(&app, "here").await;
        assert_eq!(status(&app, "vps").await["migratedTo"], "here");
        // Nobody here starts what runs elsewhere, and nobody here keeps it from coming back.
        app.clock.advance(Duration::from_secs(1));
        connect(&app, "vps", NUMBER, Way::Ready).await;
        assert_eq!(status(&app, "vps").await["migratedTo"], Value::Null);
        assert_eq!(status(&app, "here").await["migratedTo"], "vps");
        let expected = [("vps", "here"), ("here", "vps")];
        let mut audited = audited(&app).await;
        audited.reverse();
        assert_eq!(audited, expected.map(|(a, b)| (a.to_owned(), b.to_owned())));
        app.close().await;
    })
    .await;
}

#[tokio::test]
async fn whose_a_connected_session_is_may_be_told_late_and_counts_all_the_same() {
    on_each(async |database| {
        let app = App::start(database).await;
        old(&app, "old").await;
        app.clock.advance(Duration::from_mins(1));
        app.external("new", json!({})).await;
        let now = app.clock.now().as_secs();
        let post = async |event: &str, data: Value, at: i64| {
            let body = json!({ "event": event, "data": data, "timestamp": at });
            app.post("/api/whatsapp/webhook/new", body).await.json()["data"].clone()
        };
        post("change_state", json!({ "state": "CONNECTED" }), now - 5).await;
        assert_eq!(
            status(&app, "old").await["migratedTo"],
            Value::Null,
            "whose it is is not known"
        );
        let before = app.get("/api/whatsapp/events/page?after=0&limit=1000").await.json();
        let late = post("ready", json!({ "phoneNumber": NUMBER }), now - 10).await;
        assert_eq!((&late["outdated"], &late["recorded"]), (&json!(true), &json!(false)));
        assert_eq!(status(&app, "old").await["migratedTo"], "new");
        assert_eq!(told(&app).await, [("old".to_owned(), "new".to_owned())]);
        let after = app.get("/api/whatsapp/events/page?after=0&limit=1000").await.json();
        let count = |page: &Value| page["data"].as_array().unwrap().len();
        assert_eq!(count(&after), count(&before) + 1, "the handover alone is new");

        // Of a session that is not connected any more, a late word hands nothing over.
        external(&app, "third", "15550007777").await;
        app.external("gone", json!({})).await;
        app.tell("gone", "disconnected", json!({ "reason": "LOGOUT" })).await;
        let body = json!({
            "event": "ready", "data": { "phoneNumber": "15550007777" }, "timestamp": now - 10,
        });
        let late = app.post("/api/whatsapp/webhook/gone", body).await.json();
        assert_eq!(late["data"]["outdated"], true);
        assert_eq!(status(&app, "third").await["migratedTo"], Value::Null);
        app.close().await;
    })
    .await;
}

#[tokio::test]
async fn what_runs_elsewhere_and_is_not_idle_is_left_alone() {
    on_each(async |database| {
        let app = App::start(database).await;
        for (id, event, data) in [
            ("connected", "ready", json!({})),
            ("coming", "change_state", json!({ "state": "OPENING" })),
            ("pairing", "qr", json!({ "qr": "2@x" })),
            ("loading", "authenticated", json!({})),
        ] {
            external(&app, id, NUMBER).await;
            app.tell(id, event, data).await;
        }
        external(&app, "idle", NUMBER).await;
        external(&app, "new", NUMBER).await;
        connect(&app, "new", NUMBER, Way::Status).await;
        for id in ["connected", "coming", "pairing", "loading"] {
            assert_eq!(status(&app, id).await["migratedTo"], Value::Null, "{id}");
        }
        assert_eq!(status(&app, "idle").await["migratedTo"], "new");
        // Two that are connected keep what they have, whoever of them says so again.
        app.clock.advance(Duration::from_secs(1));
        connect(&app, "connected", NUMBER, Way::Status).await;
        assert_eq!(status(&app, "new").await["migratedTo"], Value::Null);
        app.close().await;
    })
    .await;
}

/// A daemon that dies over a post has done all of it or nothing: the client posts again.
#[tokio::test(flavor = "multi_thread")]
async fn killed_over_the_post_that_brings_a_handover_neither_is_there_and_then_both_are() {
    for kind in [Kind::Sqlite, Kind::Postgres] {
        let Some(database) = Database::new(kind).await else { continue };
        let directory = tempfile::tempdir().unwrap();
        let options = Options { deadline: DEADLINE, ..Options::default() };
        let whatsapp = Simulator::start(options).await.unwrap();
        let installation = Installation::new(directory.path(), database.server_url(), &whatsapp);
        let dying = installation.try_start(&[(KILL_AT, "handover.written:1")]).unwrap();
        for id in ["old", "new"] {
            let body = json!({ "sessionId": id, "origin": "external", "phoneNumber": NUMBER });
            assert_eq!(dying.post(SESSION, body).await.0, 201);
        }
        let ready = json!({ "event": "ready", "data": { "phoneNumber": NUMBER } });
        let path = "/api/whatsapp/webhook/new";
        assert!(dying.ask(Method::POST, path, Some(ready.clone())).await.is_none());
        assert!(aborted(dying.end_within(DEADLINE).await));

        let daemon = installation.start();
        let state = async |id: &str| {
            let seen = daemon.get(&format!("{SESSION}/status/{id}")).await["data"].clone();
            (seen["status"].clone(), seen["migratedTo"].clone())
        };
        assert_eq!(state("new").await, (json!("session_not_connected"), Value::Null));
        assert_eq!(state("old").await, (json!("session_not_connected"), Value::Null));
        let (code, answer) = daemon.post(path, ready).await;
        assert_eq!((code.as_u16(), &answer["data"]["recorded"]), (200, &json!(true)));
        assert_eq!(state("new").await, (json!("session_connected"), Value::Null));
        assert_eq!(state("old").await, (json!("session_not_connected"), json!("new")));
        let audit = daemon.get("/api/audit?action=session_migrated").await;
        assert_eq!(audit["data"].as_array().unwrap().len(), 1);
        daemon.terminate().await;
        whatsapp.stop().await;
        database.drop().await;
    }
}

/// The limit is on what is listed: whoever may have one session has one, however often it was replaced.
#[tokio::test]
async fn one_that_has_handed_over_comes_back_only_where_there_is_a_place_for_it() {
    on_each(async |database| {
        let app = App::start(database).await;
        let own = format!("/api/organizations/{}", app.organization);
        let listed = async || crate::handover::listed(&app, "").await.0;
        external(&app, "first", NUMBER).await;
        connect(&app, "first", NUMBER, Way::Ready).await;
        app.tell("first", "disconnected", json!({ "reason": "LOGOUT" })).await;
        app.clock.advance(Duration::from_secs(1));
        external(&app, "second", NUMBER).await;
        connect(&app, "second", NUMBER, Way::Ready).await;
        assert_eq!(status(&app, "first").await["migratedTo"], "second");
        assert_eq!(app.patch(&own, json!({ "maxSessions": 1 })).await.status, 200);

        app.clock.advance(Duration::from_secs(1));
        let before = app.get("/api/whatsapp/events/page?after=0&limit=1000").await.json();
        for (event, data) in [
            ("ready", json!({ "phoneNumber": NUMBER })),
            ("authenticated", json!({})),
            ("qr", json!({ "qr": "2@x" })),
            ("change_state", json!({ "state": "CONNECTED" })),
        ] {
            app.tell("first", event, data).await.problem(409, "TOO_MANY_SESSIONS");
        }
        let said = report(&app, "first", &json!({ "status": "connected" })).await;
        said.problem(409, "TOO_MANY_SESSIONS");
        assert_eq!(status(&app, "first").await["status"], "session_not_connected");
        assert_eq!(listed().await, crate::handover::ids(["second"]));
        let after = app.get("/api/whatsapp/events/page?after=0&limit=1000").await.json();
        assert_eq!(before, after, "the feed tells no other story than the list");

        // Its messages are kept, and that it is gone may be said at any time.
        let message = json!({ "message": {
            "id": "3EB0A1", "from": "15550002222@c.us", "to": format!("{NUMBER}@c.us"),
            "body": "still here", "type": "chat", "timestamp": app.clock.now().as_secs(),
        } });
        let kept = app.tell("first", "message", message).await;
        assert_eq!((kept.status.as_u16(), &kept.json()["data"]["recorded"]), (200, &json!(true)));
        let gone = app.tell("first", "disconnected", json!({ "reason": "NAVIGATION" })).await;
        assert_eq!(gone.status, 200, "{}", gone.text());

        // With a place for it the same is taken, and then it is one of those that are counted.
        assert_eq!(app.patch(&own, json!({ "maxSessions": 2 })).await.status, 200);
        app.clock.advance(Duration::from_secs(1));
        connect(&app, "first", NUMBER, Way::Ready).await;
        assert_eq!(listed().await, crate::handover::ids(["first", "second"]));
        let third = json!({ "sessionId": "third", "start": false });
        app.post(SESSION, third.clone()).await.problem(409, "TOO_MANY_SESSIONS");
        // Being there it may say whatever it likes.
        app.clock.advance(Duration::from_secs(1));
        let said = app.tell("first", "change_state", json!({ "state": "OPENING" })).await;
        assert_eq!(said.status, 200, "{}", said.text());
        app.clock.advance(Duration::from_secs(1));
        app.tell("first", "disconnected", json!({ "reason": "LOGOUT" })).await;
        // Gone it is as any other that is not connected: listed, and counted.
        assert_eq!(listed().await, crate::handover::ids(["first", "second"]));
        app.post(SESSION, third).await.problem(409, "TOO_MANY_SESSIONS");
        app.close().await;
    })
    .await;
}

#[tokio::test]
async fn one_that_takes_its_place_back_from_an_idle_heir_needs_no_other() {
    on_each(async |database| {
        let app = App::start(database).await;
        external(&app, "vps", NUMBER).await;
        connect(&app, "vps", NUMBER, Way::Ready).await;
        app.tell("vps", "disconnected", json!({ "reason": "LOGOUT" })).await;
        app.clock.advance(Duration::from_secs(1));
        old(&app, "here").await;
        assert_eq!(status(&app, "vps").await["migratedTo"], "here");
        let own = format!("/api/organizations/{}", app.organization);
        assert_eq!(app.patch(&own, json!({ "maxSessions": 1 })).await.status, 200);
        app.clock.advance(Duration::from_secs(1));
        // Not with another number, as nobody would leave then.
        let other = app.tell("vps", "ready", json!({ "phoneNumber": "15550009999" })).await;
        other.problem(409, "TOO_MANY_SESSIONS");
        // Nor where the number is another account's by now.
        let lid = async |id: &str, lid: &str| {
            let set = "UPDATE session SET account_lid =";
            database.execute(&format!("{set} {lid} WHERE session_id = '{id}'")).await;
        };
        lid("vps", "'1@lid'").await;
        lid("here", "'2@lid'").await;
        let said = app.tell("vps", "ready", json!({ "phoneNumber": NUMBER })).await;
        said.problem(409, "TOO_MANY_SESSIONS");
        lid("here", "'1@lid'").await;
        connect(&app, "vps", NUMBER, Way::Ready).await;
        assert_eq!(status(&app, "here").await["migratedTo"], "vps");
        assert_eq!(crate::handover::listed(&app, "").await.0, crate::handover::ids(["vps"]));
        app.close().await;
    })
    .await;
}
