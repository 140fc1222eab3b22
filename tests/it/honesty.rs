//! Every view of a session says the same, at every moment, whatever has happened.

use std::{collections::BTreeMap, time::Duration};

use entity::state::SessionStatus;
use proptest::test_runner::{Config, TestRunner};
use reqwest::Method;
use sea_orm::Iterable as _;
use serde_json::{Value, json};
use wagate::{
    event::{Event, Group, payload::rfc3339},
    store::{
        Patience,
        events::{NewEvent, Recorded},
    },
};

use crate::{
    dashboard_script::Grouping,
    database::on_each,
    http_app::{Answer, App},
    http_events::Stream,
    http_metrics::Figures,
    story::{SESSIONS, Step, What, care, event, steps},
};

/// What a client of the stream knows of a session: a snapshot, and the events since, read by the
/// documented table of what each of them means.
#[derive(Clone, Debug)]
struct Told {
    status: String,
    qr: Value,
    qr_expires_at: Value,
    reconnecting: bool,
    next_attempt_at: Value,
    last_reason: Value,
    last_code: Value,
}

impl Told {
    fn snapshot(session: &Value) -> Self {
        Self {
            status: session["status"].as_str().unwrap().to_owned(),
            qr: session["qr"].clone(),
            qr_expires_at: session["qrExpiresAt"].clone(),
            reconnecting: session["reconnecting"].as_bool().unwrap(),
            next_attempt_at: session["nextAttemptAt"].clone(),
            last_reason: session["lastDisconnect"]["reason"].clone(),
            last_code: session["lastDisconnect"]["code"].clone(),
        }
    }

    fn hear(&mut self, event: &str, data: &Value) {
        // A session that is connected receives the account's past, and is as connected as before.
        if event == "loading_screen" && self.status == "session_connected" {
            return;
        }
        let status = match event {
            "qr" => "qr_generated",
            "authenticated" | "loading_screen" => "loading",
            "ready" => "session_connected",
            "change_state" => "connecting",
            "disconnected" if data["reason"] == "failed" => "error",
            "disconnected" => "session_not_connected",
            "auth_failure" => "auth_failure",
            _ => return,
        };
        let ended = matches!(event, "disconnected" | "auth_failure" | "change_state")
            && data["reason"].is_string();
        let last = |name: &str, before: &Value| {
            if ended { data[name].clone() } else { before.clone() }
        };
        *self = Self {
            status: status.to_owned(),
            qr: data["qr"].clone(),
            qr_expires_at: data["qrExpiresAt"].clone(),
            reconnecting: data["state"] == "reconnecting",
            next_attempt_at: data["nextAttemptAt"].clone(),
            last_reason: last("reason", &self.last_reason),
            last_code: last("code", &self.last_code),
        };
    }
}

/// A story being played.
struct Play<'a> {
    app: &'a App,
    /// How the dashboard's page groups sessions.
    page: Grouping,
    stream: Stream,
    told: BTreeMap<String, Told>,
    /// The status that each session was seen in last, and since when it must say it is.
    since: BTreeMap<&'static str, (String, String)>,
}

impl<'a> Play<'a> {
    async fn begin(app: &'a App) -> Self {
        for id in SESSIONS {
            // There is one when the story before this one was cut off.
            app.delete(&format!("/api/whatsapp/session/{id}")).await;
            app.session(id).await;
            // The oldest comes first in lists.
            app.clock.advance(Duration::from_millis(1));
        }
        let script = Answer::to(app.anonymous(Method::GET, "/dashboard/app.js")).await;
        let page = Grouping::read(script.text());
        let (stream, told) = listen(app).await;
        Self { app, page, stream, told, since: BTreeMap::new() }
    }

    async fn step(&mut self, step: &Step) {
        match step {
            Step::Happen { session, what, stale } => {
                self.happen(SESSIONS[*session], what, *stale).await;
            }
            Step::Pass(time) => self.app.clock.advance(*time),
            Step::Restart => {
                self.app.store.sessions().after_restart().await.unwrap();
                // A client of a daemon that was killed connects anew.
                (self.stream, self.told) = listen(self.app).await;
            }
            Step::Rename { session, user } => {
                let path = format!("/api/whatsapp/session/{}", SESSIONS[*session]);
                let user = json!({ "userId": format!("user-{user}") });
                assert_eq!(self.app.patch(&path, user).await.status, 200);
            }
        }
        self.compare().await;
    }

