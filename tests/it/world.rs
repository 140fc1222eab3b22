//! A whole daemon beside a simulated WhatsApp: what a user would have, in one process.

use std::{future::Future, path::Path, process::Command, time::Duration};

use reqwest::{Method, StatusCode};
use sea_orm::{ConnectionTrait as _, DatabaseConnection, DbBackend, Statement};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::time::timeout;
use wagate::{
    clock::Clock,
    config::{Config, DatabaseUrl, Limits},
    daemon::Daemon,
};
use wagate_simulator::{Options, Phone, Simulator};

use crate::{
    contract::{self, Seen},
    database::{self, Database, Kind},
    log_watch, program,
};

/// How long anything may take before the test fails. Far more than it takes on a busy machine.
pub(crate) const DEADLINE: Duration = Duration::from_mins(2);

/// How long a client keeps a connection that nobody uses.
const IDLE: Duration = Duration::from_secs(5);

/// The bare number that every test's account and contact start with.
pub(crate) const ALICE: &str = "15550001111";
pub(crate) const BOB: &str = "15550002222";
pub(crate) const CAROL: &str = "15550003333";

/// A daemon, the WhatsApp that it talks to, and a client of its API.
pub(crate) struct World {
    pub(crate) whatsapp: Simulator,
    pub(crate) daemon: Option<Daemon>,
    pub(crate) clock: Clock,
    config: Box<Config>,
    http: reqwest::Client,
    base: String,
    pub(crate) token: String,
    _directory: TempDir,
}

/// An answer, read to its end.
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) body: Value,
}

/// Has webhooks go to this machine, at whatever port.
pub(crate) fn calls_this_machine(config: &mut Config) {
    config.webhooks.allow_cidrs.0 = vec!["127.0.0.0/8".parse().unwrap()];
    config.webhooks.require_https = false;
    config.webhooks.ports.0 = Vec::new();
}

/// A client of our API.
pub(crate) fn http_client() -> reqwest::Client {
    // The daemon does this too; a test may come first.
    rustls::crypto::ring::default_provider().install_default().ok();
    let client = reqwest::Client::builder().no_proxy().timeout(DEADLINE);
    // A test may count descriptors: what nobody uses is closed soon.
    client.pool_idle_timeout(IDLE).build().unwrap()
}

/// Runs a test on each database there is. No protocol error may be left at its end.
pub(crate) async fn on_each<F>(test: F)
where
    F: AsyncFn(&mut World),
{
    for kind in [Kind::Sqlite, Kind::Postgres] {
        database::on(kind, async |database| {
            let mut world = World::start(database).await;
            test(&mut world).await;
            world.end().await;
        })
        .await;
    }
}

impl World {
    /// Starts both on this database.
    pub(crate) async fn start(database: &Database) -> Self {
        Self::start_with(database, Options::default(), |_| {}).await
    }

    /// Starts both on this database, with other options than the usual ones.
    pub(crate) async fn start_with(
        database: &Database,
        options: Options,
        change: impl FnOnce(&mut Config),
    ) -> Self {
        Self::start_at(Clock::system(), database, options, change).await
    }

    /// The same, by a clock that the test may move. The client library's own timers go by the
    /// machine's.
    pub(crate) async fn start_at(
        clock: Clock,
        database: &Database,
        options: Options,
        change: impl FnOnce(&mut Config),
    ) -> Self {
        let whatsapp = Simulator::start(options).await.unwrap();
        Self::beside(whatsapp, clock, database, change).await
    }

