//! What verifies signatures, judged by one file of requests, good and bad: the library, the command line, and
//! the receivers in the examples. And each receiver takes what the gateway sends.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use serde_json::{Value, json};
use wagate::{
    http::Limits,
    webhook::{SigningSecret, signature::VerifyError, verify},
};

use crate::{
    database::{on_each, skip},
    http_app::App,
    program::command,
    receiver_example as example,
    webhooks_api::{endpoint, log},
};

fn cases() -> Vec<Value> {
    let file: Value = serde_json::from_str(include_str!("../vectors/webhooks.json")).unwrap();
    file["cases"].as_array().unwrap().clone()
}

fn texts(list: &Value) -> Vec<String> {
    list.as_array().unwrap().iter().map(|it| it.as_str().unwrap().to_owned()).collect()
}

/// Fails unless `judge` says of every case what the file says.
fn all_agree(judge: impl Fn(&Value) -> Value) {
    let cases = cases();
    assert!(cases.iter().filter(|case| case["error"].is_null()).count() >= 9);
    assert!(cases.iter().filter(|case| !case["error"].is_null()).count() >= 20);
    for case in cases {
        assert_eq!(judge(&case), case["error"], "{}", case["name"]);
    }
}

#[test]
fn the_library_judges_as_the_vectors_say() {
    all_agree(|case| {
        let header = |name: &str| case["headers"][name].as_str().filter(|it| !it.is_empty());
        let (Some(id), Some(at), Some(signatures)) = (
            header("webhook-id"),
            header("webhook-timestamp")
                .filter(|at| at.bytes().all(|it| it.is_ascii_digit()))
                .and_then(|at| at.parse().ok()),
            header("webhook-signature"),
        ) else {
            return json!("headers");
        };
        let (body, now) = (case["body"].as_str().unwrap(), case["now"].as_i64().unwrap());
        let outcomes: Vec<_> = texts(&case["secrets"])
            .iter()
            .map(|secret| {
                let secret = SigningSecret::parse(secret).unwrap();
                verify(&secret, id, at, signatures, body.as_bytes(), now)
            })
            .collect();
        if outcomes.contains(&Ok(())) {
            Value::Null
        } else if outcomes.contains(&Err(VerifyError::Timestamp)) {
            json!("timestamp")
        } else {
            json!("signature")
        }
    });
}

#[test]
fn the_receiver_in_rust_judges_as_the_vectors_say() {
    all_agree(|case| {
        let keys: Vec<_> =
            texts(&case["secrets"]).iter().map(|it| example::key(it).unwrap()).collect();
        let mut headers = HeaderMap::new();
        for (name, value) in case["headers"].as_object().unwrap() {
            if let Some(value) = value.as_str() {
                let name: HeaderName = name.parse().unwrap();
                headers.insert(name, HeaderValue::from_str(value).unwrap());
            }
        }
        let now = Duration::from_secs(case["now"].as_u64().unwrap());
        match example::verify(&keys, &headers, case["body"].as_str().unwrap().as_bytes(), now) {
            Ok(()) => Value::Null,
            Err(example::Refused::Headers) => json!("headers"),
            Err(example::Refused::Signature) => json!("signature"),
            Err(example::Refused::Timestamp) => json!("timestamp"),
        }
    });
}

#[test]
fn the_command_line_judges_as_the_vectors_say_and_gives_a_reason() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("state");
    all_agree(|case| {
        let headers = dir.path().join("headers");
        let lines = case["headers"].as_object().unwrap().iter();
        let lines =
            lines.filter_map(|(name, value)| Some(format!("{name}: {}\r\n", value.as_str()?)));
        std::fs::write(&headers, lines.collect::<String>()).unwrap();
        let mut child = command(&state)
            .env("WAGATE_WEBHOOK_SECRET", texts(&case["secrets"]).join(" "))
            .args(["webhook", "verify", "--headers"])
            .arg(&headers)
            .args(["--at", &case["now"].to_string()])
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        let mut body = child.stdin.take().unwrap();
        // Headers that cannot be used end it before the body is read.
        body.write_all(case["body"].as_str().unwrap().as_bytes()).ok();
        drop(body);
        let output = child.wait_with_output().unwrap();
        let said = String::from_utf8(output.stdout).unwrap();
        match output.status.code() {
            Some(0) => Value::Null,
            Some(1) if said.starts_with("No signature fits: ") => json!("signature"),
            Some(2) if said.contains("The signature fits, but") => json!("timestamp"),
            Some(64) if output.stderr.starts_with(b"wagate: ") => json!("headers"),
            other => panic!("{other:?} {said} {}", String::from_utf8_lossy(&output.stderr)),
        }
    });
}

