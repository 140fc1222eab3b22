//! Several daemons on one PostgreSQL database, each in a process of its own: only a process can be
//! killed, paused, or cut off.

use std::{
    fs::File,
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::Arc,
};

use futures_util::future::join_all;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream, UnixStream},
    sync::watch,
};
use tokio_util::task::TaskTracker;
use wagate_simulator::{Options, Phone, Simulator};

use crate::{
    database::Database,
    log_watch,
    world::{DEADLINE, http_client},
};

/// How long a test's daemon is taken to live. As short as a busy machine allows.
pub(crate) const LEASE: &str = "6s";

/// One key for all: what one has sealed, the others must read.
const MASTER_KEY: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";

/// The daemons' WhatsApp, and where they keep what is theirs alone.
pub(crate) struct Cluster<'a> {
    pub(crate) whatsapp: Simulator,
    pub(crate) database: &'a Database,
    directory: TempDir,
    lease: &'static str,
}

/// A daemon. Killed when a test fails half-way.
pub(crate) struct Node {
    pub(crate) name: &'static str,
    child: Child,
    base: String,
    token: String,
    http: reqwest::Client,
    log: PathBuf,
}

impl<'a> Cluster<'a> {
    pub(crate) async fn new(database: &'a Database, lease: &'static str) -> Self {
        let whatsapp = Simulator::start(Options::default()).await.unwrap();
        Self { whatsapp, database, directory: tempfile::tempdir().unwrap(), lease }
    }

    /// Starts a daemon, or starts it again.
    pub(crate) fn start(&self, name: &'static str) -> Node {
        self.start_through(name, &self.database.url)
    }

    /// Starts a daemon that reaches the database by this URL.
    pub(crate) fn start_through(&self, name: &'static str, url: &str) -> Node {
        self.start_with(name, url, &[])
    }

    /// Starts a daemon that stops still at a moment, as `src/fault.rs` says.
    pub(crate) fn start_to_be_paused(&self, name: &'static str, moment: &str) -> Node {
        self.start_with(name, &self.database.url, &[("PAUSE_WAGATE_AT", moment)])
    }

    /// Starts a daemon that is configured so, besides.
    pub(crate) fn start_configured(&self, name: &'static str, more: &[(&str, &str)]) -> Node {
        self.start_with(name, &self.database.url, more)
    }

    fn start_with(&self, name: &'static str, url: &str, more: &[(&str, &str)]) -> Node {
        let state = self.directory.path().join(name);
        let log = self.directory.path().join(format!("{name}.log"));
        Node::start(name, &state, log, url, &self.whatsapp, self.lease, more)
    }

    /// Pairs sessions, whose first codes are asked of this daemon.
    pub(crate) async fn pair(&self, node: &Node, names: &[String]) -> Vec<Phone> {
        join_all(names.iter().enumerate().map(async |(n, name)| {
            let shown = node.until(name, "a code", |seen| seen["needsQR"] == true).await;
            let phone = self.whatsapp.phone(&number(n)).unwrap();
            phone.scan(shown["qr"].as_str().unwrap()).await.unwrap();
            node.until(name, "connected", |seen| seen["isConnected"] == true).await;
            phone
        }))
        .await
    }

    /// Who owns each session, by the daemons' names.
    pub(crate) async fn owners(&self) -> Vec<(String, String)> {
        let rows = self
            .database
            .query(
                "SELECT session.session_id, node.name FROM lease \
                 JOIN node ON node.id = lease.node_id \
                 JOIN session ON session.id = lease.session_key ORDER BY 1",
            )
            .await;
        rows.iter()
            .map(|row| (row.try_get_by_index(0).unwrap(), row.try_get_by_index(1).unwrap()))
            .collect()
    }

    /// The sessions that a daemon owns.
    pub(crate) async fn owned_by(&self, name: &str) -> Vec<String> {
        let owners = self.owners().await.into_iter();
        owners.filter(|(_, owner)| owner == name).map(|(session, _)| session).collect()
    }

    /// What fences the sessions: how often each changed its owner, and how many runs it had.
    pub(crate) async fn epochs(&self) -> Vec<(String, i64, i64)> {
        let rows = self
            .database
            .query(
                "SELECT session.session_id, lease.epoch, session.generation FROM lease \
                 JOIN session ON session.id = lease.session_key ORDER BY 1",
            )
            .await;
        rows.iter()
            .map(|row| {
                let column = |at| row.try_get_by_index(at).unwrap();
                (row.try_get_by_index(0).unwrap(), column(1), column(2))
            })
            .collect()
    }

    /// The wire must have been spoken without a mistake: above all, no device may have logged in
    /// while it was connected.
    pub(crate) async fn end(self) {
        let violations = self.whatsapp.violations();
        assert!(violations.is_empty(), "{violations:#?}");
        self.whatsapp.stop().await;
    }
}

/// The phone number of the n-th session.
pub(crate) fn number(n: usize) -> String {
    format!("1557{n:07}")
}

