//! Spans of requests reach a collector: with what the log has of them, and nothing more.

use std::{collections::BTreeSet, fs};

use reqwest::{Method, StatusCode};
use serde_json::json;

use crate::{
    program::{Process, command},
    receiver::{Receiver, Request},
    world::http_client,
};

/// What nobody but its owner may see, wherever it stands in a request.
const NUMBER: &str = "15550007777";
const BODY: &str = "meet me at the harbour";
const SECRET: &str = "wss_a-secret-of-a-session";
const COLLECTOR: &str = "what-the-collector-wants-to-see";

/// The parts of a protobuf message that have a length: their numbers, and what is in them.
fn parts(mut bytes: &[u8]) -> Vec<(u64, &[u8])> {
    fn number(bytes: &mut &[u8]) -> u64 {
        let mut number = 0;
        for shift in (0..).step_by(7) {
            let byte = bytes[0];
            *bytes = &bytes[1..];
            number |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                break;
            }
        }
        number
    }
    let mut parts = Vec::new();
    while !bytes.is_empty() {
        let key = number(&mut bytes);
        match key & 7 {
            0 => drop(number(&mut bytes)),
            1 => bytes = &bytes[8..],
            2 => {
                let length = usize::try_from(number(&mut bytes)).unwrap();
                parts.push((key >> 3, &bytes[..length]));
                bytes = &bytes[length..];
            }
            5 => bytes = &bytes[4..],
            other => panic!("no protobuf: {other}"),
        }
    }
    parts
}

fn within<'a>(of: &[&'a [u8]], wanted: u64) -> Vec<&'a [u8]> {
    let all = of.iter().flat_map(|bytes| parts(bytes));
    all.filter(|(number, _)| *number == wanted).map(|(_, bytes)| bytes).collect()
}

#[derive(Debug)]
struct Span {
    trace: Vec<u8>,
    is_first: bool,
    name: String,
    /// Attributes and events, as bytes with texts in them.
    rest: String,
}

/// The spans in what the collector got.
fn spans(requests: &[Request]) -> Vec<Span> {
    let bodies: Vec<&[u8]> = requests.iter().map(|it| it.body.as_slice()).collect();
    let spans = within(&within(&within(&bodies, 1), 2), 2);
    let spans = spans.into_iter().map(|bytes| {
        let one = |number| within(&[bytes], number).first().map(|it| it.to_vec());
        Span {
            trace: one(1).unwrap(),
            is_first: one(4).is_none_or(|parent| parent.is_empty()),
            name: String::from_utf8(one(5).unwrap()).unwrap(),
            rest: String::from_utf8_lossy(bytes).into_owned(),
        }
    });
    spans.collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_s_spans_reach_the_collector_with_its_id_and_nothing_that_is_secret() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("state");
    let collector = Receiver::start().await;
    let mut command = command(&state);
    command
        .env("WAGATE_TRACES__ENDPOINT", format!("http://{}/v1/traces", collector.address))
        .env("WAGATE_TRACES__HEADERS", format!("authorization=Bearer {COLLECTOR}"))
        // Quiet, and all the same exported.
        .env("WAGATE_LOG__LEVEL", "error")
        .env("WAGATE_LOG__FILTER", "whatsapp_rust=trace,wacore=trace,sqlx=trace,hyper=trace");
    let mut daemon = Process::of(command, &state);
    let ask = |method: Method, path: &str, id: &str| {
        let url = format!("{}{path}", daemon.base());
        http_client().request(method, url).bearer_auth(daemon.token()).header("x-request-id", id)
    };
    let made = json!({ "sessionId": "sales", "start": false });
    let made = ask(Method::POST, "/api/whatsapp/session", "order-1").json(&made);
    assert_eq!(made.send().await.unwrap().status(), StatusCode::CREATED);
    let message = json!({ "to": NUMBER, "text": BODY, "queue": true });
    let sent = ask(Method::POST, "/api/whatsapp/session/sales/messages", "order-2")
        .header("x-session-secret", SECRET)
        .json(&message);
    assert!(sent.send().await.unwrap().status().is_success());
    let listed = format!("/api/whatsapp/session/sales/messages?chat={NUMBER}%40c.us");
    ask(Method::GET, &listed, "order-3").send().await.unwrap();
    let token = daemon.token().to_owned();

    // What is left is sent at the end.
    daemon.signal("-TERM");
    assert_eq!(daemon.code(), Some(0));
    let requests = collector.requests();
    assert!(!requests.is_empty());
    for request in &requests {
        assert_eq!(request.headers["authorization"], format!("Bearer {COLLECTOR}"));
        assert_eq!(request.headers["content-type"], "application/x-protobuf");
        assert!(request.line.starts_with("POST /v1/traces "), "{}", request.line);
    }

    let spans = spans(&requests);
    let first: Vec<_> = spans.iter().filter(|span| span.is_first).collect();
    let names: BTreeSet<_> = first.iter().map(|span| span.name.as_str()).collect();
    assert_eq!(names.into_iter().collect::<Vec<_>>(), ["http.request"], "{spans:?}");
    let of = |id: &str| {
        let span = first.iter().find(|span| span.rest.contains(id));
        span.unwrap_or_else(|| panic!("{id} is in none of {spans:?}"))
    };
    for (id, route, handler) in [
        ("order-1", "/api/whatsapp/session", "http.sessions.create"),
        ("order-2", "/api/whatsapp/session/{sessionId}/messages", "http.messages.send"),
        ("order-3", "/api/whatsapp/session/{sessionId}/messages", "http.messages.list"),
    ] {
        let span = of(id);
        for fact in [route, "http.status", "http.method", "Answered"] {
            assert!(span.rest.contains(fact), "{fact}: {span:?}");
        }
        let below = spans.iter().find(|it| it.trace == span.trace && !it.is_first);
        assert_eq!(below.map(|it| it.name.as_str()), Some(handler), "{id}: {spans:?}");
    }
    assert_eq!(first.iter().map(|span| &span.trace).collect::<BTreeSet<_>>().len(), first.len());

    let all: String = requests.iter().map(|it| String::from_utf8_lossy(&it.body)).collect();
    assert!(all.contains("service.name") && all.contains("wagate"));
    let operator = fs::read_to_string(state.join("operator.token")).unwrap();
    for secret in [NUMBER, BODY, SECRET, COLLECTOR, &token, operator.trim()] {
        assert!(!all.contains(secret), "{secret} is in what was exported");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_that_is_away_costs_spans_and_one_line_and_not_the_daemon() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("state");
    let collector = Receiver::start().await;
    let endpoint = format!("http://{}/v1/traces?key={SECRET}", collector.address);
    drop(collector);
    let log = dir.path().join("log");
    let mut command = command(&state);
    command
        .env("WAGATE_TRACES__ENDPOINT", endpoint)
        .env("OTEL_BSP_SCHEDULE_DELAY", "20")
        .stderr(fs::File::create(&log).unwrap());
    let mut daemon = Process::logging(command, &state);
    for _ in 0..50 {
        let url = format!("{}/api/whatsapp/session/list-realtime", daemon.base());
        let asked = http_client().get(url).bearer_auth(daemon.token());
        assert_eq!(asked.send().await.unwrap().status(), StatusCode::OK);
    }
    daemon.signal("-TERM");
    assert_eq!(daemon.code(), Some(0));
    let log = fs::read_to_string(log).unwrap();
    let lost: Vec<_> = log.lines().filter(|line| line.contains("Spans are lost")).collect();
    assert_eq!(lost.len(), 1, "{log}");
    assert!(!log.contains(SECRET), "{log}");
}