#[test]
fn what_is_wrong_with_a_request_is_said_as_far_as_it_can_be_seen() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("state");
    let case = cases().remove(0);
    let (secret, body) = (dir.path().join("secret"), dir.path().join("body"));
    std::fs::write(&secret, case["secrets"][0].as_str().unwrap()).unwrap();
    let sent = case["body"].as_str().unwrap();
    let header = |name: &str| case["headers"][name].as_str().unwrap();
    let ask = |signature: &str, kept: &str| {
        std::fs::write(&body, kept).unwrap();
        let mut verify = command(&state);
        verify.args(["webhook", "verify", "--secret-file"]).arg(&secret).arg("--body").arg(&body);
        verify.args(["--id", header("webhook-id"), "--signature", signature]);
        verify.args(["--timestamp", header("webhook-timestamp")]);
        verify
    };
    let said = |signature: &str, kept: &str| {
        let output = ask(signature, kept).args(["--at", "1649367553"]).output().unwrap();
        assert!(output.stderr.is_empty(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let good = header("webhook-signature");
    assert_eq!(said(good, sent), "The signature fits.\n");
    assert!(said(good, &format!("{sent}\n")).contains("a line feed at its end"));
    assert!(said(good, &sent.replace(':', ": ")).contains("the same JSON and not the same bytes"));
    assert!(said("v1a,x", sent).contains("none of the form v1,"));
    assert!(said(good, "{}").contains("another secret, or the body"));
    // Years later, by this machine's clock.
    let late = ask(good, sent).output().unwrap();
    assert_eq!(late.status.code(), Some(2));
    assert!(String::from_utf8(late.stdout).unwrap().contains("seconds old"));

    // For programs the same, in one object.
    let told = |signature: &str, kept: &str, at: &str| {
        let output = ask(signature, kept).args(["--json", "--at", at]).output().unwrap();
        let told: Value = serde_json::from_slice(&output.stdout).unwrap();
        (output.status.code(), told)
    };
    let fits =
        json!({ "signed": true, "inTime": true, "secret": 1, "ageSeconds": 0, "reason": null });
    let at = header("webhook-timestamp");
    assert_eq!(told(good, sent, at), (Some(0), fits));
    let (code, early) = told(good, sent, "1");
    assert_eq!((code, &early["signed"], &early["inTime"]), (Some(2), &true.into(), &false.into()));
    assert!(early["ageSeconds"].as_i64().unwrap() < -1_000_000_000, "{early}");
    let (code, other) = told(good, "{}", at);
    assert_eq!((code, &other["signed"], &other["secret"]), (Some(1), &false.into(), &Value::Null));
    assert!(other["reason"].as_str().unwrap().contains("another secret"), "{other}");

    let refused = |change: &dyn Fn(&mut Command)| {
        let mut verify = command(&state);
        verify.args(["webhook", "verify", "--id", "x", "--timestamp", "1", "--signature", "v1,"]);
        change(&mut verify);
        let output = verify.output().unwrap();
        assert_eq!(output.status.code(), Some(64), "{output:?}");
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(!said.contains("hidden"), "{said}");
        said
    };
    let none = refused(&|_| {});
    assert!(none.contains("there is no secret: give --secret-file FILE, or set"), "{none}");
    let malformed = refused(&|it| {
        it.env("WAGATE_WEBHOOK_SECRET", "whsec_hidden");
    });
    assert!(malformed.contains("secret number 1: must be `whsec_`"), "{malformed}");
    let twice = refused(&|it| {
        it.args(["--secret-file", "-"]);
    });
    assert!(twice.contains("cannot both be on standard input"), "{twice}");
}

/// Lines that a program prints of the cases: what it says of each.
fn judged_by(program: &str, arguments: &[&str], script: &str) {
    let vectors = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/vectors/webhooks.json");
    let output = Command::new(program)
        .args(arguments)
        .arg(script)
        .env("VECTORS", vectors)
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/examples/receivers"))
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .output();
    let Ok(output) = output else { return skip(&format!("no {program}")) };
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let said: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap();
    let cases = cases();
    assert_eq!(said.len(), cases.len());
    for (case, said) in cases.iter().zip(said) {
        assert_eq!(said, case["error"], "{}", case["name"]);
    }
}

#[test]
fn the_receiver_in_python_judges_as_the_vectors_say() {
    let script = r#"
import json, os, sys
sys.path.insert(0, ".")
import receiver
said = []
for case in json.load(open(os.environ["VECTORS"], encoding="utf-8"))["cases"]:
    headers = {name: value for name, value in case["headers"].items() if value is not None}
    try:
        receiver.verify(case["secrets"], headers, case["body"].encode(), case["now"])
        said.append(None)
    except receiver.Refused as refused:
        said.append(str(refused))
print(json.dumps(said))
"#;
    judged_by("python3", &["-c"], script);
}

#[test]
fn the_receiver_in_node_judges_as_the_vectors_say() {
    let script = r#"
import { readFileSync } from "node:fs";
const { verify, Refused } = await import(process.cwd() + "/receiver.mjs");
const { cases } = JSON.parse(readFileSync(process.env.VECTORS, "utf8"));
const said = cases.map(({ secrets, headers, body, now }) => {
  const there = Object.fromEntries(Object.entries(headers).filter(([, value]) => value !== null));
  try {
    verify(secrets, there, Buffer.from(body), now);
    return null;
  } catch (error) {
    if (!(error instanceof Refused)) throw error;
    return error.message;
  }
});
console.log(JSON.stringify(said));
"#;
    judged_by("node", &["--input-type=module", "-e"], script);
}

/// A receiver in a process of its own.
struct Program(Child, String);

impl Drop for Program {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

impl Program {
    fn start(program: &str, script: &str, secrets: &str) -> Option<Self> {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/receivers").join(script);
        let mut child = Command::new(program)
            .arg(script)
            .arg("0")
            .env("WAGATE_WEBHOOK_SECRET", secrets)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .ok()?;
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        let url = line.trim().strip_prefix("listening on ").unwrap_or_else(|| panic!("{line:?}"));
        let url = url.to_owned();
        Some(Self(child, url))
    }
}

/// Fails unless a receiver takes what is signed with its secret, and nothing else.
async fn takes_what_is_signed(app: &App, url: &str, id: &str) {
    let path = format!("/api/webhooks/{id}");
    assert_eq!(app.patch(&path, json!({ "url": url })).await.status, 200);
    app.hear("shop", "4911", "Olá 👋").await;
    app.deliveries.drive().await.unwrap();
    let row = log(app, id).await.remove(0);
    assert_eq!(row["status"], "succeeded", "{row}");
    assert_eq!(row["response_status"], 204);
}

#[tokio::test(flavor = "multi_thread")]
async fn each_receiver_takes_what_the_gateway_sends_and_nothing_that_others_signed() {
    on_each(async |database| {
        // Signatures are as old as receivers think that they are: they go by the machine's clock.
        let opened = database.open_by_the_machine_s_clock().await;
        let app = App::over(opened, Limits::default()).await;
        app.session("shop").await;
        let (id, secret) = endpoint(&app, json!({ "url": "http://receiver.test:9/" })).await;
        let (_, other) =
            endpoint(&app, json!({ "url": "http://receiver.test:9/", "event_types": ["call"] }))
                .await;

        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let secrets = format!("{other} {secret}");
        let serving = tokio_util::task::TaskTracker::new()
            .spawn(async move { example::serve(listener, &secrets).await.unwrap() });
        takes_what_is_signed(&app, &url, &id).await;
        serving.abort();

        for (program, script) in [("python3", "receiver.py"), ("node", "receiver.mjs")] {
            let both = format!("{other} {secret}");
            let Some(receiver) = Program::start(program, script, &both) else {
                skip(&format!("no {program}"));
                continue;
            };
            takes_what_is_signed(&app, &receiver.1, &id).await;
            let stranger = Program::start(program, script, &other).unwrap();
            assert_eq!(
                app.patch(&format!("/api/webhooks/{id}"), json!({ "url": stranger.1 }))
                    .await
                    .status,
                200
            );
            let sent = app.post(&format!("/api/webhooks/{id}/test"), json!({})).await.json();
            assert_eq!(sent["data"]["status"], 401, "{sent}");
        }
        app.close().await;
    })
    .await;
}
