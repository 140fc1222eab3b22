//! Programs that go on asking while a daemon is stopped and started: some tell of a session elsewhere, some read. Each
//! asks again until it is answered, as a client does that is written well.

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::{
    contract::{self, Seen},
    world::{DEADLINE, http_client},
};

/// What each program has to say before a restart, and at most.
pub(crate) const EACH: usize = 20;
const MOST: usize = 100;

/// Programs that tell of a session elsewhere.
pub(crate) const PROGRAMS: usize = 4;

/// Programs that read.
const READERS: usize = 2;

/// The session elsewhere.
pub(crate) const SHOP: &str = "shop";

/// How long a program waits before it asks again.
const PAUSE: Duration = Duration::from_millis(20);

/// An address that stays the same over restarts, and is nobody else's: other tests listen on 127.0.0.1.
pub(crate) fn address() -> SocketAddr {
    static NUMBER: AtomicU8 = AtomicU8::new(1);

    let process = u8::try_from(std::process::id() % 200).unwrap() + 1;
    let ip = Ipv4Addr::new(127, 77, process, NUMBER.fetch_add(1, Ordering::Relaxed));
    TcpListener::bind((ip, 0)).unwrap().local_addr().unwrap()
}

/// Whoever asks, and what they were told that was no answer.
pub(crate) struct Callers {
    bases: Vec<String>,
    token: String,
    http: reqwest::Client,
    answered: AtomicUsize,
    reads: AtomicUsize,
    unheard: AtomicUsize,
    restarts: AtomicBool,
    is_over: AtomicBool,
    /// Refusals with 503, by their code.
    refused: Mutex<BTreeMap<String, usize>>,
}

impl Callers {
    /// Some who know of these daemons, and ask the first that answers.
    pub(crate) fn of(addresses: &[SocketAddr], token: &str) -> Self {
        Self {
            bases: addresses.iter().map(|it| format!("http://{it}")).collect(),
            token: token.to_owned(),
            http: http_client(),
            answered: AtomicUsize::new(0),
            reads: AtomicUsize::new(0),
            unheard: AtomicUsize::new(0),
            restarts: AtomicBool::new(false),
            is_over: AtomicBool::new(false),
            refused: Mutex::default(),
        }
    }

    /// Asks one daemon after the other until it is done. Nothing but success and 503 is an answer.
    async fn ask(
        &self,
        method: &Method,
        path: &str,
        body: Option<(&str, &Value)>,
    ) -> (StatusCode, Value) {
        let begun = Instant::now();
        for base in self.bases.iter().cycle() {
            let mut request =
                self.http.request(method.clone(), format!("{base}{path}")).bearer_auth(&self.token);
            if let Some((key, body)) = body {
                request = request.header("Idempotency-Key", key).json(body);
            }
            if let Some(answer) = self.answer_of(method, path, request).await {
                return answer;
            }
            assert!(begun.elapsed() < DEADLINE, "nobody does it: {:?}", self.refused);
            tokio::time::sleep(PAUSE).await;
        }
        unreachable!("there is a daemon");
    }

    async fn answer_of(
        &self,
        method: &Method,
        path: &str,
        request: reqwest::RequestBuilder,
    ) -> Option<(StatusCode, Value)> {
        let answer = match request.send().await {
            Ok(answer) => {
                let (status, headers) = (answer.status(), answer.headers().clone());
                answer.bytes().await.map(|bytes| (status, headers, bytes))
            }
            Err(error) => Err(error),
        };
        let Ok((status, headers, bytes)) = answer else {
            self.unheard.fetch_add(1, Ordering::Relaxed);
            return None;
        };
        contract::check(&Seen {
            method: method.as_str(),
            path: path.split('?').next().unwrap(),
            status: status.as_u16(),
            content_type: headers["content-type"].to_str().unwrap(),
            body: &bytes,
        });
        let body: Value = serde_json::from_slice(&bytes).unwrap();
        if status == StatusCode::SERVICE_UNAVAILABLE {
            assert!(headers.contains_key("retry-after"), "{body}");
            let code = body["code"].as_str().unwrap().to_owned();
            *self.refused.lock().unwrap().entry(code).or_default() += 1;
            return None;
        }
        assert!(status.is_success(), "{method} {path}: {status} {body}");
        Some((status, body))
    }

    /// How often nobody was there.
    pub(crate) fn unheard(&self) -> usize {
        self.unheard.load(Ordering::Relaxed)
    }

