//! Every view of a session says the same, at every moment, whatever has happened.

use std::{collections::BTreeMap, time::Duration};

use entity::{
    kind::AuditAction,
    state::{DesiredState, SessionStatus},
};
use proptest::test_runner::{Config, TestRunner};
use reqwest::Method;
use sea_orm::Iterable as _;
use serde_json::{Value, json};
use wagate::{
    event::{Event, Group, payload::rfc3339},
    store::{
        Patience,
        audit::By,
        events::{NewEvent, Recorded},
        sessions::Act,
    },
};

use crate::{
    dashboard_script::Grouping,
    database::on_each,
    honest_views::{Told, flags, group, in_list, of},
    http_app::{Answer, App},
    http_events::Stream,
    http_metrics::Figures,
    story::{SESSIONS, Step, What, care, event, repetitions, steps},
};

/// A story being played.
struct Play<'a> {
    app: &'a App,
    /// How the dashboard's page groups sessions.
    page: Grouping,
    stream: Stream,
    told: BTreeMap<String, Told>,
    /// The status that each session was seen in last, and since when it must say it is.
    since: BTreeMap<&'static str, (String, String)>,
    /// The last code that each session has shown.
    codes: BTreeMap<&'static str, Code>,
}

/// A code, as it must be told of for as long as it is shown.
#[derive(Clone, Debug, PartialEq)]
struct Code {
    qr: String,
    issued_at: String,
    expires_at: String,
    sequence: i64,
}

impl<'a> Play<'a> {
    async fn begin(app: &'a App) -> Self {
        let mut since = BTreeMap::new();
        for id in SESSIONS {
            // There is one when the story before this one was cut off.
            app.delete(&format!("/api/whatsapp/session/{id}")).await;
            app.session(id).await;
            let now = rfc3339(app.clock.now()).as_str().to_owned();
            since.insert(id, ("session_not_connected".to_owned(), now));
            // The oldest comes first in lists.
            app.clock.advance(Duration::from_millis(1));
        }
        // Restarts take back other things of one that is to run.
        let wanted = app.row(SESSIONS[2]).await.id;
        let act = Act { action: AuditAction::SessionStarted, detail: json!({}), by: By::default() };
        let running = DesiredState::Running;
        let sessions = app.store.sessions();
        sessions.set_desired_state(&app.organization, &wanted, running, act).await.unwrap();
        let script = Answer::to(app.anonymous(Method::GET, "/dashboard/app.js")).await;
        let page = Grouping::read(script.text());
        let (stream, told) = listen(app).await;
        Self { app, page, stream, told, since, codes: BTreeMap::new() }
    }

    async fn step(&mut self, step: &Step) {
        // No two steps are made at one time: what is told tells them apart.
        self.app.clock.advance(Duration::from_millis(1));
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

    async fn happen(&mut self, id: &'static str, what: &What, stale: bool) {
        let row = self.app.row(id).await;
        let event = match what {
            // A client that is connected loads nothing but the past.
            What::Loading(percent) if row.status == SessionStatus::SessionConnected => {
                Event::HistoryProgress { percent: *percent }
            }
            // No two sessions have one number: they would hand over to each other, and be listed no more.
            What::Ready(Some(number)) => {
                let before = SESSIONS.iter().take_while(|it| **it != id).count();
                event(&What::Ready(Some(u8::try_from(before).unwrap() * 3 + number)), self.app)
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
        let Recorded::New { seq, .. } = recorded else { return };
        if let What::Qr { code, valid_for } = what {
            let now = self.app.clock.now();
            let shown = Code {
                qr: format!("2@{code}"),
                issued_at: rfc3339(now).as_str().to_owned(),
                expires_at: rfc3339(now + *valid_for).as_str().to_owned(),
                sequence: row.qr_sequence + 1,
            };
            self.codes.insert(id, shown);
        }
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
            let seen = self.since.get_mut(id).expect("every session has been in a status");
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
            let shown = Code {
                qr: data["qr"].as_str().unwrap().to_owned(),
                issued_at: data["issuedAt"].as_str().unwrap().to_owned(),
                expires_at: data["expiresAt"].as_str().unwrap().to_owned(),
                sequence: data["sequence"].as_i64().unwrap(),
            };
            assert_eq!(Some(&shown), self.codes.get(id), "{id}: the code that was shown last");
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

async fn play(app: &App, steps: &[Step]) {
    let mut play = Play::begin(app).await;
    play.compare().await;
    for step in steps {
        play.step(step).await;
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
        play(&app, &repetitions()).await;
        let played = TestRunner::new(config).run(&steps(), |steps| {
            tokio::task::block_in_place(|| runtime.block_on(play(&app, &steps)));
            Ok(())
        });
        if let Err(failed) = played {
            panic!("{failed}");
        }
        app.close().await;
    })
    .await;
}