impl Node {
    fn start(
        name: &'static str,
        state: &Path,
        log: PathBuf,
        url: &str,
        whatsapp: &Simulator,
        lease: &str,
        more: &[(&str, &str)],
    ) -> Self {
        let stderr = File::options().create(true).append(true).open(&log).unwrap();
        let mut child = Command::new(env!("CARGO_BIN_EXE_wagate"))
            .env_clear()
            .env("WAGATE_STATE_DIR", state)
            .env("WAGATE_HTTP__LISTEN", "127.0.0.1:0")
            .env("WAGATE_LIMITS__PER_TOKEN", "off")
            .env("WAGATE_LIMITS__PER_ADDRESS", "off")
            .env("WAGATE_DATABASE__URL", url)
            .env("WAGATE_DATABASE__READERS", "2")
            .env("WAGATE_DATABASE__WRITERS", "2")
            .env("WAGATE_ENCRYPTION__MASTER_KEY", MASTER_KEY)
            .env("WAGATE_NODE__NAME", name)
            .env("WAGATE_NODE__LEASE", lease)
            // Receivers of tests are on this machine.
            .env("WAGATE_WEBHOOKS__ALLOW_CIDRS", "127.0.0.0/8")
            .env("WAGATE_WEBHOOKS__REQUIRE_HTTPS", "false")
            .env("WAGATE_WEBHOOKS__PORTS", "")
            .env("WAGATE_WHATSAPP__URL", whatsapp.url())
            .env("WAGATE_WHATSAPP__VERSION", "2.3000.1042742319")
            .env("WAGATE_WHATSAPP__DIAL_RATE_PER_SECOND", "1000")
            .envs(more.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(stderr)
            .spawn()
            .unwrap();
        let base = BufReader::new(child.stdout.take().unwrap())
            .lines()
            .map_while(Result::ok)
            .find_map(|line| Some(line.trim().strip_prefix("address")?.trim().to_owned()));
        let base = base.unwrap_or_else(|| {
            panic!("{name} does not start: {}", std::fs::read_to_string(&log).unwrap())
        });
        let token = std::fs::read_to_string(state.join("operator.token")).unwrap();
        let token = token.trim().to_owned();
        for secret in [token.as_str(), MASTER_KEY] {
            log_watch::keep(secret);
        }
        Self { name, child, base, token, http: http_client(), log }
    }

    pub(crate) fn address(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }

    pub(crate) fn request(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        self.http.request(method, self.address(path)).bearer_auth(&self.token)
    }

    pub(crate) async fn get(&self, path: &str) -> (StatusCode, Value) {
        let answer = self.request(Method::GET, path).send().await.unwrap();
        let (status, body) = (answer.status(), answer.json().await.unwrap_or_default());
        log_watch::note_value(&body);
        (status, body)
    }

    pub(crate) async fn post(&self, path: &str, body: Value) -> (StatusCode, Value) {
        log_watch::note_value(&body);
        let answer = self.request(Method::POST, path).json(&body).send().await.unwrap();
        (answer.status(), answer.json().await.unwrap())
    }

    pub(crate) async fn delete(&self, path: &str) -> (StatusCode, Value) {
        let answer = self.request(Method::DELETE, path).send().await.unwrap();
        (answer.status(), answer.json().await.unwrap())
    }

    pub(crate) async fn create(&self, session: &str) {
        let made = self.post("/api/whatsapp/session", json!({ "sessionId": session })).await;
        assert_eq!(made.0, StatusCode::CREATED, "{}", made.1);
    }

    /// Asks for something to be done to a session; it must be done.
    pub(crate) async fn command(&self, session: &str, command: &str) -> Value {
        let path = format!("/api/whatsapp/session/{session}/{command}");
        let (status, body) = self.post(&path, json!({})).await;
        assert_eq!(status, StatusCode::OK, "{body}");
        body["data"].clone()
    }

    pub(crate) async fn status(&self, session: &str) -> Value {
        self.get(&format!("/api/whatsapp/session/status/{session}")).await.1["data"].clone()
    }

    /// Sends a text, kept until the session is connected.
    pub(crate) async fn send(&self, session: &str, to: &str, text: &str) -> (StatusCode, Value) {
        let body = json!({ "to": to, "text": text, "queue": true });
        self.post(&format!("/api/whatsapp/session/{session}/messages"), body).await
    }

    /// All messages of a session, the newest first.
    pub(crate) async fn messages(&self, session: &str) -> Vec<Value> {
        let path = format!("/api/whatsapp/session/{session}/messages?limit=500");
        self.get(&path).await.1["data"].as_array().unwrap().clone()
    }

    /// Waits until a session's status object is as wanted.
    pub(crate) async fn until(
        &self,
        session: &str,
        what: &str,
        wanted: impl Fn(&Value) -> bool,
    ) -> Value {
        self.until_some(&format!("{session}: {what}"), async || {
            let seen = self.status(session).await;
            if wanted(&seen) { Ok(seen) } else { Err(seen) }
        })
        .await
    }

    /// Waits until all these sessions are connected, as this daemon says.
    pub(crate) async fn until_connected(&self, sessions: &[String]) {
        for session in sessions {
            self.until(session, "connected", |seen| seen["isConnected"] == true).await;
        }
    }

    /// Waits until `look` gives something; it looks again whenever something was recorded.
    pub(crate) async fn until_some<T>(
        &self,
        what: &str,
        look: impl AsyncFn() -> Result<T, Value>,
    ) -> T {
        let deadline = tokio::time::Instant::now() + DEADLINE;
        let mut after = 0;
        loop {
            let seen = match look().await {
                Ok(found) => return found,
                Err(seen) => seen,
            };
            assert!(
                tokio::time::Instant::now() <= deadline,
                "{what} did not come about; last seen by {}: {seen:#}\n{}",
                self.name,
                self.log()
            );
            let page = format!("/api/whatsapp/events/page?after={after}&wait=1&limit=1000");
            let (_, page) = self.get(&page).await;
            if let Some(last) = page["data"].as_array().and_then(|events| events.last()) {
                after = last["seq"].as_i64().unwrap();
            }
        }
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap()
    }

    /// Whether its process is stopped, as by `SIGSTOP`.
    pub(crate) fn is_paused(&self) -> bool {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap();
        let (_, state) = stat.rsplit_once(") ").unwrap();
        state.starts_with('T')
    }

    pub(crate) fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args([name, &pid]).status().unwrap().success());
    }

    /// As `kill -9` does: nothing is told, nothing is written.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// As systemd does.
    pub(crate) async fn terminate(mut self) {
        self.signal("-TERM");
        let ended = tokio::task::spawn_blocking(move || {
            let ended = self.child.wait().unwrap();
            (ended, self.log())
        });
        let (ended, log) = ended.await.unwrap();
        assert!(ended.success(), "{ended}\n{log}");
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
        log_watch::look_at(&self.log);
        log_watch::assert_clean();
    }
}

