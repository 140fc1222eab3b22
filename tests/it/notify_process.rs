//! What systemd hears of a process from its start to its end, a reload between, and the sockets it hands over.

use std::{
    fs,
    net::TcpListener,
    os::{
        fd::{AsRawFd as _, OwnedFd},
        unix::net::UnixDatagram,
    },
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use reqwest::StatusCode;
use tokio_util::task::TaskTracker;
use wagate_simulator::{Options, Simulator};

use crate::{
    process::Installation,
    program::{Process, command, ended},
    world::{ALICE, http_client},
};

/// More than anything takes that is waited for.
const DEADLINE: Duration = Duration::from_secs(20);

/// The socket that systemd would listen at.
struct Systemd {
    path: PathBuf,
    socket: UnixDatagram,
}

impl Systemd {
    fn listening(directory: &Path) -> Self {
        let path = directory.join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_read_timeout(Some(DEADLINE)).unwrap();
        Self { path, socket }
    }

    /// The next that is said, as lines.
    fn hears(&self) -> Vec<String> {
        let mut said = [0; 1024];
        let length = self.socket.recv(&mut said).expect("something is said");
        String::from_utf8_lossy(&said[..length]).lines().map(str::to_owned).collect()
    }

    /// The next that is said and is no sign of life.
    fn hears_news(&self) -> Vec<String> {
        loop {
            let said = self.hears();
            if said != ["WATCHDOG=1"] {
                return said;
            }
        }
    }
}

/// The configuration file, as it was last written.
struct Written(PathBuf);

impl Written {
    fn at(directory: &Path) -> Self {
        Self(directory.join("wagate.toml"))
    }

    fn says(&self, text: &str) {
        fs::write(&self.0, text).unwrap();
    }

    /// The program, which reads it and logs into a file of its own.
    fn command(&self, state: &Path, log: &Path) -> Command {
        let mut command = command(state);
        command.env("WAGATE_CONFIG", &self.0).stderr(fs::File::create(log).unwrap());
        command
    }
}

fn moment(said: &[String]) -> u64 {
    let moment = said.iter().find_map(|line| line.strip_prefix("MONOTONIC_USEC="));
    moment.expect("it says when").parse().unwrap()
}

/// How the kernel counts it.
fn now() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    u64::try_from(now.tv_sec * 1_000_000 + now.tv_nsec / 1000).unwrap()
}

