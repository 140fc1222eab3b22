//! The process is told to stop while fifty sessions are at work.

use std::{
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use futures_util::{StreamExt as _, future::join_all, stream};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;
use wagate::{config::Config, daemon::longest_stop};
use wagate_simulator::{Options, ReceiptPolicy, Simulator};

use crate::world::{BOB, http_client};

const SESSIONS: usize = 50;

/// A daemon in a process of its own; killed when the test fails half-way.
struct Process {
    child: Child,
    base: String,
    token: String,
    http: reqwest::Client,
}

impl Process {
    fn start(state: &Path, whatsapp: &Simulator) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_wagate"))
            .env_clear()
            .env("WAGATE_STATE_DIR", state)
            .env("WAGATE_HTTP__LISTEN", "127.0.0.1:0")
            .env("WAGATE_WHATSAPP__URL", whatsapp.url())
            .env("WAGATE_WHATSAPP__VERSION", "2.3000.1042742319")
            .env("WAGATE_WHATSAPP__DIAL_RATE_PER_SECOND", "1000")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let base = BufReader::new(child.stdout.take().unwrap())
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

    async fn connect(&self, whatsapp: &Simulator, session: usize) {
        let name = name(session);
        let create = self.request(Method::POST, "/api/whatsapp/session");
        create.json(&json!({ "sessionId": name })).send().await.unwrap();
        let qr = self.get(&format!("/api/whatsapp/session/{name}/qr.json?wait=60")).await;
        let phone = whatsapp.phone(&number(session)).unwrap();
        phone.scan(qr["data"]["qr"].as_str().expect("a code")).await.unwrap();
        self.until_connected(&name).await;
    }

    async fn until_connected(&self, name: &str) {
        let mut after = 0;
        loop {
            let status = self.get(&format!("/api/whatsapp/session/status/{name}")).await;
            if status["data"]["isConnected"] == true {
                return;
            }
            let page = format!("/api/whatsapp/session/{name}/events/page?after={after}&wait=20");
            let page = self.get(&page).await;
            if let Some(last) = page["data"].as_array().and_then(|events| events.last()) {
                after = last["seq"].as_i64().unwrap();
            }
        }
    }

    fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args([name, &pid]).status().unwrap().success());
    }

    /// Its exit code, and how long it took to come to it.
    async fn ended(mut self) -> (Option<i32>, Duration) {
        let begun = Instant::now();
        tokio::task::spawn_blocking(move || {
            let status = self.child.wait().unwrap();
            (status.code(), begun.elapsed())
        })
        .await
        .unwrap()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

fn name(session: usize) -> String {
    format!("s{session:03}")
}

fn number(session: usize) -> String {
    format!("1557{session:07}")
}

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_under_load_ends_with_exit_0_in_time_and_loses_nothing() {
    let whatsapp = Simulator::start(Options::default()).await.unwrap();
    let directory = tempfile::tempdir().unwrap();
    let state = directory.path().join("state");
    let process = Process::start(&state, &whatsapp);
    {
        let (process, whatsapp) = (&process, &whatsapp);
        let all = stream::iter(0..SESSIONS);
        all.for_each_concurrent(8, async |session| process.connect(whatsapp, session).await).await;
    }
    let bob = whatsapp.contact(BOB).unwrap();
    bob.set_receipts(ReceiptPolicy::Delivered);

    // Messages both ways, as fast as they go, until nobody answers any more.
    let inbound = async {
        for round in 0..4 {
            let all = (0..SESSIONS).map(|session| {
                let (bob, text) = (bob.clone(), format!("in {round}"));
                async move { bob.send_text(&number(session), &text).await.unwrap() }
            });
            join_all(all).await;
        }
    };
    let outbound = stream::iter(0..SESSIONS).map(async |session| {
        let mut accepted = 0;
        loop {
            let path = format!("/api/whatsapp/session/{}/messages", name(session));
            let body = json!({ "to": BOB, "text": format!("out {session} {accepted}") });
            let request = process.request(Method::POST, &path).json(&body);
            match request.send().await {
                Ok(answer) if answer.status() == StatusCode::CREATED => accepted += 1,
                // Being stopped; or gone.
                _ => return accepted,
            }
        }
    });
    let outbound = outbound.buffered(SESSIONS).collect::<Vec<usize>>();
    let stop = async {
        // All have something on their way by then.
        let first = format!("out {} 0", SESSIONS - 1);
        bob.wait_for_received(|it| it.text.as_deref() == Some(&first)).await.unwrap();
        process.signal("-TERM");
    };
    let (accepted, (), ()) = tokio::join!(outbound, inbound, stop);
    let (code, took) = process.ended().await;
    assert_eq!(code, Some(0));
    assert!(took < longest_stop(&Config::default()), "it took {took:?}");

    // The next process finds everything, and delivers what was accepted and not sent.
    let process = Process::start(&state, &whatsapp);
    for (session, accepted) in accepted.into_iter().enumerate() {
        process.until_connected(&name(session)).await;
        for n in 0..accepted {
            let text = format!("out {session} {n}");
            bob.wait_for_received(|it| it.text.as_deref() == Some(&text)).await.unwrap();
        }
        let mut inbound = Vec::new();
        while inbound.len() < 4 {
            let path = format!("/api/whatsapp/session/{}/messages?limit=500", name(session));
            let page = process.get(&path).await;
            let all = page["data"].as_array().unwrap().iter();
            inbound = all.filter(|it| it["direction"] == "inbound").cloned().collect();
        }
        assert_eq!(inbound.len(), 4, "each once");
    }
    process.signal("-TERM");
    assert_eq!(process.ended().await.0, Some(0));
    let violations = whatsapp.violations();
    assert!(violations.is_empty(), "protocol errors: {violations:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_signal_does_not_wait_for_a_request_that_is_never_finished() {
    let whatsapp = Simulator::start(Options::default()).await.unwrap();
    let directory = tempfile::tempdir().unwrap();
    let process = Process::start(&directory.path().join("state"), &whatsapp);
    process.connect(&whatsapp, 0).await;
    let address = process.base.strip_prefix("http://").unwrap();
    let mut slow = tokio::net::TcpStream::connect(address).await.unwrap();
    let head = format!(
        "POST /api/whatsapp/session HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\n\
         Content-Type: application/json\r\nContent-Length: 100\r\n\r\n{{",
        process.token
    );
    slow.write_all(head.as_bytes()).await.unwrap();
    // Whoever is answered here knows that the request before is being read.
    process.get("/api/whatsapp/session/status/s000").await;

    process.signal("-TERM");
    // It has heard the first when it accepts no more.
    while tokio::net::TcpStream::connect(address).await.is_ok() {}
    process.signal("-TERM");
    let (code, took) = process.ended().await;
    assert_eq!(code, Some(1), "not in good order");
    assert!(took < Config::default().http.shutdown_grace, "it took {took:?}");
}
