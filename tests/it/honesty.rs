//! Every view of a session says the same, at every moment, whatever has happened.

use std::{collections::BTreeMap, time::Duration};

use entity::{
    id::{MessageId, in_order},
    kind::MessageKind,
    state::{Direction, MessageStatus, Role, SessionStatus},
};
use proptest::{
    prelude::*,
    test_runner::{Config, TestRunner},
};
use reqwest::Method;
use sea_orm::Iterable as _;
use serde_json::{Value, json};
use wagate::{
    event::{
        Account, Ack, AckLevel, AuthFailure, Care, Change, Disconnect, Event, Group, Loss,
        NewMessage, PairingFailure, payload::rfc3339,
    },
    http::Limits,
    store::{
        Patience,
        events::{NewEvent, Recorded},
        retention::Table,
    },
};

use crate::{
    database::{Kind, on, on_each},
    http_app::{Answer, App},
    http_events::Stream,
};

const SESSIONS: [&str; 3] = ["a", "b", "c"];

/// What one step of a story does.
#[derive(Clone, Debug)]
enum Step {
    /// Something happens on a session; `stale` when a run says it that is not the newest any more.
    Happen {
        session: usize,
        what: What,
        stale: bool,
    },
    Pass(Duration),
    /// The daemon was killed, and starts again.
    Restart,
    /// Settings are nobody's status.
    Rename {
        session: usize,
        user: u8,
    },
}

#[derive(Clone, Debug)]
enum What {
    Qr { code: u8, valid_for: Duration },
    Authenticated,
    Loading(u8),
    Ready(Option<u8>),
    Connecting,
    Reconnecting(Option<Duration>),
    Disconnected(Disconnect),
    Refused,
    Banned(Duration),
    PairingCode(Duration),
    PairingFailed,
    Passkey,
    OtherAccount,
    Changed,
    Message(u8),
    Ack,
}

fn whats() -> impl Strategy<Value = What> {
    let seconds = |range: std::ops::Range<u64>| range.prop_map(Duration::from_secs);
    prop_oneof![
        4 => (any::<u8>(), seconds(1..60))
            .prop_map(|(code, valid_for)| What::Qr { code, valid_for }),
        1 => Just(What::Authenticated),
        1 => any::<u8>().prop_map(What::Loading),
        3 => proptest::option::of(0..3u8).prop_map(What::Ready),
        1 => Just(What::Connecting),
        2 => proptest::option::of(seconds(0..90)).prop_map(What::Reconnecting),
        2 => prop_oneof![
            Just(Disconnect::Stopped),
            Just(Disconnect::Replaced),
            Just(Disconnect::QrCodesExhausted),
            Just(Disconnect::LoggedOut { code: Some(401) }),
        ].prop_map(What::Disconnected),
        1 => Just(What::Refused),
        1 => seconds(1..90).prop_map(What::Banned),
        1 => seconds(1..180).prop_map(What::PairingCode),
        1 => prop_oneof![
            Just(What::PairingFailed),
            Just(What::Passkey),
            Just(What::OtherAccount),
            Just(What::Changed),
        ],
        1 => (0..4u8).prop_map(What::Message),
        1 => Just(What::Ack),
    ]
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let session = 0..SESSIONS.len();
    let step = prop_oneof![
        8 => (session.clone(), whats(), prop::bool::weighted(0.1))
            .prop_map(|(session, what, stale)| Step::Happen { session, what, stale }),
        2 => (1..70_u64).prop_map(|seconds| Step::Pass(Duration::from_secs(seconds))),
        1 => Just(Step::Restart),
        1 => (session, any::<u8>()).prop_map(|(session, user)| Step::Rename { session, user }),
    ];
    proptest::collection::vec(step, 1..16)
}

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
        }
    }

    fn hear(&mut self, event: &str, data: &Value) {
        let status = match event {
            "qr" => "qr_generated",
            "authenticated" | "loading_screen" => "loading",
            "ready" => "session_connected",
            "change_state" => "connecting",
            "disconnected" => "session_not_connected",
            "auth_failure" => "auth_failure",
            _ => return,
        };
        *self = Self {
            status: status.to_owned(),
            qr: data["qr"].clone(),
            qr_expires_at: data["qrExpiresAt"].clone(),
            reconnecting: data["state"] == "reconnecting",
            next_attempt_at: data["nextAttemptAt"].clone(),
            last_reason: match event {
                "disconnected" | "auth_failure" | "change_state" if data["reason"].is_string() => {
                    data["reason"].clone()
                }
                _ => self.last_reason.clone(),
            },
        };
    }
}

