//! The program itself, in a process of its own: only a process can be killed.

use std::{
    fs::{File, OpenOptions},
    io::{BufRead as _, BufReader},
    os::unix::process::ExitStatusExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    time::Duration,
};

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::time::timeout;
use wagate_simulator::Simulator;

use crate::{
    log_watch,
    world::{DEADLINE, http_client},
};

/// `SIGABRT` and `SIGKILL`: how a process ends at a moment of its own, and by our hand.
const ABORTED: i32 = 6;
const KILLED: i32 = 9;

/// The variables that name where a daemon dies, and what of it never gets its turn.
pub(crate) const KILL_AT: &str = "KILL_WAGATE_AT";
pub(crate) const HOLD_AT: &str = "HOLD_WAGATE_AT";
/// The one that names where a thread goes no further.
pub(crate) const BLOCK_AT: &str = "BLOCK_WAGATE_AT";
/// The one that names where whoever comes there panics.
pub(crate) const PANIC_AT: &str = "PANIC_WAGATE_AT";
/// The one that names where a task takes its time.
pub(crate) const SLOW_AT: &str = "SLOW_WAGATE_AT";
/// The one that names what the log says when it is come to.
pub(crate) const TELL_AT: &str = "TELL_WAGATE_AT";

/// What stays when a process is gone: its state, its database, the WhatsApp it talks to.
pub(crate) struct Installation {
    directory: PathBuf,
    database: Option<String>,
    whatsapp: String,
    /// A process in whose namespace of mounts it runs.
    within: Option<u32>,
}

impl Installation {
    /// One in `directory`, with SQLite in it or another database.
    pub(crate) fn new(directory: &Path, database: Option<&str>, whatsapp: &Simulator) -> Self {
        Self {
            directory: directory.to_owned(),
            database: database.map(str::to_owned),
            whatsapp: whatsapp.url(),
            within: None,
        }
    }

    /// Runs it in the namespace of mounts of another process.
    pub(crate) fn within(mut self, process: u32) -> Self {
        self.within = Some(process);
        self
    }

    pub(crate) fn state(&self) -> PathBuf {
        self.directory.join("disk").join("state")
    }

    /// What the processes have logged, all of them, requests left out.
    pub(crate) fn log(&self) -> String {
        let log = std::fs::read_to_string(self.directory.join("log")).unwrap_or_default();
        let lines = log.lines().filter(|line| !line.contains("http.request"));
        lines.collect::<Vec<_>>().join("\n")
    }

    fn spawn(&self, faults: &[(&str, &str)]) -> Child {
        let log: File =
            OpenOptions::new().create(true).append(true).open(self.directory.join("log")).unwrap();
        let program = env!("CARGO_BIN_EXE_wagate");
        let mut command = match self.within {
            None => Command::new(program),
            Some(process) => {
                let mut command = Command::new("nsenter");
                command.args(["--mount", "--target", &process.to_string(), program]);
                command
            }
        };
        command
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .env("WAGATE_STATE_DIR", self.state())
            .env("WAGATE_HTTP__LISTEN", "127.0.0.1:0")
            .env("WAGATE_WHATSAPP__URL", &self.whatsapp)
            .env("WAGATE_WHATSAPP__VERSION", "2.3000.1042742319")
            .env("WAGATE_WHATSAPP__DIAL_RATE_PER_SECOND", "1000")
            // Tests ask as fast as they can.
            .env("WAGATE_LIMITS__PER_TOKEN", "off")
            .env("WAGATE_LIMITS__PER_ADDRESS", "off")
            // Receivers of tests are on this machine.
            .env("WAGATE_WEBHOOKS__ALLOW_CIDRS", "127.0.0.0/8")
            .env("WAGATE_WEBHOOKS__REQUIRE_HTTPS", "false")
            .env("WAGATE_WEBHOOKS__PORTS", "")
            .envs(self.database.iter().map(|url| ("WAGATE_DATABASE__URL", url)))
            .envs(faults.iter().copied())
            .current_dir(&self.directory)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log);
        command.spawn().unwrap()
    }

    /// Starts it and waits until it says that it answers.
    pub(crate) fn start(&self) -> Process {
        self.try_start(&[]).unwrap_or_else(|ended| panic!("{ended}\n{}", self.log()))
    }

    /// Starts it with its end in sight, which may come before it answers: with variables that are faults.
    pub(crate) fn try_start(&self, faults: &[(&str, &str)]) -> Result<Process, ExitStatus> {
        let mut child = self.spawn(faults);
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let address = stdout
            .lines()
            .map_while(Result::ok)
            .find_map(|line| Some(line.trim().strip_prefix("address")?.trim().to_owned()));
        let Some(base) = address else { return Err(child.wait().unwrap()) };
        // As the process itself sees it.
        let token = format!("/proc/{}/root{}/operator.token", child.id(), self.state().display());
        let token = std::fs::read_to_string(token).unwrap();
        let key = format!("/proc/{}/root{}/master.key", child.id(), self.state().display());
        for secret in [token.trim(), std::fs::read_to_string(key).unwrap_or_default().trim()] {
            log_watch::keep(secret);
        }
        Ok(Process {
            log: self.directory.join("log"),
            child: Some(child),
            base,
            token: token.trim().to_owned(),
            http: http_client(),
        })
    }
}

