//! Sessions over HTTP: made, listed, changed, started, stopped and deleted.

use std::time::Duration;

use entity::{
    UnixMillis,
    kind::AuditAction,
    state::{DesiredState, SessionStatus},
};
use serde_json::{Value, json};
use wagate::{
    event::{AuthFailure, Change, Disconnect, Event, Group},
    session::view::view,
    store::{
        audit::By,
        page::Page,
        sessions::{Act, Filter, StatusFilter},
    },
};

use crate::{
    database::{Kind, on, on_each},
    http_app::App,
};

/// The members of an object, in the order they were written in.
fn members(object: &str) -> Vec<String> {
    let mut members = Vec::new();
    let (mut depth, mut in_string, mut escaped) = (0, false, false);
    let mut text = String::new();
    for c in object.chars() {
        match c {
            _ if escaped => escaped = false,
            '\\' if in_string => escaped = true,
            '"' => {
                in_string = !in_string;
                if in_string {
                    text.clear();
                }
            }
            '{' | '[' if !in_string => depth += 1,
            '}' | ']' if !in_string => depth -= 1,
            ':' if !in_string && depth == 1 => members.push(text.clone()),
            _ if in_string => text.push(c),
            _ => {}
        }
    }
    members
}

/// The text of the first object after `before`.
fn object_after<'a>(text: &'a str, before: &str) -> &'a str {
    let start = text.find(before).unwrap() + before.len();
    let mut depth = 0;
    for (i, c) in text[start..].char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return &text[start..=start + i];
        }
    }
    panic!("no object ends in {text}")
}

#[tokio::test]
async fn the_status_is_the_seeds_object() {
    on_each(async |database| {
        let app = App::start(database).await;
        let body = json!({ "sessionId": "session-123", "userId": "user-456", "start": false });
        app.post("/api/whatsapp/session", body).await;
        app.clock.advance(Duration::from_mins(5));
        app.show_qr("session-123", "1@ABC123").await;

        let answer = app.get("/api/whatsapp/session/status/session-123").await;
        let object = answer.json();
        let image = object["data"]["qrImage"].as_str().unwrap();
        assert!(image.starts_with("data:image/png;base64,iVBORw0KGgo"));
        let seed = [
            "sessionId",
            "status",
            "message",
            "qr",
            "qrImage",
            "userId",
            "createdAt",
            "updatedAt",
            "isConnected",
            "needsQR",
            "isLoading",
            "hasError",
        ];
        assert_eq!(members(object_after(answer.text(), "\"data\":"))[..seed.len()], seed);
        assert_eq!(members(answer.text()), ["success", "data"]);

        let mut object = object;
        object["data"]["qrImage"] = json!("data:image/png;base64,…");
        let url = object["data"]["qrUrl"].as_str().unwrap();
        let (address, _) = url.split_once("signed=").unwrap();
        object["data"]["qrUrl"] = json!(format!("{address}signed=…"));
        insta::assert_json_snapshot!("status", object);
        // The resource itself is the same object.
        let resource = app.get("/api/whatsapp/session/session-123").await.json();
        assert_eq!(resource["data"]["qr"], "1@ABC123");
        assert_eq!(
            resource["data"].as_object().unwrap().len(),
            object["data"].as_object().unwrap().len()
        );
        app.close().await;
    })
    .await;
}

#[tokio::test]
async fn the_list_is_the_seeds_object() {
    on_each(async |database| {
        let app = App::start(database).await;
        let body = json!({ "sessionId": "session-123", "userId": "user-456", "start": false });
        app.post("/api/whatsapp/session", body).await;
        app.clock.advance(Duration::from_mins(5));
        app.connect("session-123").await;
        app.clock.advance(Duration::from_mins(5));

        let answer = app.get("/api/whatsapp/session/list-realtime").await;
        assert_eq!(members(answer.text()), ["success", "data", "summary", "timestamp"]);
        let item = [
            "sessionId",
            "status",
            "message",
            "qr",
            "userId",
            "createdAt",
            "updatedAt",
            "isConnected",
            "needsQR",
            "isLoading",
            "hasError",
            "hasQR",
            "lastUpdated",
        ];
        assert_eq!(members(object_after(answer.text(), "\"data\":[")), item);
        let summary = ["connected", "disconnected", "loading", "needsQR", "error", "total"];
        assert_eq!(members(object_after(answer.text(), "\"summary\":")), summary);
        insta::assert_json_snapshot!("list", answer.json());
        app.close().await;
    })
    .await;
}