    async fn happen(&mut self, id: &str, what: &What, stale: bool) {
        let row = self.app.row(id).await;
        let event = match what {
            // A client that is connected loads nothing but the past.
            What::Loading(percent) if row.status == SessionStatus::SessionConnected => {
                Event::HistoryProgress { percent: *percent }
            }
            what => event(what, self.app),
        };
        let new = NewEvent {
            organization_id: self.app.organization.clone(),
            session_key: row.id,
            generation: Some(if stale { row.generation + 1 } else { row.generation }),
            event,
            at: self.app.clock.now(),
            care: care(what, self.app),
            posted: None,
        };
        let recorded = self.app.store.writer().record(new, Patience::Fail).await.unwrap();
        let Recorded::New { seq } = recorded else { return };
        loop {
            let received = self.stream.next().await.expect("the stream goes on");
            if received.name.is_empty() {
                continue;
            }
            let told = self.told.get_mut(received.data["sessionId"].as_str().unwrap()).unwrap();
            told.hear(&received.name, &received.data["data"]);
            if received.id == Some(seq) {
                return;
            }
        }
    }

    /// Asks everywhere, and compares.
    async fn compare(&mut self) {
        let app = self.app;
        let now = rfc3339(app.clock.now());
        let mut by_status: BTreeMap<String, u64> = BTreeMap::new();
        let mut in_group: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        let mut in_status: BTreeMap<String, Vec<&str>> = BTreeMap::new();
        let mut reconnecting = 0;

        let list = app.get("/api/whatsapp/session/list-realtime").await.json();
        let (_, snapshot) = snapshot(app).await;
        for id in SESSIONS {
            let status =
                app.get(&format!("/api/whatsapp/session/status/{id}")).await.json()["data"].clone();
            let resource =
                app.get(&format!("/api/whatsapp/session/{id}")).await.json()["data"].clone();
            assert_eq!(resource, status, "the resource");
            assert_eq!(of(&snapshot["sessions"], id), &status, "the stream's snapshot");
            in_list(of(&list["data"], id), &status);
            flags(&status, now.as_str());
            // The page asks for both, and colours a session by its group.
            assert_eq!(self.page.of(of(&list["data"], id)), group(&status), "the page's list");
            assert_eq!(self.page.of(&status), group(&status), "the page's detail");
            self.followed(id, &status, now.as_str());
            self.qr(id, &status).await;

            let word = status["status"].as_str().unwrap();
            let told = status["since"].as_str().unwrap();
            let seen = self.since.entry(id).or_insert_with(|| (word.to_owned(), told.to_owned()));
            if seen.0 != word {
                // What changes it happens now.
                *seen = (word.to_owned(), now.as_str().to_owned());
            }
            assert_eq!(told, seen.1, "{id} is {word} since then");
            *by_status.entry(word.to_owned()).or_default() += 1;
            reconnecting += u64::from(status["reconnecting"] == true);
            in_status.entry(word.to_owned()).or_default().push(id);
            in_group.entry(group(&status)).or_default().push(id);
        }

        for group in Group::ALL {
            let group = group.word();
            let expected = in_group.get(group).cloned().unwrap_or_default();
            assert_eq!(list["summary"][group], expected.len(), "the summary's {group}");
            self.filtered(group, &expected, &list["summary"]).await;
        }
        assert_eq!(list["summary"]["total"], SESSIONS.len());
        for status in SessionStatus::iter() {
            let word = status.word();
            // These two words are groups too, and the group is meant.
            if !matches!(status, SessionStatus::Loading | SessionStatus::Error) {
                let expected = in_status.get(word).cloned().unwrap_or_default();
                self.filtered(word, &expected, &list["summary"]).await;
            }
        }

        let metrics = Figures::of(app).await;
        for status in SessionStatus::iter() {
            let expected = by_status.get(status.word()).copied().unwrap_or(0);
            let name = format!("wagate_sessions{{status=\"{}\"}}", status.word());
            assert_eq!(metrics.get(&name), expected.to_string(), "{name}");
        }
        for group in Group::ALL {
            let name = format!("wagate_session_groups{{group=\"{}\"}}", group.word());
            assert_eq!(metrics.get(&name), list["summary"][group.word()].to_string(), "{name}");
        }
        assert_eq!(metrics.get("wagate_sessions_reconnecting"), reconnecting.to_string());
    }

    /// What the stream has told is what the status says.
    fn followed(&self, id: &str, status: &Value, now: &str) {
        let told = &self.told[id];
        assert_eq!(told.status, status["status"], "{id}: {told:?}");
        assert_eq!(told.reconnecting, status["reconnecting"], "{id}: {told:?}");
        assert_eq!(told.next_attempt_at, status["nextAttemptAt"], "{id}: {told:?}");
        assert_eq!(told.last_reason, status["lastDisconnect"]["reason"], "{id}: {told:?}");
        assert_eq!(told.last_code, status["lastDisconnect"]["code"], "{id}: {told:?}");
        // A code that has expired is not shown any more, and who was told of it knows when that is.
        if told.qr_expires_at.as_str().is_some_and(|at| now < at) {
            assert_eq!(told.qr, status["qr"], "{id}: {told:?}");
            assert_eq!(told.qr_expires_at, status["qrExpiresAt"], "{id}: {told:?}");
        } else {
            assert!(status["qr"].is_null(), "{id}: {told:?}");
        }
    }

