//! The process is killed, at moments nobody chose, and started again on the same state.
//!
//! This is the one place that runs the binary itself: only a process can be killed.

use std::{
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use futures_util::future::join_all;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use wagate_simulator::{Options, ReceiptPolicy, Simulator};

use crate::world::{ALICE, BOB, DEADLINE, http_client};

/// A daemon in a process of its own.
struct Process {
    child: Child,
    base: String,
    token: String,
    http: reqwest::Client,
}

impl Process {
    /// Starts the binary and waits until it says that it answers.
    fn start(state: &Path, whatsapp: &Simulator) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_wagate"))
            .env_clear()
            .env("WAGATE_STATE_DIR", state)
            .env("WAGATE_HTTP__LISTEN", "127.0.0.1:0")
            .env("WAGATE_WHATSAPP__URL", whatsapp.url())
            .env("WAGATE_WHATSAPP__VERSION", "2.3000.1042742319")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let base = stdout
            .lines()
            .map_while(Result::ok)
            .find_map(|line| Some(line.trim().strip_prefix("address")?.trim().to_owned()))
            .expect("the daemon says where it answers");
        let token = std::fs::read_to_string(state.join("operator.token")).unwrap();
        Self { child, base, token: token.trim().to_owned(), http: http_client() }
    }

    fn request(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        self.http.request(method, format!("{}{path}", self.base)).bearer_auth(&self.token)
    }

    async fn get(&self, path: &str) -> Value {
        self.request(Method::GET, path).send().await.unwrap().json().await.unwrap()
    }

    async fn post(&self, path: &str, body: Value) -> (StatusCode, Value) {
        let answer = self.request(Method::POST, path).json(&body).send().await.unwrap();
        (answer.status(), answer.json().await.unwrap())
    }

    /// Follows the session's events until its status object is as wanted.
    async fn until(&self, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let mut after = 0;
        let deadline = tokio::time::Instant::now() + DEADLINE;
        while tokio::time::Instant::now() < deadline {
            let seen = self.get("/api/whatsapp/session/status/sales").await["data"].clone();
            if wanted(&seen) {
                return seen;
            }
            let page = format!("/api/whatsapp/session/sales/events/page?after={after}&wait=20");
            let page = self.get(&page).await;
            if let Some(last) = page["data"].as_array().and_then(|events| events.last()) {
                after = last["seq"].as_i64().unwrap();
            }
        }
        panic!("{what} did not come about");
    }

    /// All messages there are, the oldest first.
    async fn messages(&self) -> Vec<Value> {
        let mut messages = Vec::new();
        let mut cursor = String::new();
        loop {
            let page =
                self.get(&format!("/api/whatsapp/session/sales/messages?limit=500{cursor}")).await;
            messages.extend(page["data"].as_array().unwrap().iter().cloned());
            match page["nextCursor"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => break,
            }
        }
        messages.reverse();
        messages
    }

    /// As `kill -9` does: nothing is told, nothing is written.
    fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// As systemd does.
    async fn terminate(mut self) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
        let ended = tokio::task::spawn_blocking(move || self.child.wait()).await.unwrap().unwrap();
        assert!(ended.success(), "{ended}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_in_a_burst_both_ways_no_message_is_lost_or_doubled_and_no_counter_used_twice() {
    const ROUNDS: usize = 4;
    const BURST: usize = 40;

    let whatsapp = Simulator::start(Options::default()).await.unwrap();
    let directory = tempfile::tempdir().unwrap();
    let state = directory.path().join("state");
    let bob = whatsapp.contact(BOB).unwrap();
    bob.set_receipts(ReceiptPolicy::Read);

    let mut daemon = Process::start(&state, &whatsapp);
    daemon.post("/api/whatsapp/session", json!({ "sessionId": "sales" })).await;
    let shown = daemon.until("a code", |seen| seen["needsQR"] == true).await;
    let phone = whatsapp.phone(ALICE).unwrap();
    phone.scan(shown["qr"].as_str().unwrap()).await.unwrap();
    daemon.until("connected", |seen| seen["isConnected"] == true).await;

    let mut expected = Vec::new();
    let mut accepted = Vec::new();
    for round in 0..ROUNDS {
        // Both ways at once; what the daemon has answered with 2xx, it has promised.
        let inbound = async {
            for n in 0..BURST {
                let id = bob.send_text(ALICE, &format!("in {round} {n}")).await.unwrap();
                expected.push(id);
            }
        };
        let outbound = join_all((0..BURST).map(|n| {
            let body = json!({ "to": BOB, "text": format!("out {round} {n}"), "queue": true });
            daemon.request(Method::POST, "/api/whatsapp/session/sales/messages").json(&body).send()
        }));
        // Killed when part of the burst has been confirmed, at a different point each round.
        let enough = phone.wait_for_receipts(round * BURST + 1 + round * 7);
        tokio::pin!(inbound, outbound);
        let mut answers = None;
        let (mut sent, mut confirmed) = (false, false);
        tokio::pin!(enough);
        while !(sent && confirmed) {
            tokio::select! {
                () = &mut inbound, if !sent => sent = true,
                all = &mut outbound, if answers.is_none() => answers = Some(all),
                done = &mut enough, if !confirmed => { done.unwrap(); confirmed = true; }
            }
        }
        daemon.kill();
        let answers = match answers {
            Some(answers) => answers,
            None => outbound.await,
        };
        for (n, answer) in answers.into_iter().enumerate() {
            if let Ok(answer) = answer
                && answer.status().is_success()
            {
                accepted.push(format!("out {round} {n}"));
            }
        }

        daemon = Process::start(&state, &whatsapp);
        daemon.until("connected again", |seen| seen["isConnected"] == true).await;
    }

    // Every later message can be read on both sides.
    let last_in = bob.send_text(ALICE, "last in").await.unwrap();
    expected.push(last_in.clone());
    let (status, _) = daemon
        .post(
            "/api/whatsapp/session/sales/messages",
            json!({ "to": BOB, "text": "last out", "queue": true }),
        )
        .await;
    assert!(status.is_success());
    accepted.push("last out".to_owned());
    phone.wait_for_sent(|sent| sent.text.as_deref() == Some("last out")).await.unwrap();
    let deadline = tokio::time::Instant::now() + DEADLINE;
    let mut after = 0;
    let messages = loop {
        let messages = daemon.messages().await;
        if messages.iter().any(|message| message["waId"] == last_in.as_str()) {
            break messages;
        }
        assert!(tokio::time::Instant::now() < deadline, "the last message did not come");
        let page =
            format!("/api/whatsapp/session/sales/events/page?after={after}&wait=20&limit=1000");
        if let Some(last) = daemon.get(&page).await["data"].as_array().and_then(|all| all.last()) {
            after = last["seq"].as_i64().unwrap();
        }
    };

    let inbound: Vec<_> =
        messages.iter().filter(|message| message["direction"] == "inbound").collect();
    for id in &expected {
        let copies = inbound.iter().filter(|message| message["waId"] == id.as_str()).count();
        assert_eq!(copies, 1, "inbound {id}");
    }
    assert_eq!(inbound.len(), expected.len());
    for text in &accepted {
        let sent = phone.wait_for_sent(|sent| sent.text.as_deref() == Some(text)).await.unwrap();
        let ids = phone.sent().into_iter().filter(|one| one.text.as_deref() == Some(text.as_str()));
        assert!(ids.into_iter().all(|one| one.id == sent.id), "{text} under one id");
    }
    daemon.terminate().await;
    let violations = whatsapp.violations();
    assert!(violations.is_empty(), "{violations:#?}");
    whatsapp.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_at_any_step_of_a_pairing_the_session_starts_again() {
    let whatsapp = Simulator::start(Options::default()).await.unwrap();
    let directory = tempfile::tempdir().unwrap();
    let state = directory.path().join("state");

    // Right after the request that created it.
    let daemon = Process::start(&state, &whatsapp);
    daemon.post("/api/whatsapp/session", json!({ "sessionId": "sales" })).await;
    daemon.kill();

    // While a code is shown.
    let daemon = Process::start(&state, &whatsapp);
    assert_ne!(
        daemon.get("/api/whatsapp/session/status/sales").await["data"]["status"],
        "session_connected"
    );
    daemon.until("a code", |seen| seen["needsQR"] == true).await;
    daemon.kill();

    // Right after the scan: the phone has linked a device that we may not know of.
    let daemon = Process::start(&state, &whatsapp);
    let shown = daemon.until("a code", |seen| seen["needsQR"] == true).await;
    let phone = whatsapp.phone(ALICE).unwrap();
    phone.scan(shown["qr"].as_str().unwrap()).await.unwrap();
    daemon.kill();

    // Whatever was on disk: the session comes up, with its credentials or with a code.
    let daemon = Process::start(&state, &whatsapp);
    let seen = daemon
        .until("connected or a code", |seen| seen["isConnected"] == true || seen["needsQR"] == true)
        .await;
    if seen["needsQR"] == true {
        phone.scan(seen["qr"].as_str().unwrap()).await.unwrap();
    }
    daemon.until("connected", |seen| seen["isConnected"] == true).await;
    whatsapp.contact(BOB).unwrap().send_text(ALICE, "hello").await.unwrap();
    phone.wait_for_receipts(1).await.unwrap();
    daemon.terminate().await;
    whatsapp.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_kill_nothing_says_connected_before_it_is() {
    let whatsapp = Simulator::start(Options::default()).await.unwrap();
    let directory = tempfile::tempdir().unwrap();
    let state = directory.path().join("state");
    let daemon = Process::start(&state, &whatsapp);
    daemon.post("/api/whatsapp/session", json!({ "sessionId": "sales" })).await;
    let shown = daemon.until("a code", |seen| seen["needsQR"] == true).await;
    let phone = whatsapp.phone(ALICE).unwrap();
    phone.scan(shown["qr"].as_str().unwrap()).await.unwrap();
    daemon.until("connected", |seen| seen["isConnected"] == true).await;
    daemon.kill();

    whatsapp.close().await;
    let daemon = Process::start(&state, &whatsapp);
    let seen = daemon.get("/api/whatsapp/session/status/sales").await["data"].clone();
    assert_eq!(seen["status"], "connecting", "{seen}");
    assert_eq!(seen["isConnected"], false);
    let list = daemon.get("/api/whatsapp/session/list-realtime").await;
    assert_eq!(list["summary"]["connected"], 0, "{list}");
    assert_eq!(list["data"][0]["isConnected"], false, "{list}");
    let figures = daemon.request(Method::GET, "/metrics").send().await.unwrap();
    let figures = figures.text().await.unwrap();
    assert!(figures.contains("wagate_sessions{status=\"session_connected\"} 0"), "{figures}");
    whatsapp.reopen().await.unwrap();
    // The waits grow; a restart does not wait.
    daemon.post("/api/whatsapp/session/sales/restart", json!({})).await;
    daemon.until("connected", |seen| seen["isConnected"] == true).await;
    daemon.terminate().await;
    whatsapp.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_in_the_middle_of_everything_ends_open_streams_and_loses_nothing() {
    let whatsapp = Simulator::start(Options::default()).await.unwrap();
    let directory = tempfile::tempdir().unwrap();
    let state = directory.path().join("state");
    let daemon = Process::start(&state, &whatsapp);
    daemon.post("/api/whatsapp/session", json!({ "sessionId": "sales" })).await;
    let shown = daemon.until("a code", |seen| seen["needsQR"] == true).await;
    let phone = whatsapp.phone(ALICE).unwrap();
    phone.scan(shown["qr"].as_str().unwrap()).await.unwrap();
    daemon.until("connected", |seen| seen["isConnected"] == true).await;

    let mut stream = daemon
        .request(Method::GET, "/api/whatsapp/events")
        .header("accept", "text/event-stream")
        .send()
        .await
        .unwrap();
    let bob = whatsapp.contact(BOB).unwrap();
    let ids = bob.send_many(ALICE, "burst", 50).await.unwrap();
    phone.wait_for_receipts(10).await.unwrap();
    daemon.terminate().await;
    // The stream ends instead of hanging until the deadline.
    while tokio::time::timeout(Duration::from_secs(30), stream.chunk())
        .await
        .unwrap()
        .is_ok_and(|chunk| chunk.is_some())
    {}

    let daemon = Process::start(&state, &whatsapp);
    daemon.until("connected", |seen| seen["isConnected"] == true).await;
    phone.wait_for_receipts(50).await.unwrap();
    let messages = daemon.messages().await;
    for id in &ids {
        let copies = messages.iter().filter(|message| message["waId"] == id.as_str()).count();
        assert_eq!(copies, 1, "{id}");
    }
    daemon.terminate().await;
    let violations = whatsapp.violations();
    assert!(violations.is_empty(), "{violations:#?}");
    whatsapp.stop().await;
}