/// A daemon in a process of its own; killed when the test fails half-way.
pub(crate) struct Process {
    child: Option<Child>,
    /// Of all processes of its installation.
    log: PathBuf,
    base: String,
    token: String,
    http: reqwest::Client,
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            child.kill().ok();
            child.wait().ok();
        }
        log_watch::look_at(&self.log);
        log_watch::assert_clean();
    }
}

impl Process {
    pub(crate) fn base(&self) -> &str {
        &self.base
    }

    pub(crate) fn request(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        self.http.request(method, format!("{}{path}", self.base)).bearer_auth(&self.token)
    }

    /// Asks; none when the process has died over it.
    pub(crate) async fn ask(
        &self,
        method: Method,
        path: &str,
        body: Option<Value>,
    ) -> Option<(StatusCode, Value)> {
        let mut request = self.request(method, path);
        if let Some(body) = body {
            log_watch::note_value(&body);
            request = request.json(&body);
        }
        let answer = request.send().await.ok()?;
        let status = answer.status();
        let bytes = answer.bytes().await.ok()?;
        let answer = serde_json::from_slice(&bytes).unwrap_or_default();
        log_watch::note_value(&answer);
        Some((status, answer))
    }

    pub(crate) async fn get(&self, path: &str) -> Value {
        self.ask(Method::GET, path, None).await.expect("the daemon lives").1
    }

    pub(crate) async fn post(&self, path: &str, body: Value) -> (StatusCode, Value) {
        self.ask(Method::POST, path, Some(body)).await.expect("the daemon lives")
    }

    /// Looks at a session's status object whenever something has happened on it, until `look` finds
    /// something. None when the process has died.
    pub(crate) async fn watch<T>(
        &self,
        session: &str,
        what: &str,
        look: impl Fn(&Value) -> Option<T>,
    ) -> Option<T> {
        let status = format!("/api/whatsapp/session/status/{session}");
        let mut after = 0;
        let deadline = tokio::time::Instant::now() + DEADLINE;
        let mut seen = Value::Null;
        while tokio::time::Instant::now() < deadline {
            seen = self.ask(Method::GET, &status, None).await?.1["data"].take();
            if let Some(found) = look(&seen) {
                return Some(found);
            }
            let page = format!(
                "/api/whatsapp/session/{session}/events/page?after={after}&wait=20&limit=1000"
            );
            let page = self.ask(Method::GET, &page, None).await?.1;
            if let Some(last) = page["data"].as_array().and_then(|events| events.last()) {
                after = last["seq"].as_i64().unwrap();
            }
        }
        panic!("{what} did not come about: {seen:#}");
    }

