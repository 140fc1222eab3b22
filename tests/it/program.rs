//! The program as systemd and an operator's shell see it: exit codes, one line for a mistake, one
//! owner of a state directory, signals. WhatsApp is not needed.

use std::{
    io::{BufRead as _, BufReader, Read as _},
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use reqwest::StatusCode;

use crate::{
    database::{Database, Kind, on_each},
    log_watch, upgrade,
    world::http_client,
};

/// More than a stop without sessions may take, and much less than the daemon's own deadline.
const PROMPT: Duration = Duration::from_secs(5);

/// The program, on this state and nothing else of ours.
pub(crate) fn command(state: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_wagate"));
    command
        .current_dir(state.parent().unwrap())
        .env_clear()
        .env("WAGATE_STATE_DIR", state)
        .env("WAGATE_HTTP__LISTEN", "127.0.0.1:0")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// A daemon in a process of its own; killed when the test fails half-way.
pub(crate) struct Process {
    child: Child,
    base: String,
    token: String,
    /// Where it logs to, if nobody else has said so.
    log: Option<tempfile::NamedTempFile>,
}

impl Process {
    pub(crate) fn start(state: &Path) -> Self {
        Self::of(command(state), state)
    }

    /// Of a command that runs the daemon.
    pub(crate) fn of(mut command: Command, state: &Path) -> Self {
        let log = tempfile::NamedTempFile::new().unwrap();
        command.stderr(log.reopen().unwrap());
        let mut this = Self::logging(command, state);
        this.log = Some(log);
        this
    }

    /// The same, where the command says what becomes of the log.
    pub(crate) fn logging(mut command: Command, state: &Path) -> Self {
        let mut child = command.spawn().unwrap();
        let base = BufReader::new(child.stdout.take().unwrap())
            .lines()
            .map_while(Result::ok)
            .find_map(|line| Some(line.trim().strip_prefix("address")?.trim().to_owned()))
            .expect("the daemon says where it answers");
        let token = std::fs::read_to_string(state.join("operator.token")).unwrap();
        log_watch::keep(token.trim());
        Self { child, base, token: token.trim().to_owned(), log: None }
    }

    pub(crate) fn token(&self) -> &str {
        &self.token
    }

    pub(crate) fn base(&self) -> &str {
        &self.base
    }

    fn get(&self, path: &str) -> reqwest::RequestBuilder {
        http_client().get(format!("{}{path}", self.base)).bearer_auth(&self.token)
    }

    pub(crate) fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args([name, &pid]).status().unwrap().success());
    }

    /// Keeps it from doing anything, with everything that it holds. Returns when it stands still.
    fn stand_still(&self) {
        self.signal("-STOP");
        let stat = format!("/proc/{}/stat", self.child.id());
        // The state is the word after the name, which is in parentheses.
        let is_still = || std::fs::read_to_string(&stat).unwrap().contains(") T ");
        let begun = Instant::now();
        while !is_still() {
            assert!(begun.elapsed() < PROMPT, "it does not stand still");
            std::thread::yield_now();
        }
    }

    /// The exit code, which must come promptly.
    pub(crate) fn code(&mut self) -> Option<i32> {
        let begun = Instant::now();
        let status = self.child.wait().unwrap();
        assert!(begun.elapsed() < PROMPT, "it took {:?} to end", begun.elapsed());
        status.code()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
        if let Some(log) = &self.log {
            log_watch::look_at(log.path());
            log_watch::assert_clean();
        }
    }
}

