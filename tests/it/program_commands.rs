//! What the program says of itself, of its configuration and of its sessions.

use std::{collections::BTreeSet, fs, process::Command};

use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::{
    database::{Database, on_each},
    program::{Process, command, ended},
    world::http_client,
};

fn said(mut command: Command) -> (Option<i32>, String) {
    let output = command.output().unwrap();
    (output.status.code(), String::from_utf8(output.stdout).unwrap())
}

#[test]
fn completions_and_pages_are_made_whatever_is_configured_and_always_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("state");
    let wagate = |words: &[&str]| {
        let mut command = command(&state);
        command.args(words).env("WAGATE_HTTP__LISTEN", "everywhere");
        command
    };
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let (code, script) = said(wagate(&["completions", shell]));
        assert_eq!(code, Some(0));
        assert!(script.contains("check-config") && script.contains("restore"), "{shell}: {script}");
    }
    let (code, page) = said(wagate(&["man"]));
    assert_eq!(code, Some(0));
    assert!(page.contains(".TH wagate 1") && page.contains("doctor"), "{page}");

    let pages = [dir.path().join("one"), dir.path().join("two")];
    let written = pages.each_ref().map(|pages| {
        fs::create_dir(pages).unwrap();
        assert_eq!(said(wagate(&["man", pages.to_str().unwrap()])).0, Some(0));
        let entries = fs::read_dir(pages).unwrap().map(|entry| entry.unwrap().path());
        let named = |path: std::path::PathBuf| {
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            (name, fs::read_to_string(path).unwrap())
        };
        entries.map(named).collect::<BTreeSet<_>>()
    });
    assert_eq!(written[0], written[1]);
    let names: Vec<_> = written[0].iter().map(|(name, _)| name.as_str()).collect();
    for page in ["wagate.1", "wagate-serve.1", "wagate-session-list.1", "wagate-restore.1"] {
        assert!(names.contains(&page), "{names:?}");
    }
    assert!(!names.iter().any(|name| name.contains("wagate-man")), "{names:?}");
    assert!(!state.exists(), "nothing was opened");
}

#[test]
fn whether_a_configuration_is_usable_is_said_to_programs_as_well() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("state");
    let check = |file: &str| {
        let path = dir.path().join("wagate.toml");
        fs::write(&path, file).unwrap();
        let mut command = command(&state);
        command.args(["check-config", "--json", "--config"]).arg(path);
        let (code, text) = said(command);
        (code, serde_json::from_str::<Value>(&text).unwrap())
    };
    let (code, usable) = check("[log]\nlevel = 'debug'\n");
    assert_eq!((code, &usable["usable"]), (Some(0), &true.into()));
    assert!(usable["file"].as_str().unwrap().ends_with("/wagate.toml"));
    let (code, unusable) = check("[log]\nlevel = 'loud'\n");
    assert_eq!((code, &unusable["usable"]), (Some(64), &false.into()));
    assert!(unusable["error"].as_str().unwrap().starts_with("log.level"), "{unusable}");
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_are_listed_beside_the_daemon_as_it_lists_them_and_of_one_organization() {
    on_each(async |database: &Database| {
        let dir = tempfile::tempdir().unwrap();
        let state = dir.path().join("state");
        let wagate = |words: &[&str]| {
            let mut command = command(&state);
            command.args(words).env("WAGATE_DATABASE__URL", &database.url);
            command
        };
        // By its name; without one it is the same.
        let daemon = Process::of(wagate(&["serve"]), &state);
        let ask = |request: reqwest::RequestBuilder| request.bearer_auth(daemon.token()).send();
        for id in ["sales", "support"] {
            let made = http_client()
                .post(format!("{}/api/whatsapp/session", daemon.base()))
                .json(&json!({ "sessionId": id, "start": false }));
            assert_eq!(ask(made).await.unwrap().status(), StatusCode::CREATED);
        }
        let list = format!("{}/api/whatsapp/session/list-realtime", daemon.base());
        let served: Value = ask(http_client().get(list)).await.unwrap().json().await.unwrap();

        let (code, listed) = said(wagate(&["session", "list", "--json"]));
        assert_eq!(code, Some(0));
        let listed: Value = serde_json::from_str(&listed).unwrap();
        assert_eq!(listed.as_array().unwrap().len(), 2);
        assert_eq!(listed, served["data"]);
        let (_, table) = said(wagate(&["session", "list"]));
        let first: Vec<_> = table.lines().map(|line| line.split("  ").next().unwrap()).collect();
        assert_eq!(first, ["SESSION", "sales", "support"], "{table}");

        let (code, _) = said(wagate(&["org", "create", "Acme"]));
        assert_eq!(code, Some(0));
        let (_, none) = said(wagate(&["session", "list", "--org", "2", "--json"]));
        assert_eq!(none, "[]\n");
        let (code, line) = ended(wagate(&["session", "list", "--org", "9"]));
        assert_eq!(code, Some(1));
        assert_eq!(line.lines().count(), 1, "{line}");
    })
    .await;
}
