//! What all tests' daemons log, searched for what these tests keep secret: tokens, keys, codes, numbers and messages.
//!
//! What passes between a test and a daemon is noted ([`note`]); each line of a log is looked at ([`look_at`]), those of daemons
//! in this process as they are written, those of other processes when they end. What was logged before it was known to
//! be a secret is found as well, where it is one word. Whoever ends a daemon asks whether anything was found ([`assert_clean`]).

use std::{
    collections::{HashMap, HashSet},
    hash::{DefaultHasher, Hash as _, Hasher as _},
    io,
    path::Path,
    sync::{LazyLock, Mutex, Once, RwLock},
};

use reqwest::header::AUTHORIZATION;
use serde_json::Value;
use tracing_subscriber::EnvFilter;

use crate::soak;

/// A word that is shorter could be anything.
const LEAST: usize = 7;

/// So could a text that is shorter than this.
const LEAST_TEXT: usize = 10;

/// The length of a code to type, which has digits and letters.
const CODE: usize = 8;

/// Members of requests and answers that no log may have.
const SECRET: [&str; 23] = [
    "accessToken",
    "access_token",
    "appSecret",
    "app_secret",
    "author",
    "body",
    "caption",
    "chat",
    "code",
    "from",
    "phoneNumber",
    "phone_number",
    "pushName",
    "qr",
    "qr_code",
    "secret",
    "text",
    "to",
    "token",
    "verifyToken",
    "verify_token",
    "webhook_secret",
    "content",
];

static WATCH: LazyLock<Watch> = LazyLock::new(Watch::default);

#[derive(Default)]
struct Watch {
    /// By the longest word of each.
    secrets: RwLock<HashMap<String, Vec<String>>>,
    /// Words that were logged and could be secrets, each as a hash.
    logged: Mutex<HashSet<u64>>,
    found: Mutex<Vec<String>>,
}

/// Has what daemons in this process log looked at, from the first call on.
pub(crate) fn begin() {
    static BEGUN: Once = Once::new();
    // It measures what a fleet leaves behind in its process, and not what a log does.
    if std::env::var_os(soak::INSIDE).is_some() {
        return;
    }
    BEGUN.call_once(|| {
        // As the program filters, and more talkative.
        let filter = EnvFilter::new("wagate=debug,wagate_simulator=off,wacore_libsignal=off,error");
        tracing_subscriber::fmt()
            .with_env_filter(filter)
            .with_ansi(false)
            .with_writer(|| Lines)
            .try_init()
            .unwrap();
    });
}

/// Where lines go: nowhere, once they are looked at.
struct Lines;

impl io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        String::from_utf8_lossy(bytes).lines().for_each(|line| WATCH.look(line));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Looks at the log of a process.
pub(crate) fn look_at(log: &Path) {
    let bytes = std::fs::read(log).unwrap_or_default();
    String::from_utf8_lossy(&bytes).lines().for_each(|line| WATCH.look(line));
}

/// Fails if a secret was logged, by whomever, unless this test has failed anyway.
#[track_caller]
pub(crate) fn assert_clean() {
    if !std::thread::panicking() {
        let found = WATCH.take();
        assert!(found.is_empty(), "{found:#?}");
    }
}

/// Takes note of what a request and its answer had that no log may have.
pub(crate) fn note(request: &reqwest::Request, answer: &[u8]) {
    let shown = request.headers().get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    if let Some(token) = shown.and_then(|value| value.split(' ').next_back()) {
        keep(token);
    }
    let asked = request.body().and_then(reqwest::Body::as_bytes).unwrap_or_default();
    for bytes in [asked, answer] {
        if let Ok(value) = serde_json::from_slice::<Value>(bytes) {
            note_value(&value);
        }
    }
}

/// The same of JSON alone.
pub(crate) fn note_value(value: &Value) {
    WATCH.note(value);
}

/// Takes note of a secret: a token, a message, a number or an address with one, a code to scan.
pub(crate) fn keep(text: &str) {
    WATCH.keep(text);
}

impl Watch {
    /// Looks at a line of a log.
    fn look(&self, line: &str) {
        let mut found = None;
        let secrets = self.secrets.read().unwrap();
        for word in words(line) {
            let of_word = secrets.get(word).map_or(&[][..], Vec::as_slice);
            found = found.or_else(|| of_word.iter().find(|it| line.contains(it.as_str())).cloned());
        }
        drop(secrets);
        let could_be = words(line).filter(|word| word.len() >= LEAST_TEXT && !is_an_id(word));
        self.logged.lock().unwrap().extend(could_be.map(hash));
        if let Some(secret) = found {
            self.found.lock().unwrap().push(format!("{secret:?} is in the log: {line}"));
        }
    }