/// Exit code and standard error of a run that ends by itself.
pub(crate) fn ended(mut command: Command) -> (Option<i32>, String) {
    let output = command.output().unwrap();
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

#[test]
fn a_mistake_in_the_configuration_is_one_line_and_exit_64_and_opens_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("state");

    let mut wrong_variable = command(&state);
    wrong_variable.env("WAGATE_HTTP__LISTEN", "everywhere");
    let mut unknown_variable = command(&state);
    unknown_variable.env("WAGATE_DATABASE__URI", "postgres://me:hunter2@db/wagate");
    let mut wrong_flag = command(&state);
    wrong_flag.args(["--log-level", "loud"]);
    let mut missing_file = command(&state);
    missing_file.args(["--config", "/nowhere.toml", "check-config"]);

    for (command, key) in [
        (wrong_variable, "http.listen (environment variable WAGATE_HTTP__LISTEN)"),
        (unknown_variable, "database.uri (environment variable WAGATE_DATABASE__URI)"),
        (wrong_flag, "log.level (--log-level)"),
        (missing_file, "cannot read the configuration file /nowhere.toml (--config)"),
    ] {
        let (code, line) = ended(command);
        assert_eq!(code, Some(64), "{line}");
        assert_eq!(line.lines().count(), 1, "{line}");
        assert!(line.starts_with(&format!("wagate: {key}: ")), "{line}");
        assert!(!line.contains("hunter2"), "{line}");
    }

    let mut unknown_flag = command(&state);
    unknown_flag.arg("--verbose");
    assert_eq!(ended(unknown_flag).0, Some(64));

    let mut usable = command(&state);
    usable.arg("check-config");
    assert_eq!(ended(usable), (Some(0), String::new()));
    assert!(!state.exists(), "nothing was opened");
}

#[tokio::test]
async fn a_second_process_on_the_same_state_is_turned_away() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("state");
    let first = Process::start(&state);

    let (code, log) = ended(command(&state));
    assert_eq!(code, Some(1));
    let last = log.lines().last().unwrap();
    assert!(last.contains("another wagate is running: it holds "), "{last}");

    // The first one did not notice.
    let ready = http_client().get(format!("{}/readyz", first.base)).send().await.unwrap();
    assert_eq!(ready.status(), StatusCode::NO_CONTENT);
}

#[tokio::test]
async fn a_second_process_on_the_same_database_is_turned_away_before_it_touches_it() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("state");
    let first = Process::start(&state);
    let database = state.join("wagate.db");
    let symbolic = dir.path().join("symbolic.db");
    std::os::unix::fs::symlink(&database, &symbolic).unwrap();
    let hard = dir.path().join("hard.db");
    std::fs::hard_link(&database, &hard).unwrap();

    let files =
        || ["wagate.db", "wagate.db-wal"].map(|name| std::fs::read(state.join(name)).unwrap());
    // The first one copies its log into the file in its own time.
    first.stand_still();
    let before = files();
    for (number, name) in [database.clone(), symbolic, hard].iter().enumerate() {
        let mut second = command(&dir.path().join(format!("other{number}")));
        second.env("WAGATE_DATABASE__URL", format!("sqlite:{}", name.display()));
        let (code, log) = ended(second);
        assert_eq!(code, Some(1), "{log}");
        assert_eq!(log.lines().filter(|line| line.contains("ERROR")).count(), 1, "{log}");
        let last = log.lines().last().unwrap();
        assert!(last.contains("another wagate is running: it holds "), "{last}");
        assert!(last.contains(".db"), "{last}");
    }
    assert!(files() == before, "not a byte has changed");

    first.signal("-CONT");
    let ready = http_client().get(format!("{}/readyz", first.base)).send().await.unwrap();
    assert_eq!(ready.status(), StatusCode::NO_CONTENT);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_database_where_another_was_used_before_is_refused_in_one_line() {
    on_each(async |database: &Database| {
        let dir = tempfile::tempdir().unwrap();
        let state = dir.path().join("state");
        let elsewhere = Database::new(database.kind).await.unwrap();
        let on = |database: &Database| {
            let mut command = command(&state);
            command.env("WAGATE_DATABASE__URL", &database.url);
            command
        };
        let mut first = Process::of(on(database), &state);
        let create = http_client()
            .post(format!("{}/api/whatsapp/session", first.base))
            .bearer_auth(&first.token)
            .json(&serde_json::json!({ "sessionId": "sales", "start": false }));
        assert_eq!(create.send().await.unwrap().status(), StatusCode::CREATED);
        first.signal("-TERM");
        assert_eq!(first.code(), Some(0));

        let (code, log) = ended(on(&elsewhere));
        assert_eq!(code, Some(64), "{log}");
        let last = log.lines().last().unwrap();
        let file = state.join("installation");
        assert!(last.contains("this database has no session in it"), "{last}");
        assert!(last.contains(&*file.to_string_lossy()), "it says what to do: {last}");

        // The right one is served as before; and what is meant can be had.
        let mut right = Process::of(on(database), &state);
        assert_eq!(right.get("/api/whatsapp/session/sales").send().await.unwrap().status(), 200);
        right.signal("-TERM");
        assert_eq!(right.code(), Some(0));
        std::fs::remove_file(&file).unwrap();
        let anew = Process::of(on(&elsewhere), &state);
        assert_eq!(anew.get("/api/whatsapp/session/sales").send().await.unwrap().status(), 404);
        drop(anew);
        elsewhere.drop().await;
    })
    .await;
}