/// A story being played.
struct Play<'a> {
    app: &'a App,
    stream: Stream,
    told: BTreeMap<String, Told>,
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
        let (stream, told) = listen(app).await;
        Self { app, stream, told }
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
        let new = NewEvent {
            organization_id: self.app.organization.clone(),
            session_key: row.id,
            generation: Some(if stale { row.generation + 1 } else { row.generation }),
            event: event(what, self.app),
            at: self.app.clock.now(),
            care: care(what, self.app),
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
    async fn compare(&self) {
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
            flags(&status, &now);
            self.followed(id, &status, &now);
            self.qr(id, &status).await;

            let word = status["status"].as_str().unwrap();
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
    assert_eq!(status["qrImage"].is_null(), status["qr"].is_null(), "{status}");
    assert!(status["since"].as_str().unwrap() <= now, "{status}");
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

/// The lines of `/metrics`.
struct Figures(String);

impl Figures {
    async fn of(app: &App) -> Self {
        let answer = app.get("/metrics").await;
        assert_eq!(answer.status, 200);
        Self(answer.text().to_owned())
    }

    /// The value of a series, by its name and labels as they are written.
    #[track_caller]
    fn get(&self, series: &str) -> &str {
        let line = self.0.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("no {series} in\n{}", self.0))
    }
}

/// A ban is dialled into again when it is over, and the session says when.
fn care(what: &What, app: &App) -> Option<Care> {
    let What::Banned(lasts) = what else { return None };
    Some(Care { next_attempt_at: Some(app.clock.now() + *lasts), ..Care::default() })
}

fn event(what: &What, app: &App) -> Event {
    let now = app.clock.now();
    let own = "6281234567890@s.whatsapp.net".to_owned();
    let bob = "15550002222@s.whatsapp.net".to_owned();
    match what {
        What::Qr { code, valid_for } => {
            Event::Qr { qr: format!("2@{code}"), expires_at: now + *valid_for }
        }
        What::Authenticated => Event::Authenticated,
        What::Loading(percent) => {
            Event::LoadingScreen { percent: *percent, message: "Receiving".to_owned() }
        }
        What::Ready(None) => Event::Ready(Account::default()),
        What::Ready(Some(number)) => Event::Ready(Account {
            phone_number: Some(format!("1555000000{number}")),
            jid: Some(format!("1555000000{number}@s.whatsapp.net")),
            ..Account::default()
        }),
        What::Connecting => Event::ChangeState(Change::Connecting),
        What::Reconnecting(wait) => Event::ChangeState(Change::Reconnecting {
            reason: Loss::Silent,
            next_attempt_at: wait.map(|wait| now + wait),
        }),
        What::Disconnected(reason) => Event::Disconnected(*reason),
        What::Refused => Event::AuthFailure(AuthFailure::ClientOutdated),
        What::Banned(lasts) => {
            Event::AuthFailure(AuthFailure::Banned { code: 101, until: now + *lasts })
        }
        What::PairingCode(valid_for) => Event::PairingCode { expires_at: now + *valid_for },
        What::PairingFailed => Event::PairingFailed(PairingFailure::RateLimited),
        What::Passkey => Event::PasskeyRequested,
        What::OtherAccount => Event::AuthFailure(AuthFailure::OtherAccount { unlinked: true }),
        What::Changed => Event::AccountChanged(Account::default()),
        What::Message(number) => Event::Message(Box::new(NewMessage {
            id: MessageId::new(now, in_order(rand::random())),
            wa_id: format!("3EB0{number}"),
            chat: bob.clone(),
            sender: if *number % 2 == 0 { bob } else { own },
            direction: if *number % 2 == 0 { Direction::Inbound } else { Direction::Outbound },
            kind: MessageKind::Text,
            body: Some("hello".to_owned()),
            target_wa_id: None,
            raw: None,
            push_name: None,
            sent_at: now,
            is_group: false,
            offline: false,
            status: if *number % 2 == 0 { MessageStatus::Received } else { MessageStatus::Sending },
        })),
        What::Ack => Event::Ack(Ack {
            wa_id: "3EB01".to_owned(),
            chat: bob.clone(),
            by: bob,
            level: AckLevel::Read,
            error: None,
            at: now,
        }),
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

#[tokio::test]
async fn figures_are_there_from_the_start_and_name_no_tenant() {
    on_each(async |database| {
        let app = App::start(database).await;
        let figures = Figures::of(&app).await;
        for status in SessionStatus::iter() {
            let series = format!("wagate_sessions{{status=\"{}\"}}", status.word());
            assert_eq!(figures.get(&series), "0");
        }
        let version = env!("CARGO_PKG_VERSION");
        assert_eq!(figures.get(&format!("wagate_build_info{{version=\"{version}\"}}")), "1");
        assert_eq!(figures.get("wagate_database_up"), "1");
        assert_eq!(figures.get("wagate_events_total"), "0");
        for table in Table::ALL {
            let series = format!("wagate_retention_rows_total{{table=\"{}\"}}", table.name());
            assert_eq!(figures.get(&series), "0");
        }
        assert_eq!(figures.get("wagate_retention_chunks_total"), "0");
        assert_eq!(figures.get("wagate_retention_slow_chunks_total"), "0");

        app.session("shop-of-mr-smith").await;
        app.connect("shop-of-mr-smith").await;
        let figures = Figures::of(&app).await;
        assert_eq!(figures.get("wagate_events_total"), "1");
        assert_ne!(figures.get("wagate_store_groups_total"), "0");
        let secrets = ["shop-of-mr-smith", "6281234567890", app.organization.as_str()];
        for secret in secrets {
            assert!(!figures.0.contains(secret), "{secret} in\n{}", figures.0);
        }
        app.close().await;
    })
    .await;
}

#[tokio::test]
async fn the_dashboard_is_a_page_that_holds_nothing_and_loads_nothing_from_elsewhere() {
    on(Kind::Sqlite, async |database| {
        let app = App::start(database).await;
        for (path, kind) in [
            ("/dashboard", "text/html; charset=utf-8"),
            ("/dashboard/style.css", "text/css; charset=utf-8"),
            ("/dashboard/app.js", "text/javascript; charset=utf-8"),
        ] {
            let part = Answer::to(app.anonymous(Method::GET, path)).await;
            assert_eq!((part.status.as_u16(), part.header("content-type")), (200, kind));
            assert!(part.header("content-security-policy").starts_with("default-src 'none'"));
            assert!(!part.text().contains("://"), "{path} names another host");
        }
        app.close().await;
    })
    .await;
}

#[tokio::test]
async fn figures_take_the_operator_s_token_unless_they_are_opened() {
    on(Kind::Sqlite, async |database| {
        let app = App::start(database).await;
        let metrics = async |token: &str| {
            Answer::to(app.anonymous(Method::GET, "/metrics").bearer_auth(token)).await
        };
        let viewer = app.token_of(&app.organization, Role::Admin).await;
        metrics(&viewer).await.problem(403, "FORBIDDEN");
        metrics("wag_nobody").await.problem(401, "UNAUTHENTICATED");
        let nobody = Answer::to(app.anonymous(Method::GET, "/metrics")).await;
        nobody.problem(401, "UNAUTHENTICATED");
        let token = app.token.clone();
        let shown = metrics(&token).await;
        assert_eq!(
            shown.header("content-type"),
            "application/openmetrics-text; version=1.0.0; charset=utf-8"
        );
        app.close().await;
    })
    .await;
    on(Kind::Sqlite, async |database| {
        let limits = Limits { open_metrics: true, ..Limits::default() };
        let app = App::start_with(database, limits).await;
        let nobody = Answer::to(app.anonymous(Method::GET, "/metrics")).await;
        assert_eq!(nobody.status, 200);
        assert!(nobody.text().contains("wagate_build_info"));
        app.close().await;
    })
    .await;
}