#[tokio::test]
async fn a_session_is_made_once() {
    on_each(async |database| {
        let app = App::start(database).await;
        let body = json!({
            "sessionId": "shop", "userId": "u", "phoneNumber": "+62 812-3456-7890", "start": false,
        });
        let made = app.post("/api/whatsapp/session", body.clone()).await;
        assert_eq!(made.status, 201);
        assert_eq!(made.header("location"), "/api/whatsapp/session/shop");
        let data = &made.json()["data"];
        assert_eq!(data["phoneNumber"], "6281234567890");
        assert_eq!(data["status"], "session_not_connected");
        assert_eq!(data["desiredState"], "stopped");

        app.post("/api/whatsapp/session", body).await.problem(409, "SESSION_EXISTS");

        // Many at once: one is made.
        let many = (0..8).map(|_| {
            app.post("/api/whatsapp/session", json!({ "sessionId": "race", "start": false }))
        });
        let many = futures_util::future::join_all(many).await;
        assert_eq!(many.iter().filter(|answer| answer.status == 201).count(), 1);
        assert_eq!(many.iter().filter(|answer| answer.status == 409).count(), 7);

        // Without an id it gets one.
        let made = app.post("/api/whatsapp/session", json!({ "start": false })).await.json();
        let id = made["data"]["sessionId"].as_str().unwrap();
        assert!(id.starts_with("wa_") && id.len() == 39, "{id}");
        app.close().await;
    })
    .await;
}

#[tokio::test]
async fn a_session_without_a_body_is_made_and_started() {
    on(Kind::Sqlite, async |database| {
        let app = App::start(database).await;
        let request = app.request(reqwest::Method::POST, "/api/whatsapp/session");
        let made = crate::http_app::Answer::to(request).await;
        assert_eq!(made.status, 201);
        let data = made.json()["data"].clone();
        assert_eq!(data["desiredState"], "running");
        assert_eq!(data["status"], "connecting");
        assert_eq!(data["isLoading"], true);

        // What is wanted is written first, and stays.
        let id = data["sessionId"].as_str().unwrap();
        let path = format!("/api/whatsapp/session/{id}");
        let stopped = app.post(&format!("{path}/stop"), json!({})).await.json();
        assert_eq!(stopped["data"]["desiredState"], "stopped");
        assert_eq!(stopped["data"]["status"], "session_not_connected");
        let started = app.post(&format!("{path}/start"), json!({})).await.json();
        assert_eq!(started["data"]["desiredState"], "running");
        let again = app.post(&format!("{path}/start"), json!({})).await;
        assert_eq!(again.status, 200);
        let restarted = app.post(&format!("{path}/restart"), json!({})).await.json();
        assert_eq!(restarted["data"]["desiredState"], "running");

        let out = app.post(&format!("{path}/logout"), json!({})).await.json();
        assert_eq!(out["data"]["unlinked"], false);
        assert_eq!(out["data"]["desiredState"], "stopped");

        let deleted = app.delete(&path).await;
        assert_eq!(
            deleted.json(),
            json!({
                "success": true,
                "data": { "sessionId": id, "deleted": true, "unlinked": false },
            })
        );
        app.get(&path).await.problem(404, "SESSION_NOT_FOUND");
        app.delete(&path).await.problem(404, "SESSION_NOT_FOUND");
        app.close().await;
    })
    .await;
}