/// Between a daemon and PostgreSQL: lets everything pass, or nothing, without a word.
pub(crate) struct Gate {
    port: u16,
    way: Arc<watch::Sender<Way>>,
}

/// What passes a gate.
#[derive(Clone, Copy)]
struct Way {
    open: bool,
    /// How often the connections that there were have fallen silent.
    silences: u32,
}

impl Gate {
    pub(crate) async fn new(server: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let way = Arc::new(watch::Sender::new(Way { open: true, silences: 0 }));
        let (server, gate) = (server.to_owned(), way.clone());
        let tasks = TaskTracker::new();
        let relays = tasks.clone();
        tasks.spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (server, way) = (server.clone(), gate.subscribe());
                relays.spawn(async move {
                    let (from_client, to_client) = client.into_split();
                    if let Some(path) = socket(&server) {
                        let server = UnixStream::connect(path).await.unwrap();
                        let (from_server, to_server) = server.into_split();
                        relay((from_client, to_server), (from_server, to_client), way).await;
                    } else {
                        let url = url::Url::parse(&server).unwrap();
                        let address = (url.host_str().unwrap(), url.port().unwrap_or(5432));
                        let server = TcpStream::connect(address).await.unwrap();
                        let (from_server, to_server) = server.into_split();
                        relay((from_client, to_server), (from_server, to_client), way).await;
                    }
                });
            }
        });
        Self { port, way }
    }

    /// The same database, through the gate.
    pub(crate) fn url(&self, server: &str) -> String {
        let url = url::Url::parse(server).unwrap();
        let password = url.password().map(|password| format!(":{password}")).unwrap_or_default();
        let (user, name) = (url.username(), url.path());
        format!("postgres://{user}{password}@127.0.0.1:{}{name}?sslmode=disable", self.port)
    }

    pub(crate) fn shut(&self) {
        self.way.send_modify(|way| way.open = false);
    }

    pub(crate) fn open(&self) {
        self.way.send_modify(|way| way.open = true);
    }

    /// Swallows whatever comes on the connections that there are, for ever and without a word, what is held up at
    /// the gate among it. New ones pass.
    pub(crate) fn swallow(&self) {
        self.way.send_modify(|way| way.silences += 1);
    }
}

/// The server's Unix socket, if the URL names a folder as its host.
fn socket(url: &str) -> Option<String> {
    let (_, options) = url.split_once("host=")?;
    let folder = options.split('&').next()?;
    folder.starts_with('/').then(|| format!("{folder}/.s.PGSQL.5432"))
}

async fn relay(
    there: (impl AsyncRead + Unpin, impl AsyncWrite + Unpin),
    back: (impl AsyncRead + Unpin, impl AsyncWrite + Unpin),
    way: watch::Receiver<Way>,
) {
    // When one direction has ended, so has the connection.
    tokio::select! {
        () = pass(there, way.clone()) => {}
        () = pass(back, way) => {}
    }
}

async fn pass(
    (mut from, mut to): (impl AsyncRead + Unpin, impl AsyncWrite + Unpin),
    mut way: watch::Receiver<Way>,
) {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    let begun = way.borrow().silences;
    let mut some = vec![0; 1 << 16];
    while let Ok(length @ 1..) = from.read(&mut some).await {
        let Ok(silences) = way.wait_for(|way| way.open).await.map(|way| way.silences) else {
            return;
        };
        if silences == begun && to.write_all(&some[..length]).await.is_err() {
            return;
        }
    }
}