#[tokio::test]
async fn systemd_hears_of_the_start_signs_of_life_a_reload_and_the_end_in_that_order() {
    let dir = tempfile::tempdir().unwrap();
    let (state, log) = (dir.path().join("state"), dir.path().join("log"));
    let systemd = Systemd::listening(dir.path());
    let written = Written::at(dir.path());
    written.says("[log]\nlevel = 'info'\n");
    let mut wagate = written.command(&state, &log);
    wagate.env("NOTIFY_SOCKET", &systemd.path).env("WATCHDOG_USEC", "200000");
    let mut daemon = Process::logging(wagate, &state);

    let ready = systemd.hears();
    assert_eq!(ready[0], "READY=1", "nothing is said before: {ready:?}");
    let address = daemon.base().strip_prefix("http://").unwrap();
    assert_eq!(ready[1], format!("STATUS=Listening on {address}"));
    for _ in 0..3 {
        assert_eq!(systemd.hears(), ["WATCHDOG=1"]);
    }

    let before = now();
    daemon.signal("-HUP");
    let reloading = systemd.hears_news();
    assert_eq!(reloading[0], "RELOADING=1", "{reloading:?}");
    let at = moment(&reloading);
    assert!(at >= before && at <= now(), "{before} {at}");
    assert_eq!(systemd.hears_news()[0], "READY=1");

    daemon.signal("-TERM");
    assert_eq!(systemd.hears_news()[0], "STOPPING=1");
    assert_eq!(daemon.code(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn ready_is_said_when_the_sessions_that_are_to_run_have_begun_to() {
    let whatsapp = Simulator::start(Options::default()).await.unwrap();
    let dir = tempfile::tempdir().unwrap();
    let installation = Installation::new(dir.path(), None, &whatsapp);
    let daemon = installation.start();
    let code = daemon.code("sales").await.unwrap();
    whatsapp.phone(ALICE).unwrap().scan(&code).await.unwrap();
    daemon.paired("sales").await.unwrap();
    daemon.terminate().await;

    let systemd = Systemd::listening(dir.path());
    let (socket, log) = (systemd.path.clone(), dir.path().join("log"));
    // The log as it is at that moment.
    let hears = std::thread::spawn(move || (systemd.hears(), fs::read_to_string(log).unwrap()));
    let daemon = installation.try_start(&[("NOTIFY_SOCKET", socket.to_str().unwrap())]).unwrap();
    let (said, log) = hears.join().unwrap();
    assert_eq!(said[0], "READY=1", "{said:?}");
    assert!(log.contains("Resuming 1 sessions"), "{log}");
    assert_eq!(log.matches("Listening on ").count(), 2, "{log}");
    daemon.connected("sales").await.unwrap();
    daemon.terminate().await;
    whatsapp.stop().await;
}

#[tokio::test]
async fn a_reload_takes_over_limits_and_what_is_logged_and_says_what_must_wait() {
    let dir = tempfile::tempdir().unwrap();
    let (state, log) = (dir.path().join("state"), dir.path().join("log"));
    let systemd = Systemd::listening(dir.path());
    let written = Written::at(dir.path());
    written.says("[log]\nlevel = 'warn'\n[limits]\nper_token_burst = 100\n");
    let mut wagate = written.command(&state, &log);
    wagate.env("NOTIFY_SOCKET", &systemd.path);
    let daemon = Process::logging(wagate, &state);
    assert_eq!(systemd.hears()[0], "READY=1");
    let burst = async || {
        let request = http_client().get(daemon.base()).bearer_auth(daemon.token());
        let answer = request.send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::OK);
        answer.headers()["x-ratelimit-limit"].to_str().unwrap().to_owned()
    };
    let reload = |text: &str| {
        written.says(text);
        daemon.signal("-HUP");
        assert_eq!(systemd.hears_news()[0], "RELOADING=1");
        assert_eq!(systemd.hears_news()[0], "READY=1");
        fs::read_to_string(&log).unwrap()
    };
    assert_eq!(burst().await, "100");
    assert!(!fs::read_to_string(&log).unwrap().contains("http.request"), "requests are info");

    let said = reload(
        "[log]\nlevel = 'info'\n[limits]\nper_token_burst = 7\n[http]\nrequest_timeout = '9s'\n",
    );
    assert!(said.contains("Taken over: limits.per_token_burst, log.level"), "{said}");
    assert!(said.contains("Taken over at the next start only: http.request_timeout"), "{said}");
    assert_eq!(burst().await, "7");
    let said = fs::read_to_string(&log).unwrap();
    assert!(said.contains("http.request"), "a request is told of now: {said}");
    let audit = async || {
        let url = format!("{}/api/audit?action=configuration_changed", daemon.base());
        let answer = http_client().get(url).bearer_auth(daemon.token()).send().await.unwrap();
        let log: serde_json::Value = answer.json().await.unwrap();
        let entries = log["data"].as_array().unwrap().iter();
        entries.map(|entry| entry["detail"]["keys"].to_string()).collect::<Vec<_>>()
    };
    // Of what is taken over, its name. What waits for the next start is not taken over.
    assert_eq!(audit().await, [r#"["limits.per_token_burst","log.level"]"#]);

    // What is of no use changes nothing.
    let said = reload("[limits]\nper_token_burst = 'many'\n");
    assert!(
        said.contains("is of no use, and the one before holds: limits.per_token_burst"),
        "{said}"
    );
    assert_eq!(burst().await, "7");
    assert_eq!(audit().await.len(), 1);
}

#[tokio::test]
async fn a_reload_counts_for_those_that_log_through_the_facade_too_and_tells_of_other_secrets() {
    let dir = tempfile::tempdir().unwrap();
    let (state, log) = (dir.path().join("state"), dir.path().join("log"));
    let systemd = Systemd::listening(dir.path());
    let written = Written::at(dir.path());
    let rest = "[webhooks]\nallow_cidrs = '127.0.0.0/8'\nrequire_https = false\nports = ''\n\
                [meta]\ndefault_webhook_secret =";
    written.says(&format!("{rest} 'secret-one'\n"));
    let mut wagate = written.command(&state, &log);
    wagate.env("NOTIFY_SOCKET", &systemd.path);
    let daemon = Process::logging(wagate, &state);
    assert_eq!(systemd.hears()[0], "READY=1");
    let reload = |text: String| {
        written.says(&text);
        daemon.signal("-HUP");
        assert_eq!(systemd.hears_news()[0], "RELOADING=1");
        assert_eq!(systemd.hears_news()[0], "READY=1");
        fs::read_to_string(&log).unwrap()
    };
    let post = async |path: &str, body: serde_json::Value| -> serde_json::Value {
        let request = http_client().post(format!("{}{path}", daemon.base()));
        let answer = request.bearer_auth(daemon.token()).json(&body).send().await.unwrap();
        assert!(answer.status().is_success(), "{}", answer.status());
        answer.json().await.unwrap()
    };
    // Nobody listens there. The HTTP client says through `log` that it connects.
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let url = format!("http://{closed}/");
    let made = post("/api/webhooks", serde_json::json!({ "url": url })).await;
    let test = format!("/api/webhooks/{}/test", made["data"]["id"].as_str().unwrap());
    let connects = "starting new connection";
    post(&test, serde_json::json!({})).await;
    assert!(!fs::read_to_string(&log).unwrap().contains(connects));

    let said = reload(format!("[log]\nfilter = 'reqwest=debug'\n{rest} 'secret-other'\n"));
    let told = "Taken over at the next start only: meta.default_webhook_secret";
    assert!(said.contains(told) && !said.contains("secret-o"), "{said}");
    post(&test, serde_json::json!({})).await;
    let said = fs::read_to_string(&log).unwrap();
    let seen = said.matches(connects).count();
    assert!(seen > 0, "{said}");

    let said = reload(format!("{rest} 'secret-one'\n"));
    assert_eq!(said.matches(told).count(), 1, "as at the start: {said}");
    post(&test, serde_json::json!({})).await;
    assert_eq!(fs::read_to_string(&log).unwrap().matches(connects).count(), seen);
}

#[tokio::test]
async fn a_reload_that_asks_for_less_logs_less() {
    let dir = tempfile::tempdir().unwrap();
    let (state, log) = (dir.path().join("state"), dir.path().join("log"));
    let systemd = Systemd::listening(dir.path());
    let written = Written::at(dir.path());
    written.says("[log]\nlevel = 'info'\nformat = 'json'\n");
    let mut wagate = written.command(&state, &log);
    wagate.env("NOTIFY_SOCKET", &systemd.path);
    let daemon = Process::logging(wagate, &state);
    systemd.hears_news();
    written.says("[log]\nlevel = 'error'\nformat = 'json'\n");
    daemon.signal("-HUP");
    assert_eq!(systemd.hears_news()[0], "RELOADING=1");
    assert_eq!(systemd.hears_news()[0], "READY=1");
    let before = fs::read_to_string(&log).unwrap();
    let ready = http_client().get(daemon.base()).bearer_auth(daemon.token());
    assert_eq!(ready.send().await.unwrap().status(), StatusCode::OK);
    assert_eq!(fs::read_to_string(&log).unwrap(), before);
}

/// A copy of a socket that programs inherit, far from the numbers that they use.
fn inheritable(socket: &TcpListener) -> OwnedFd {
    let copy = rustix::io::fcntl_dupfd_cloexec(socket, 100).unwrap();
    rustix::io::fcntl_setfd(&copy, rustix::io::FdFlags::empty()).unwrap();
    copy
}

/// The program, started as systemd does with sockets: from descriptor 3 on, and its own id in a variable.
fn activated(state: &Path, sockets: &[OwnedFd]) -> Command {
    let numbered = sockets.iter().enumerate();
    let moved: Vec<_> = numbered
        .map(|(number, socket)| format!("exec {}<&{}; ", number + 3, socket.as_raw_fd()))
        .collect();
    let program = env!("CARGO_BIN_EXE_wagate");
    let run = format!("exec env LISTEN_PID=$$ LISTEN_FDS={} {program}", sockets.len());
    let script = moved.concat() + &run;
    let mut shell = Command::new("bash");
    shell
        .args(["-c", &script])
        .current_dir(state.parent().unwrap())
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .env("WAGATE_STATE_DIR", state)
        .stdin(Stdio::null())
        .stdout(Stdio::piped());
    shell
}

#[tokio::test]
async fn sockets_that_systemd_hands_over_are_answered_and_outlive_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("state");
    let [all, watchers] = [(), ()].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    let base = format!("http://{}", all.local_addr().unwrap());
    let admin = format!("http://{}", watchers.local_addr().unwrap());
    let given = [&all, &watchers].map(inheritable);
    let start = || Process::of(activated(&state, &given), &state);

    let mut first = start();
    assert_eq!(first.base(), base);
    let ready = http_client().get(format!("{admin}/readyz")).send().await.unwrap();
    assert_eq!(ready.status(), StatusCode::NO_CONTENT);
    first.signal("-TERM");
    assert_eq!(first.code(), Some(0));

    // Nobody is turned away meanwhile: who comes waits for the next daemon.
    let waiting = TaskTracker::new().spawn(http_client().get(format!("{base}/readyz")).send());
    let begun = Instant::now();
    while !is_waiting_at(&all) {
        assert!(begun.elapsed() < DEADLINE, "it does not connect");
        tokio::task::yield_now().await;
    }
    let second = start();
    assert_eq!(waiting.await.unwrap().unwrap().status(), StatusCode::NO_CONTENT);
    drop(second);
}

/// Whether somebody has connected whom nobody has accepted.
fn is_waiting_at(socket: &TcpListener) -> bool {
    let port = format!(":{:04X} ", socket.local_addr().unwrap().port());
    let table = fs::read_to_string("/proc/net/tcp").unwrap();
    // Established, with our port on its own side.
    table.lines().any(|line| {
        let mut words = line.split_whitespace().skip(1);
        let local = words.next().unwrap_or_default();
        format!("{local} ").ends_with(&port) && words.nth(1) == Some("01")
    })
}

#[tokio::test]
async fn the_watchers_have_an_address_of_their_own_with_three_routes_and_no_token() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("state");
    let mut wagate = command(&state);
    wagate.env("WAGATE_HTTP__ADMIN_LISTEN", "127.0.0.1:0");
    let log = dir.path().join("log");
    wagate.stderr(fs::File::create(&log).unwrap());
    let daemon = Process::logging(wagate, &state);
    let begun = Instant::now();
    let address = loop {
        let said = fs::read_to_string(&log).unwrap();
        let line = said.lines().find(|line| line.contains("for watchers")).map(str::to_owned);
        if let Some(line) = line {
            let (_, rest) = line.split_once("Listening on ").unwrap();
            break rest.split(',').next().unwrap().to_owned();
        }
        assert!(begun.elapsed() < DEADLINE, "{said}");
    };
    let ask = async |base: &str, path: &str| {
        http_client().get(format!("{base}{path}")).send().await.unwrap()
    };
    let admin = format!("http://{address}");
    for path in ["/livez", "/readyz"] {
        assert_eq!(ask(&admin, path).await.status(), StatusCode::NO_CONTENT);
        assert_eq!(ask(daemon.base(), path).await.status(), StatusCode::NO_CONTENT);
    }
    let metrics = ask(&admin, "/metrics").await;
    assert_eq!(metrics.status(), StatusCode::OK);
    assert!(metrics.text().await.unwrap().contains("wagate_sessions"));
    assert_eq!(ask(daemon.base(), "/metrics").await.status(), StatusCode::UNAUTHORIZED);
    // Nothing else is there, with a token or without.
    for path in ["/", "/docs", "/dashboard", "/api/whatsapp/session/list-realtime"] {
        let with = http_client().get(format!("{admin}{path}")).bearer_auth(daemon.token());
        assert_eq!(with.send().await.unwrap().status(), StatusCode::NOT_FOUND, "{path}");
    }
}

#[test]
fn what_is_no_socket_is_no_mistake_that_another_start_would_mend() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("state");
    let program = env!("CARGO_BIN_EXE_wagate");
    let mut shell = Command::new("sh");
    let script = format!("exec 3</dev/null; exec env LISTEN_PID=$$ LISTEN_FDS=1 {program}");
    shell.arg("-c").arg(script).env("WAGATE_STATE_DIR", &state).current_dir(dir.path());
    shell.stdin(Stdio::null());
    let (code, log) = ended(shell);
    assert_eq!(code, Some(64), "{log}");
    assert!(log.contains("cannot use the sockets that were handed over"), "{log}");
}
