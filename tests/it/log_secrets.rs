//! A day of a gateway, and its log at the most talkative: no secret, no number, no message and no code is in it.

use std::fs;

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use wagate_simulator::{MediaFile, MediaKind, Options, Simulator};

use crate::{
    database::{Database, on_each},
    graph,
    process::{Installation, Process},
    receiver::{Behaviour, Receiver},
    world::{ALICE, BOB, DEADLINE, http_client},
};

/// Nobody has this number.
const NOBODY: &str = "15559998877";
/// Links by typing a code.
const CAROL: &str = "15550003344";

/// Is written to through Meta.
const DAVE: &str = "16505551234";

const NAME: &str = "Robert Unmistakable";
const BODIES: [&str; 6] = [
    "an incoming message of the story",
    "an outgoing message of the story",
    "the name of a file of the story.pdf",
    "a message for nobody of the story",
    "what an external client has told",
    "what is sent through Meta",
];

/// What must not be found, and what it is.
#[derive(Default)]
struct Secrets(Vec<(String, String)>);

impl Secrets {
    fn add(&mut self, what: &str, secret: &str) {
        assert!(secret.len() > 6, "{what} could be anything: {secret}");
        self.0.push((what.to_owned(), secret.to_owned()));
    }

    /// The parts of a code to scan, each of which is one.
    fn add_code(&mut self, code: &str) {
        for part in code.rsplit(['#', '@']).next().unwrap_or_default().split(',') {
            if part.len() > 6 {
                self.add("a part of a QR code", part);
            }
        }
    }

    /// Those that are in the log, by what they are.
    fn found_in(&self, log: &str) -> Vec<&str> {
        let found = self.0.iter().filter(|(_, secret)| log.contains(secret));
        found.map(|(what, _)| what.as_str()).collect()
    }
}

fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value
        .pointer(pointer)
        .and_then(Value::as_str)
        .unwrap_or_else(|| panic!("{pointer} of {value:#}"))
}

/// Links, talks, fails, and ends.
async fn sessions(daemon: &Process, whatsapp: &Simulator, secrets: &mut Secrets) {
    let phone = whatsapp.phone(ALICE).unwrap();
    let code = daemon.code("sales").await.unwrap();
    secrets.add_code(&code);
    phone.scan(&code).await.unwrap();
    daemon.paired("sales").await.unwrap();

    // Another one by a code to type.
    secrets.add_code(&daemon.code("typed").await.unwrap());
    let pair = json!({ "phoneNumber": CAROL });
    let (status, given) = daemon.post("/api/whatsapp/session/typed/pair", pair).await;
    assert_eq!(status, StatusCode::OK, "{given}");
    let typed = text(&given, "/data/code").to_owned();
    secrets.add("a code to type", &typed);
    whatsapp.phone(CAROL).unwrap().enter_code(&typed).await.unwrap();
    daemon.paired("typed").await.unwrap();

    let bob = whatsapp.contact(BOB).unwrap();
    bob.set_name(NAME);
    bob.send_text(ALICE, BODIES[0]).await.unwrap();
    let file = MediaFile::new(MediaKind::Document, vec![7; 4096]).named(BODIES[2]);
    bob.send_media(ALICE, file).await.unwrap();
    let media = media(daemon).await;
    let (status, signed) = daemon.post(&format!("{media}/url"), json!({})).await;
    assert_eq!(status, StatusCode::OK, "{signed}");
    let signed = text(&signed, "/data/url");
    secrets.add("a signature", signed.rsplit_once('.').unwrap().1);
    for url in [signed.to_owned(), format!("{signed}x")] {
        http_client().get(format!("{}{url}", daemon.base())).send().await.unwrap();
    }
    let send = async |to: &str, body: &str| {
        daemon.post("/api/whatsapp/session/sales/messages", json!({ "to": to, "text": body })).await
    };
    let (status, answer) = send(BOB, BODIES[1]).await;
    assert!(status.is_success(), "{answer}");
    bob.wait_for_received(|it| it.text.as_deref() == Some(BODIES[1])).await.unwrap();
    let (status, refused) = send(NOBODY, BODIES[3]).await;
    assert_eq!(status, StatusCode::BAD_REQUEST, "{refused}");
}

/// Where the file is that came, as soon as it has.
async fn media(daemon: &Process) -> String {
    let begun = std::time::Instant::now();
    loop {
        let messages = daemon.messages("sales").await;
        if let Some(url) = messages.iter().find_map(|message| message["media"]["url"].as_str()) {
            return url.to_owned();
        }
        assert!(begun.elapsed() < DEADLINE, "the file does not come: {messages:#?}");
        tokio::task::yield_now().await;
    }
}

/// Sends through an account at Meta, which takes one message and says of another more than it should.
async fn through_meta(daemon: &Process, graph: &Receiver, account: &str) {
    graph.next([graph::takes("wamid.unmistakable"), graph::refuses(400, 131_047)]);
    for status in ["sent", "failed"] {
        let body = json!({ "to": DAVE, "text": BODIES[5] });
        let path = format!("/api/meta/accounts/{account}/messages");
        let (taken, message) = daemon.post(&path, body).await;
        assert_eq!(taken, StatusCode::ACCEPTED, "{message}");
        let id = text(&message, "/data/id");
        let path = format!("/api/whatsapp/session/meta_106540352242922/messages/{id}");
        let begun = std::time::Instant::now();
        loop {
            let shown = daemon.get(&path).await;
            if shown["data"]["status"] == status {
                break;
            }
            assert!(begun.elapsed() < DEADLINE, "{shown:#}");
            tokio::task::yield_now().await;
        }
    }
}