#[tokio::test]
async fn settings_are_changed_one_by_one() {
    on_each(async |database| {
        let app = App::start(database).await;
        app.session("s").await;
        let path = "/api/whatsapp/session/s";
        let body = json!({ "userId": "u", "phoneNumber": "+6281234567890" });
        let data = app.patch(path, body).await.json();
        assert_eq!(data["data"]["userId"], "u");
        let data = app.patch(path, json!({ "userId": null })).await.json();
        assert_eq!(data["data"]["userId"], Value::Null);
        assert_eq!(data["data"]["phoneNumber"], "6281234567890");

        // Once paired, the number is the account's.
        app.connect("s").await;
        let body = json!({ "phoneNumber": "6289999999999" });
        app.patch(path, body).await.problem(409, "PHONE_NUMBER_KNOWN");
        // To say again which it is is no change, and stands beside one.
        let there = app.row("s").await;
        let number = there.phone_number.clone().unwrap();
        let said = app.patch(path, json!({ "phoneNumber": format!("+{number}") })).await;
        assert_eq!(
            (said.status.as_u16(), &said.json()["data"]["phoneNumber"]),
            (200, &json!(number))
        );
        assert_eq!(app.row("s").await, there, "nothing was changed");
        let said = app.patch(path, json!({ "phoneNumber": number, "userId": "w" })).await;
        assert_eq!((said.status.as_u16(), &said.json()["data"]["userId"]), (200, &json!("w")));
        app.patch(path, json!({ "phoneNumber": null })).await.problem(409, "PHONE_NUMBER_KNOWN");
        assert_eq!(app.patch(path, json!({ "userId": "v" })).await.status, 200);
        app.close().await;
    })
    .await;
}

/// One session in each state there is, and in some twice.
async fn one_of_each(app: &App) {
    let past = UnixMillis(app.clock.now().0 - 1);
    for (id, event) in [
        ("stopped", None),
        ("connecting", Some(Event::ChangeState(Change::Connecting))),
        ("qr", Some(Event::Qr { qr: "1".to_owned(), expires_at: app.clock.now() + SOON })),
        ("qr2", Some(Event::Qr { qr: "1".to_owned(), expires_at: app.clock.now() + SOON })),
        ("expired", Some(Event::Qr { qr: "1".to_owned(), expires_at: past })),
        ("loading", Some(Event::LoadingScreen { percent: 5, message: String::new() })),
        ("ended", Some(Event::Disconnected(Disconnect::Replaced))),
        ("refused", Some(Event::AuthFailure(AuthFailure::ClientOutdated))),
    ] {
        app.session(id).await;
        if let Some(event) = event {
            app.happen(id, event).await;
        }
        app.clock.advance(Duration::from_millis(1));
    }
    app.session("connected").await;
    app.connect("connected").await;
}

const SOON: Duration = Duration::from_mins(1);

#[tokio::test]
async fn every_session_is_in_exactly_one_group() {
    on_each(async |database| {
        let app = App::start(database).await;
        one_of_each(&app).await;
        let list = app.get("/api/whatsapp/session/list-realtime").await.json();
        assert_eq!(
            list["summary"],
            json!({
                "connected": 1, "disconnected": 3, "loading": 2, "needsQR": 2, "error": 1,
                "total": 9,
            })
        );
        // A filter shows as many as the summary says, and counts go on counting all.
        for (group, ids) in [
            ("connected", vec!["connected"]),
            ("disconnected", vec!["stopped", "expired", "ended"]),
            ("loading", vec!["connecting", "loading"]),
            ("needsQR", vec!["qr", "qr2"]),
            ("error", vec!["refused"]),
            ("qr_generated", vec!["qr", "qr2", "expired"]),
            ("session_connected", vec!["connected"]),
            ("connecting", vec!["connecting"]),
            ("auth_failure", vec!["refused"]),
        ] {
            let path = format!("/api/whatsapp/session/list-realtime?status={group}");
            let filtered = app.get(&path).await.json();
            let found: Vec<_> = filtered["data"]
                .as_array()
                .unwrap()
                .iter()
                .map(|item| item["sessionId"].as_str().unwrap())
                .collect();
            assert_eq!(found, ids, "{group}");
            assert_eq!(filtered["summary"], list["summary"]);
        }

        // SQL and the view agree on what a group is.
        let sessions = app.store.sessions();
        let now = app.clock.now();
        for group in
            [Group::Connected, Group::Disconnected, Group::Loading, Group::NeedsQr, Group::Error]
        {
            let filter = Filter { status: Some(StatusFilter::Group(group)), ..Filter::default() };
            for row in sessions.list(&app.organization, &filter, &Page::all()).await.unwrap() {
                let view = view(&row, now);
                let of_view = match () {
                    () if view.is_connected => Group::Connected,
                    () if view.needs_qr => Group::NeedsQr,
                    () if view.is_loading => Group::Loading,
                    () if view.has_error => Group::Error,
                    () => Group::Disconnected,
                };
                assert_eq!(of_view, group, "{}", row.session_id);
            }
        }
        app.close().await;
    })
    .await;
}