    async fn qr(&self, id: &str, status: &Value) {
        let answer = self.app.get(&format!("/api/whatsapp/session/{id}/qr.json")).await;
        if status["needsQR"] == true {
            let data = &answer.json()["data"];
            assert_eq!(data["qr"], status["qr"]);
            assert_eq!(data["issuedAt"], status["qrIssuedAt"]);
            assert_eq!(data["expiresAt"], status["qrExpiresAt"]);
            assert_eq!(data["sequence"], status["qrSequence"]);
        } else {
            let problem = answer.problem(404, "QR_NOT_AVAILABLE");
            assert_eq!(problem["sessionStatus"], status["status"]);
        }
    }

    async fn filtered(&self, word: &str, expected: &[&str], summary: &Value) {
        let path = format!("/api/whatsapp/session/list-realtime?status={word}");
        let list = self.app.get(&path).await.json();
        let listed: Vec<_> = list["data"].as_array().unwrap().iter().collect();
        let listed: Vec<_> = listed.iter().map(|it| it["sessionId"].as_str().unwrap()).collect();
        assert_eq!(listed, expected, "the list of {word}");
        assert_eq!(&list["summary"], summary);
    }
}

/// A new stream, and what it says first.
async fn listen(app: &App) -> (Stream, BTreeMap<String, Told>) {
    let (stream, snapshot) = snapshot(app).await;
    let sessions = snapshot["sessions"].as_array().unwrap();
    let told = sessions
        .iter()
        .map(|it| (it["sessionId"].as_str().unwrap().to_owned(), Told::snapshot(it)))
        .collect();
    (stream, told)
}

async fn snapshot(app: &App) -> (Stream, Value) {
    let mut stream = Stream::open(app, "/api/whatsapp/events", None).await;
    let snapshot = stream.expect("snapshot").await.data;
    (stream, snapshot)
}

fn of<'a>(sessions: &'a Value, id: &str) -> &'a Value {
    sessions.as_array().unwrap().iter().find(|it| it["sessionId"] == id).unwrap()
}

/// Each member of the list's item is the status object's.
fn in_list(item: &Value, status: &Value) {
    for (name, value) in item.as_object().unwrap() {
        match name.as_str() {
            "hasQR" => assert_eq!(*value, !status["qr"].is_null(), "{item}"),
            "lastUpdated" => assert_eq!(*value, status["updatedAt"], "{item}"),
            _ => assert_eq!(*value, status[name], "{name} of {item}"),
        }
    }
}

/// The flags are what the contract computes them from.
fn flags(status: &Value, now: &str) {
    let word = status["status"].as_str().unwrap();
    let live = status["qrExpiresAt"].as_str().is_some_and(|at| now < at);
    assert_eq!(status["isConnected"], word == "session_connected", "{status}");
    assert_eq!(status["needsQR"], word == "qr_generated" && live, "{status}");
    assert_eq!(status["isLoading"], matches!(word, "loading" | "connecting"), "{status}");
    assert_eq!(status["hasError"], matches!(word, "auth_failure" | "error"), "{status}");
    assert_eq!(status["qr"].is_null(), status["needsQR"] == false, "{status}");
    for of_a_code in ["qrImage", "qrIssuedAt", "qrExpiresAt"] {
        assert_eq!(status[of_a_code].is_null(), status["qr"].is_null(), "{of_a_code} of {status}");
    }
    assert!(status["since"].as_str().unwrap() <= now, "{status}");
    assert!(status["qrIssuedAt"].as_str().is_none_or(|at| at <= now), "{status}");
    assert!(status["bannedUntil"].as_str().is_none_or(|until| now < until), "{status}");
    assert!(!status["message"].as_str().unwrap().is_empty());
}

/// The summary's group, from the flags alone.
fn group(status: &Value) -> &'static str {
    let is = |flag: &str| status[flag] == true;
    match () {
        () if is("isConnected") => "connected",
        () if is("needsQR") => "needsQR",
        () if is("isLoading") => "loading",
        () if is("hasError") => "error",
        () => "disconnected",
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn all_views_agree_at_every_step_of_any_story() {
    on_each(async |database| {
        let app = App::start(database).await;
        let runtime = tokio::runtime::Handle::current();
        let config = Config {
            cases: 16,
            max_shrink_iters: 200,
            failure_persistence: None,
            ..Config::default()
        };
        let played = TestRunner::new(config).run(&steps(), |steps| {
            tokio::task::block_in_place(|| {
                runtime.block_on(async {
                    let mut play = Play::begin(&app).await;
                    play.compare().await;
                    for step in &steps {
                        play.step(step).await;
                    }
                });
            });
            Ok(())
        });
        if let Err(failed) = played {
            panic!("{failed}");
        }
        app.close().await;
    })
    .await;
}