    fn take(&self) -> Vec<String> {
        std::mem::take(&mut *self.found.lock().unwrap())
    }

    fn note(&self, value: &Value) {
        match value {
            Value::Array(items) => items.iter().for_each(|item| self.note(item)),
            // What its code says is no secret.
            Value::Object(members) if members.contains_key("requestId") => {}
            Value::Object(members) => {
                for (name, member) in members {
                    match member {
                        // One to type is shorter than any text.
                        Value::String(text) if name == "code" && text.len() == CODE => {
                            self.keep_one(text, CODE);
                        }
                        Value::String(text) if SECRET.contains(&name.as_str()) => self.keep(text),
                        member => self.note(member),
                    }
                }
            }
            _ => {}
        }
    }

    fn keep(&self, text: &str) {
        if text.contains("@s.whatsapp.net") || text.contains("@c.us") || text.contains("@lid") {
            let number = text.split(['@', ':']).next().unwrap_or_default();
            self.keep_one(number, LEAST_TEXT);
        } else if text.starts_with("2@") || text.contains("#2@") {
            // Each part of a code is one.
            text.split(['@', ',', '#']).for_each(|part| self.keep_one(part, LEAST_TEXT));
        } else {
            self.keep_one(text.trim_start_matches('+'), LEAST_TEXT);
        }
    }

    fn keep_one(&self, text: &str, least: usize) {
        let Some(word) = words(text).max_by_key(|word| word.len()) else { return };
        // What programs call things by is in the log on purpose.
        let is_name = text.bytes().all(|it| it.is_ascii_alphabetic() || it == b'_');
        if text.len() < least || is_name {
            return;
        }
        let mut secrets = self.secrets.write().unwrap();
        let of_word = secrets.entry(word.to_owned()).or_default();
        if of_word.iter().any(|known| known == text) {
            return;
        }
        of_word.push(text.to_owned());
        drop(secrets);
        let is_one_word = !text.contains(' ') && word.len() >= LEAST_TEXT;
        if is_one_word && self.logged.lock().unwrap().contains(&hash(word)) {
            self.found.lock().unwrap().push(format!("{text:?} was logged before it was told"));
        }
    }
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|it: char| !it.is_ascii_alphanumeric()).filter(|word| word.len() >= LEAST)
}

/// Whether it is what our ids end with: a line has some, each another one.
fn is_an_id(word: &str) -> bool {
    word.len() == 26 && word.starts_with("01")
}

fn hash(word: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    word.hash(&mut hasher);
    hasher.finish()
}

#[test]
fn a_secret_is_found_whether_it_is_told_before_it_is_logged_or_after() {
    // One of its own: others fail over what is found in that of all.
    let watch = Watch::default();
    watch.keep("a message that is unmistakable");
    watch.look("INFO wagate: unmistakable is a word");
    assert_eq!(watch.take(), Vec::<String>::new());
    watch.look("INFO wagate: said a message that is unmistakable to somebody");
    assert_eq!(watch.take().len(), 1);

    watch.look("INFO wagate: calling 49301234567890");
    assert_eq!(watch.take(), Vec::<String>::new());
    watch.note(&serde_json::json!({ "data": [{ "from": "49301234567890@s.whatsapp.net" }] }));
    assert_eq!(watch.take().len(), 1);
    watch.look("INFO wagate: calling 49301234567890@s.whatsapp.net again");
    assert_eq!(watch.take().len(), 1);

    watch.keep("wag_Ab3dEf6hIj9lMn2pQr5tUv8x");
    watch.look("INFO http.request{token=wag_Ab3dEf6hIj9lMn2pQr5tUv8x}: Answered");
    assert_eq!(watch.take().len(), 1);
    watch.note(&serde_json::json!({ "code": "AB12CD34", "requestId": "req_1" }));
    watch.look("INFO wagate: AB12CD34");
    assert_eq!(watch.take(), Vec::<String>::new());
    watch.note(&serde_json::json!({ "code": "AB12CD34" }));
    watch.look("INFO wagate: AB12CD34");
    assert_eq!(watch.take().len(), 1);
}