#[tokio::test]
async fn a_list_is_paged_without_gaps() {
    on_each(async |database| {
        let app = App::start(database).await;
        // Several within each millisecond.
        for n in 0..7 {
            let user = if n % 2 == 0 { "even" } else { "odd" };
            let body = json!({ "sessionId": format!("s{n}"), "userId": user, "start": false });
            app.post("/api/whatsapp/session", body).await;
            if n % 3 == 0 {
                app.clock.advance(Duration::from_millis(1));
            }
        }
        let all = app.get("/api/whatsapp/session/list-realtime").await.json();
        assert!(all.get("nextCursor").is_none());
        let mut paged = Vec::new();
        let mut path = "/api/whatsapp/session/list-realtime?limit=2".to_owned();
        loop {
            let page = app.get(&path).await.json();
            paged.extend(page["data"].as_array().unwrap().iter().cloned());
            assert_eq!(page["summary"]["total"], 7);
            let Some(cursor) = page["nextCursor"].as_str() else { break };
            path = format!("/api/whatsapp/session/list-realtime?limit=2&cursor={cursor}");
        }
        assert_eq!(Value::Array(paged), all["data"]);

        let odd = app.get("/api/whatsapp/session/list-realtime?userId=odd").await.json();
        assert_eq!(odd["data"].as_array().unwrap().len(), 3);
        assert_eq!(odd["summary"]["total"], 3);
        app.close().await;
    })
    .await;
}

#[tokio::test]
async fn a_restart_takes_back_what_the_last_process_claimed() {
    on_each(async |database| {
        let app = App::start(database).await;
        one_of_each(&app).await;
        let sessions = app.store.sessions();
        for id in ["connected", "qr"] {
            let key = app.row(id).await.id;
            let running = DesiredState::Running;
            let act =
                Act { action: AuditAction::SessionStarted, detail: json!({}), by: By::default() };
            sessions.set_desired_state(&app.organization, &key, running, act).await.unwrap();
        }
        app.clock.advance(Duration::from_secs(1));
        sessions.after_restart().await.unwrap();

        for (id, status) in [
            ("connected", SessionStatus::Connecting),
            ("qr", SessionStatus::Connecting),
            ("qr2", SessionStatus::SessionNotConnected),
            ("connecting", SessionStatus::SessionNotConnected),
            ("loading", SessionStatus::SessionNotConnected),
            ("ended", SessionStatus::SessionNotConnected),
            ("refused", SessionStatus::AuthFailure),
        ] {
            let row = app.row(id).await;
            assert_eq!(row.status, status, "{id}");
            assert_eq!((row.qr, row.reconnecting), (None, false), "{id}");
        }
        // What has not changed keeps its time.
        assert!(app.row("ended").await.status_since < app.row("qr2").await.status_since);
        let neglected = app.store.leases().neglected().await.unwrap();
        let resumable = neglected.iter().filter(|row| row.desired_state == DesiredState::Running);
        let ids: Vec<_> = resumable.map(|row| row.session_id.as_str()).collect();
        assert_eq!(ids, ["connected", "qr"], "the most recently active first");

        let key = app.row("qr").await.id;
        assert_eq!(sessions.next_generation(&key).await.unwrap(), Some(1));
        assert_eq!(sessions.next_generation(&key).await.unwrap(), Some(2));
        assert!(sessions.delete(&app.organization, &key).await.unwrap());
        assert!(!sessions.delete(&app.organization, &key).await.unwrap());
        assert_eq!(sessions.next_generation(&key).await.unwrap(), None);
        app.close().await;
    })
    .await;
}