    /// Creates a session and answers the code that it shows; none when the process has died.
    pub(crate) async fn code(&self, session: &str) -> Option<String> {
        let body = json!({ "sessionId": session });
        self.ask(Method::POST, "/api/whatsapp/session", Some(body)).await?;
        self.shown_code(session).await
    }

    /// The code that a session shows; none when the process has died.
    pub(crate) async fn shown_code(&self, session: &str) -> Option<String> {
        self.watch(session, "a code", |seen| {
            (seen["needsQR"] == true).then(|| seen["qr"].as_str().unwrap().to_owned())
        })
        .await
    }

    /// Waits until a session whose code was scanned is connected; none when the process has died.
    pub(crate) async fn paired(&self, session: &str) -> Option<()> {
        self.watch(session, "connected", |seen| (seen["isConnected"] == true).then_some(())).await
    }

    /// Has a session dialled at once that waits because its process dies so often, as an operator
    /// would. None when the process has died.
    pub(crate) async fn hurry(&self, session: &str) -> Option<()> {
        let status = format!("/api/whatsapp/session/status/{session}");
        let (_, seen) = self.ask(Method::GET, &status, None).await?;
        if seen["data"]["status"] == "connecting" {
            let start = format!("/api/whatsapp/session/{session}/start");
            self.ask(Method::POST, &start, Some(json!({}))).await?;
        }
        Some(())
    }

    /// Waits until a paired session is connected, which it becomes without another code. None when
    /// the process has died.
    pub(crate) async fn connected(&self, session: &str) -> Option<()> {
        self.hurry(session).await?;
        self.watch(session, "connected", |seen| {
            assert_ne!(seen["needsQR"], true, "{session} needs a new code: {seen:#}");
            assert_ne!(seen["status"], "auth_failure", "{session} lost its credentials: {seen:#}");
            (seen["isConnected"] == true).then_some(())
        })
        .await
    }

    /// All messages of a session, the oldest first.
    pub(crate) async fn messages(&self, session: &str) -> Vec<Value> {
        let mut messages = Vec::new();
        let mut cursor = String::new();
        loop {
            let path = format!("/api/whatsapp/session/{session}/messages?limit=500{cursor}");
            let page = self.get(&path).await;
            messages.extend(page["data"].as_array().unwrap().iter().cloned());
            match page["nextCursor"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => break,
            }
        }
        messages.reverse();
        messages
    }

    /// Waits for its end, and ends it when that does not come.
    pub(crate) async fn end_within(mut self, deadline: Duration) -> ExitStatus {
        let mut child = self.child.take().unwrap();
        let pid = child.id();
        let mut wait = tokio::task::spawn_blocking(move || child.wait().unwrap());
        if let Ok(status) = timeout(deadline, &mut wait).await {
            return status.unwrap();
        }
        send_signal(pid, "-KILL");
        wait.await.unwrap()
    }

    /// As `kill -9` does: nothing is told, nothing is written.
    pub(crate) fn kill(mut self) {
        let mut child = self.child.take().unwrap();
        child.kill().unwrap();
        assert!(was_killed(child.wait().unwrap()));
    }

    pub(crate) fn signal(&self, name: &str) {
        send_signal(self.id(), name);
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.as_ref().unwrap().id()
    }

    /// As systemd does.
    pub(crate) async fn terminate(mut self) {
        self.signal("-TERM");
        let mut child = self.child.take().unwrap();
        let ended = tokio::task::spawn_blocking(move || child.wait()).await.unwrap().unwrap();
        assert!(ended.success(), "{ended}");
    }
}

/// Whether a process came to the moment that it was to end at.
pub(crate) fn aborted(status: ExitStatus) -> bool {
    status.signal() == Some(ABORTED)
}

/// Whether a process was ended by force, and did not end itself for some reason of its own.
pub(crate) fn was_killed(status: ExitStatus) -> bool {
    matches!(status.signal(), Some(ABORTED | KILLED))
}

pub(crate) fn send_signal(pid: u32, name: &str) {
    let sent = Command::new("kill").args([name, &pid.to_string()]).status().unwrap();
    assert!(sent.success());
}