    /// Starts the daemon on this database, beside a WhatsApp that is there.
    pub(crate) async fn beside(
        whatsapp: Simulator,
        clock: Clock,
        database: &Database,
        change: impl FnOnce(&mut Config),
    ) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut config = Config { state_dir: directory.path().join("state"), ..Config::default() };
        config.http.listen = "127.0.0.1:0".parse().unwrap();
        config.database.url = Some(database.url.parse::<DatabaseUrl>().unwrap());
        config.whatsapp.url = Some(whatsapp.url());
        config.whatsapp.version = Some((2, 3000, 1_042_742_319));
        // No two dials are closer than half the time between them, which a clock that stands still never has.
        config.whatsapp.dial_rate_per_second = 1_000_000;
        // Time stands still in some tests, and all ask as fast as they can.
        config.limits = Limits::off();
        change(&mut config);
        let mut world = Self {
            whatsapp,
            daemon: None,
            clock,
            config: Box::new(config),
            http: http_client(),
            base: String::new(),
            token: String::new(),
            _directory: directory,
        };
        world.start_daemon().await;
        world
    }

    /// Starts the daemon on the state that the last one left.
    pub(crate) async fn start_daemon(&mut self) {
        log_watch::begin();
        let start = Daemon::start(Config::clone(&self.config), self.clock.clone());
        let daemon = Box::pin(start).await.unwrap();
        self.base = format!("http://{}", daemon.address());
        let token = std::fs::read_to_string(daemon.operator_token_path()).unwrap();
        token.trim().clone_into(&mut self.token);
        self.daemon = Some(daemon);
    }

    /// Stops the daemon in good order.
    pub(crate) async fn stop_daemon(&mut self) {
        let daemon = self.daemon.take().expect("the daemon runs");
        let stopped = daemon.shutdown().await;
        assert!(stopped.is_clean(), "every part ends within its time: {stopped:?}");
    }

    /// Where the daemon listens.
    pub(crate) fn address(&self) -> std::net::SocketAddr {
        self.daemon.as_ref().expect("the daemon runs").address()
    }

    /// Where the daemon keeps its own.
    pub(crate) fn state_dir(&self) -> &Path {
        &self.config.state_dir
    }

    /// The program with a command, on the daemon's state and database.
    pub(crate) fn program(&self, argument: &str) -> Command {
        let mut command = program::command(&self.config.state_dir);
        let url = self.config.database.url.as_ref().expect("every world has its database");
        command.env("WAGATE_DATABASE__URL", url.expose()).arg(argument);
        command
    }

    /// A connection to the daemon's database of the test's own, on which nothing can be written by
    /// others until its transaction ends.
    pub(crate) async fn hold_writes(&self) -> DatabaseConnection {
        let url = self.config.database.url.as_ref().expect("every world has its database");
        let other = database::connect_to(url.expose()).await;
        let hold = match other.get_database_backend() {
            DbBackend::Sqlite => "BEGIN IMMEDIATE",
            _ => "BEGIN; LOCK TABLE session IN SHARE ROW EXCLUSIVE MODE",
        };
        other.execute_unprepared(hold).await.unwrap();
        other
    }

    /// Runs one statement on the daemon's database.
    pub(crate) async fn execute(&self, sql: &str) {
        let url = self.config.database.url.as_ref().expect("every world has its database");
        database::execute(url.expose(), sql).await;
    }

    /// The one number a query of the daemon's database returns.
    pub(crate) async fn count(&self, sql: &str) -> i64 {
        let url = self.config.database.url.as_ref().expect("every world has its database");
        let db = database::connect_to(url.expose()).await;
        let statement = Statement::from_string(db.get_database_backend(), sql);
        let row = db.query_one_raw(statement).await.unwrap().unwrap();
        db.close().await.unwrap();
        row.try_get_by_index(0).unwrap()
    }

    /// Stops everything; the wire must have been spoken without a mistake.
    pub(crate) async fn end(mut self) {
        if self.daemon.is_some() {
            self.stop_daemon().await;
        }
        let violations = self.whatsapp.violations();
        assert!(violations.is_empty(), "protocol errors: {violations:#?}");
        self.whatsapp.stop().await;
        log_watch::assert_clean();
    }

    /// A request with the operator's token.
    pub(crate) fn request(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        self.http
            .request(method, format!("{}{path}", self.base))
            .bearer_auth(&self.token)
            .timeout(DEADLINE)
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        Answer::of(self.request(Method::GET, path)).await
    }

    pub(crate) async fn post(&self, path: &str, body: Value) -> Answer {
        Answer::of(self.request(Method::POST, path).json(&body)).await
    }

    pub(crate) async fn delete(&self, path: &str) -> Answer {
        Answer::of(self.request(Method::DELETE, path)).await
    }

    /// Creates a session, which starts at once.
    pub(crate) async fn create(&self, id: &str) {
        let created = self.post("/api/whatsapp/session", json!({ "sessionId": id })).await;
        assert_eq!(created.status, StatusCode::CREATED, "{}", created.body);
    }

    /// The status object.
    pub(crate) async fn status(&self, id: &str) -> Value {
        let answer = self.get(&format!("/api/whatsapp/session/status/{id}")).await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.body);
        answer.body["data"].clone()
    }

    /// Waits until `wanted` gives something, looking again whenever something was recorded.
    pub(crate) async fn until<T, F>(&self, what: &str, wanted: impl Fn() -> F) -> T
    where
        F: Future<Output = Result<T, Value>>,
    {
        let store = self.daemon.as_ref().expect("the daemon runs").store().clone();
        let mut bell = store.writer().bell();
        let deadline = tokio::time::Instant::now() + DEADLINE;
        loop {
            bell.mark_unchanged();
            let seen = match wanted().await {
                Ok(found) => return found,
                Err(seen) => seen,
            };
            let rung = tokio::time::timeout_at(deadline, bell.changed()).await;
            assert!(rung.is_ok(), "{what} did not come about; last seen: {seen:#}");
        }
    }

    /// Moves time on in steps until `wanted` gives something, and answers it with the time it took by
    /// the moved clock.
    pub(crate) async fn pass_until<T, F>(
        &self,
        what: &str,
        step: Duration,
        wanted: impl Fn() -> F,
    ) -> (T, Duration)
    where
        F: Future<Output = Result<T, Value>>,
    {
        let store = self.daemon.as_ref().expect("the daemon runs").store().clone();
        let mut bell = store.writer().bell();
        let deadline = tokio::time::Instant::now() + DEADLINE;
        let mut passed = Duration::ZERO;
        loop {
            bell.mark_unchanged();
            let seen = match wanted().await {
                Ok(found) => return (found, passed),
                Err(seen) => seen,
            };
            assert!(
                tokio::time::Instant::now() < deadline,
                "{what} did not come about; last seen: {seen:#}"
            );
            self.clock.advance(step);
            passed += step;
            // What the step has set off has some time to happen; if it takes longer, so be it.
            timeout(Duration::from_millis(40), bell.changed()).await.ok();
        }
    }

    /// Waits until a session has this status, and answers its status object.
    pub(crate) async fn until_status(&self, id: &str, status: &str) -> Value {
        self.until(&format!("status {status}"), async || {
            let seen = self.status(id).await;
            if seen["status"] == status { Ok(seen) } else { Err(seen) }
        })
        .await
    }

    /// Waits until the session shows a QR code, and answers the code.
    pub(crate) async fn until_qr(&self, id: &str) -> String {
        let seen = self.until_status(id, "qr_generated").await;
        seen["qr"].as_str().expect("a live code").to_owned()
    }

    /// Creates a session and links it to the phone with this number.
    pub(crate) async fn connect(&self, id: &str, number: &str) -> Phone {
        self.create(id).await;
        let qr = self.until_qr(id).await;
        let phone = self.whatsapp.phone(number).unwrap();
        phone.scan(&qr).await.unwrap();
        self.until_status(id, "session_connected").await;
        phone
    }

    /// Sends a text and answers the message's id with us.
    pub(crate) async fn send(&self, id: &str, to: &str, text: &str) -> String {
        let path = format!("/api/whatsapp/session/{id}/messages");
        let sent = self.post(&path, json!({ "to": to, "text": text })).await;
        assert_eq!(sent.status, StatusCode::CREATED, "{}", sent.body);
        sent.body["data"]["id"].as_str().unwrap().to_owned()
    }

    /// Waits until a message of ours has reached an ack level.
    pub(crate) async fn until_ack(&self, id: &str, message: &str, level: i64) -> Value {
        let path = format!("/api/whatsapp/session/{id}/messages/{message}");
        self.until(&format!("ack {level}"), async || {
            let seen = self.get(&path).await.body["data"].clone();
            if seen["ack"] == level { Ok(seen) } else { Err(seen) }
        })
        .await
    }

    /// Waits until this many messages are there, and answers them, the oldest first.
    pub(crate) async fn until_messages(&self, id: &str, count: usize) -> Vec<Value> {
        let path = format!("/api/whatsapp/session/{id}/messages?limit=500");
        let mut messages = self
            .until(&format!("{count} messages"), async || {
                let seen = self.get(&path).await.body["data"].clone();
                match seen.as_array() {
                    Some(messages) if messages.len() >= count => Ok(messages.clone()),
                    _ => Err(seen),
                }
            })
            .await;
        messages.reverse();
        assert_eq!(messages.len(), count, "{messages:#?}");
        messages
    }

    /// Everything that happened on a session so far, by name and data.
    pub(crate) async fn events(&self, id: &str) -> Vec<(String, Value)> {
        let path = format!("/api/whatsapp/session/{id}/events/page?after=0&limit=1000");
        let page = self.get(&path).await;
        assert_eq!(page.status, StatusCode::OK, "{}", page.body);
        let events = page.body["data"].as_array().unwrap();
        let named = events
            .iter()
            .map(|event| (event["event"].as_str().unwrap().to_owned(), event["data"].clone()));
        // Notices, with a dot in their names, are not what its run has seen.
        named.filter(|(name, _)| !name.contains('.')).collect()
    }
}

impl Answer {
    pub(crate) async fn of(request: reqwest::RequestBuilder) -> Self {
        let (client, request) = request.build_split();
        let request = request.unwrap();
        let (method, path) = (request.method().clone(), request.url().path().to_owned());
        let asked = request.try_clone();
        let response = timeout(DEADLINE, client.execute(request)).await.unwrap().unwrap();
        let (status, headers) = (response.status(), response.headers().clone());
        let bytes = response.bytes().await.unwrap();
        if let Some(asked) = asked {
            log_watch::note(&asked, &bytes);
        }
        let content_type = headers.get("content-type").map_or("", |kind| kind.to_str().unwrap());
        contract::check(&Seen {
            method: method.as_str(),
            path: &path,
            status: status.as_u16(),
            content_type,
            body: &bytes,
        });
        let body = serde_json::from_slice(&bytes)
            .unwrap_or_else(|_| Value::String(String::from_utf8_lossy(&bytes).into_owned()));
        Self { status, body }
    }
}