    async fn get(&self, path: &str) -> Value {
        self.ask(&Method::GET, path, None).await.1
    }

    async fn post(&self, path: &str, key: &str, body: &Value) {
        self.ask(&Method::POST, path, Some((key, body))).await;
        self.answered.fetch_add(1, Ordering::Relaxed);
    }

    /// Waits until all have told what they have to say before a restart, and somebody has read since; they go on
    /// while this returns.
    pub(crate) async fn until_restart(&self) {
        let begun = Instant::now();
        while self.answered.load(Ordering::Relaxed) < PROGRAMS * EACH {
            assert!(begun.elapsed() < DEADLINE, "nobody is answered");
            tokio::time::sleep(PAUSE).await;
        }
        let reads = self.reads.load(Ordering::Relaxed);
        while self.reads.load(Ordering::Relaxed) == reads {
            assert!(begun.elapsed() < DEADLINE, "nobody reads");
            tokio::time::sleep(PAUSE).await;
        }
        self.restarts.store(true, Ordering::Relaxed);
    }

    /// Has all of them come to an end.
    pub(crate) fn have_done(&self) {
        self.is_over.store(true, Ordering::Relaxed);
    }

    fn are_done(&self) -> bool {
        self.is_over.load(Ordering::Relaxed)
    }

    /// Looks until there is something.
    pub(crate) async fn until<T>(
        &self,
        what: &str,
        look: impl AsyncFn() -> Result<T, Vec<String>>,
    ) -> T {
        let begun = Instant::now();
        loop {
            let missing = match look().await {
                Ok(found) => return found,
                Err(missing) => missing,
            };
            assert!(begun.elapsed() < DEADLINE, "{what}: {missing:?} are missing");
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// All of them until they have done: what was answered with success. `old` is what a reader of the session must find
    /// at any time.
    pub(crate) async fn all(&self, old: &[String]) -> Vec<String> {
        let session = json!({ "sessionId": SHOP, "origin": "external" });
        self.ask(&Method::POST, "/api/whatsapp/session", Some(("shop", &session))).await;
        let telling = join_all((0..PROGRAMS).map(|number| self.tell(number)));
        let reading = join_all((0..READERS).map(|_| self.read(old)));
        let (told, _) = tokio::join!(telling, reading);
        told.concat()
    }

    async fn tell(&self, number: usize) -> Vec<String> {
        let mut told = Vec::new();
        for n in 0..MOST {
            while n >= EACH && !self.restarts.load(Ordering::Relaxed) {
                tokio::time::sleep(PAUSE).await;
            }
            if self.are_done() {
                break;
            }
            let text = format!("elsewhere-{number}--{n}");
            let event = json!({ "event": "message", "data": { "message": {
                "id": format!("3EB0{number}{n:04}"), "from": "6281234567890@c.us", "body": text,
            } } });
            self.post(&format!("/api/whatsapp/webhook/{SHOP}"), &text, &event).await;
            told.push(text);
            tokio::time::sleep(PAUSE).await;
        }
        told
    }

    async fn read(&self, old: &[String]) {
        while !self.are_done() {
            let there = self.texts("sales").await;
            for text in old {
                assert!(there.contains(text), "a reader does not find {text:?}: {there:?}");
            }
            let status = self.get("/api/whatsapp/session/status/sales").await;
            assert_eq!(status["data"]["sessionId"], "sales", "{status}");
            self.get("/api/whatsapp/events/page?after=0&limit=50").await;
            self.reads.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The texts of all messages of a session.
    pub(crate) async fn texts(&self, session: &str) -> Vec<String> {
        let page = self.get(&format!("/api/whatsapp/session/{session}/messages?limit=500")).await;
        let messages = page["data"].as_array().unwrap().iter();
        messages.filter_map(|it| it["body"].as_str().map(str::to_owned)).collect()
    }

    /// The texts that events say came in, or are told of a session elsewhere.
    pub(crate) async fn announced(&self, session: &str) -> Vec<String> {
        let path = format!("/api/whatsapp/session/{session}/events/page?after=0&limit=1000");
        let page = self.get(&path).await;
        let events = page["data"].as_array().unwrap().iter().filter(|it| it["event"] == "message");
        events.filter_map(|it| it["data"]["message"]["body"].as_str().map(str::to_owned)).collect()
    }
}