#[tokio::test]
async fn sigterm_closes_streams_and_ends_with_exit_0_and_the_token_stays_valid() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("state");
    let mut process = Process::start(&state);
    for (path, mode) in
        [("", 0o700), ("operator.token", 0o600), ("master.key", 0o600), ("wagate.db", 0o600)]
    {
        let metadata = std::fs::metadata(state.join(path)).unwrap();
        assert_eq!(metadata.permissions().mode() & 0o777, mode, "{path}");
    }

    let mut stream = process.get("/api/whatsapp/events").send().await.unwrap();
    assert_eq!(stream.status(), StatusCode::OK);
    assert!(stream.chunk().await.unwrap().is_some(), "the snapshot comes first");

    process.signal("-HUP");
    process.signal("-TERM");
    while stream.chunk().await.expect("the stream ends as it should").is_some() {}
    assert_eq!(process.code(), Some(0));

    let again = Process::start(&state);
    assert_eq!(again.token, process.token);
    let list = again.get("/api/whatsapp/session/list-realtime").send().await.unwrap();
    assert_eq!(list.status(), StatusCode::OK);
}

#[tokio::test]
async fn a_killed_process_leaves_nothing_that_keeps_the_next_one_from_starting() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("state");
    let mut killed = Process::start(&state);
    killed.signal("-KILL");
    killed.child.wait().unwrap();
    let next = Process::start(&state);
    assert_eq!(next.token, killed.token);
}

#[tokio::test]
async fn an_address_that_is_taken_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let mut command = command(&dir.path().join("state"));
    command.args(["--listen", &address.to_string(), "--log-format", "json"]);
    let mut child = command.spawn().unwrap();
    let mut log = String::new();
    child.stderr.take().unwrap().read_to_string(&mut log).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(1));

    let last: serde_json::Value = serde_json::from_str(log.lines().last().unwrap()).unwrap();
    assert_eq!(last["level"], "ERROR");
    let message = last["message"].as_str().unwrap();
    assert!(
        message.starts_with(&format!("Cannot start: cannot listen on {address}: ")),
        "{message}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_old_schema_is_refused_in_one_line_and_left_as_it_is_with_no_migrate() {
    on_each(async |database: &Database| {
        upgrade::load(database, "0.1.0").await;
        if database.kind == Kind::Sqlite {
            // As a daemon leaves it.
            database.execute("PRAGMA journal_mode = WAL").await;
        }
        let tables = match database.kind {
            Kind::Sqlite => "SELECT count(*) FROM sqlite_master",
            Kind::Postgres => "SELECT count(*) FROM pg_class",
        };
        let seen = async || {
            let steps = database.count("SELECT count(*) FROM seaql_migrations").await;
            (database.count(tables).await, steps, std::fs::read(&database.path).ok())
        };
        let before = seen().await;

        let directory = tempfile::tempdir().unwrap();
        let mut refused = command(&directory.path().join("state"));
        refused.arg("--no-migrate").env("WAGATE_DATABASE__URL", &database.url);
        let (code, log) = ended(refused);
        assert_eq!(code, Some(1), "{log}");
        let told: Vec<_> = log.lines().filter(|line| line.contains("Cannot start")).collect();
        assert_eq!(told.len(), 1, "{log}");
        let reason = "the schema is not up to date and migrating is switched off: missing m";
        assert!(told[0].contains(reason), "{log}");
        assert_eq!(log.lines().last(), Some(told[0]));
        assert!(!log.contains(&database.url), "{log}");

        assert!(seen().await == before, "the database was changed");
    })
    .await;
}