/// Tenants, endpoints, accounts and clients elsewhere: all that is given a secret.
async fn tenants(
    daemon: &Process,
    (receiver, graph): (&Receiver, &Receiver),
    secrets: &mut Secrets,
) {
    let (_, made) = daemon.post("/api/tokens", json!({ "role": "viewer", "label": "crm" })).await;
    let token = text(&made, "/data/secret").to_owned();
    secrets.add("a token", &token);
    let wrong = format!("wag_{}", "W".repeat(43));
    secrets.add("a token that is none", &wrong);
    for token in [&token, &wrong] {
        let ask = http_client().get(format!("{}/api/audit", daemon.base())).bearer_auth(token);
        assert!(ask.send().await.unwrap().status().is_client_error());
    }

    let theirs = "the-receivers-own-password";
    secrets.add("a header of an endpoint", theirs);
    secrets.add("the query of an endpoint", "opaque-part-of-the-address");
    let url = format!("http://{}/hook?key=opaque-part-of-the-address", receiver.address);
    let endpoint = json!({
        "url": url, "event_types": ["*"], "headers": { "x-password": theirs },
    });
    receiver.next([Behaviour::status(500)]);
    let (status, made) = daemon.post("/api/webhooks", endpoint).await;
    assert_eq!(status, StatusCode::CREATED, "{made}");
    secrets.add("an endpoint's secret", text(&made, "/data/secret"));

    let external =
        json!({ "sessionId": "elsewhere", "origin": "external", "webhookAuth": "secret" });
    let (status, made) = daemon.post("/api/whatsapp/session", external).await;
    assert_eq!(status, StatusCode::CREATED, "{made}");
    let secret = text(&made, "/data/secret").to_owned();
    secrets.add("an external session's secret", &secret);
    for secret in [secret.as_str(), "whsec_d3Jvbmctd3Jvbmctd3Jvbmctd3Jvbmc="] {
        let post = http_client()
            .post(format!("{}/api/whatsapp/webhook/elsewhere?secret={secret}", daemon.base()))
            .header("content-type", "application/json")
            .body(json!({ "event": "anything", "data": { "body": BODIES[4] } }).to_string());
        post.send().await.unwrap();
    }

    let (app_secret, access) = ("0f1e2d3c4b5a69788796a5b4c3d2e1f0", "EAABunmistakableaccess");
    secrets.add("an app's secret", app_secret);
    secrets.add("an access token", access);
    let account = json!({
        "phoneNumberId": "106540352242922", "wabaId": "102290129340398", "appId": "670843887433847",
        "appSecret": app_secret, "accessToken": access,
    });
    let (status, made) = daemon.post("/api/meta/accounts", account).await;
    assert_eq!(status, StatusCode::CREATED, "{made}");
    secrets.add("a verify token", text(&made, "/data/verifyToken"));
    secrets.add("an account's own path", text(&made, "/data/ownPath").rsplit('/').next().unwrap());
    through_meta(daemon, graph, text(&made, "/data/id")).await;
    // Something that cannot be read must not be quoted.
    let broken = daemon
        .request(Method::POST, "/api/whatsapp/session/sales/messages")
        .header("content-type", "application/json")
        .body(format!("{{\"to\": \"{BOB}\", \"text\": \"{}\"", BODIES[1]));
    assert!(broken.send().await.unwrap().status().is_client_error());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_of_a_whole_day_has_no_secret_no_number_no_message_and_no_code_in_it() {
    on_each(async |database: &Database| {
        let whatsapp = Simulator::start(Options::default()).await.unwrap();
        let receiver = Receiver::start().await;
        let graph = Receiver::start().await;
        let graph_url = format!("http://{}", graph.address);
        let directory = tempfile::tempdir().unwrap();
        let installation = Installation::new(directory.path(), Some(&database.url), &whatsapp);
        let mut secrets = Secrets::default();
        for (what, number) in
            [("Alice", ALICE), ("Bob", BOB), ("Carol", CAROL), ("Dave", DAVE), ("nobody", NOBODY)]
        {
            secrets.add(&format!("the number of {what}"), number);
        }
        secrets.add("a name", NAME);
        for body in BODIES {
            secrets.add("a message", body);
        }

        let talkative =
            [("WAGATE_LOG__LEVEL", "trace"), ("WAGATE_META__GRAPH_URL", graph_url.as_str())];
        let daemon = installation.try_start(&talkative).unwrap();
        // What is told of a probe is told at the lowest level only.
        daemon.get("/livez").await;
        tenants(&daemon, (&receiver, &graph), &mut secrets).await;
        sessions(&daemon, &whatsapp, &mut secrets).await;
        receiver.until(|came| came.iter().any(|it| it.json()["type"] == "message.received")).await;
        // Once more from what is kept, and with the network gone under it.
        daemon.terminate().await;
        let daemon = installation.try_start(&talkative).unwrap();
        daemon.connected("sales").await.unwrap();
        whatsapp.phone(ALICE).unwrap().unlink_all();
        daemon
            .watch("sales", "unlinked", |seen| (seen["isConnected"] == false).then_some(()))
            .await
            .unwrap();
        daemon.terminate().await;

        let state = installation.state();
        for file in ["operator.token", "master.key"] {
            secrets.add(file, fs::read_to_string(state.join(file)).unwrap().trim());
        }
        let log = fs::read_to_string(directory.path().join("log")).unwrap();
        // It is talkative indeed, of requests and of sessions.
        for line in ["DEBUG", "http.request", "session"] {
            assert!(log.contains(line), "no {line}: {} lines", log.lines().count());
        }
        let found = secrets.found_in(&log);
        let lines: Vec<_> = log.lines().filter(|line| !secrets.found_in(line).is_empty()).collect();
        assert!(found.is_empty(), "{found:?}: {:#?}", &lines[..lines.len().min(20)]);
        whatsapp.stop().await;
    })
    .await;
}
