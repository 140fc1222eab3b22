//! What the program says of itself, of its configuration and of its sessions.

use std::{collections::BTreeSet, fs, os::unix::fs::PermissionsExt as _, process::Command};

use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::{
    database::{Database, on_each},
    http_tls,
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

#[test]
fn a_key_or_a_certificate_that_is_of_no_use_is_told_of_without_a_start() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("state");
    let check = |variables: &[(&str, &str)], words: &[&str]| {
        let mut command = command(&state);
        command.arg("check-config").args(words).envs(variables.iter().copied());
        let output = command.output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (output.status.code(), text(output.stdout), text(output.stderr))
    };
    let path = |name: &str| dir.path().join(name).display().to_string();
    let (absent, short, open) = (path("absent"), path("short"), path("open"));
    for (name, text, mode) in [("short", "c2hvcnQ=", 0o600), ("open", "", 0o644)] {
        fs::write(path(name), text).unwrap();
        fs::set_permissions(path(name), fs::Permissions::from_mode(mode)).unwrap();
    }
    for (file, says) in [
        (&absent, "there is no master key in"),
        (&short, "holds no master key"),
        (&open, "others may read or change the master key"),
    ] {
        let key = [("WAGATE_ENCRYPTION__MASTER_KEY_FILE", file.as_str())];
        let (code, said, line) = check(&key, &[]);
        assert_eq!((code, said.as_str(), line.lines().count()), (Some(64), "", 1), "{line}");
        assert!(line.starts_with("wagate: cannot use the master key: ") && line.contains(says));
    }
    let (code, _, line) = check(&[("WAGATE_ENCRYPTION__MASTER_KEY", "hunter2hunter2")], &[]);
    assert_eq!(code, Some(64));
    assert!(line.contains("is no master key") && !line.contains("hunter2"), "{line}");

    let (certificate, key) = http_tls::certificate(dir.path(), "good");
    let (_, other) = http_tls::certificate(dir.path(), "other");
    let (certificate, key) = (certificate.display().to_string(), key.display().to_string());
    let other = other.display().to_string();
    let files = |key| {
        [("WAGATE_HTTP__TLS_CERTIFICATE", certificate.as_str()), ("WAGATE_HTTP__TLS_KEY", key)]
    };
    let (code, _, line) = check(&files(&key), &[]);
    assert_eq!((code, line.as_str()), (Some(0), ""));
    let (code, _, line) = check(&files(&other), &[]);
    assert_eq!(code, Some(64));
    assert!(
        line.starts_with("wagate: cannot serve TLS: ") && line.contains("is not for the key"),
        "{line}"
    );

    // Both at once, to programs.
    let mut both = files(&other).to_vec();
    both.push(("WAGATE_ENCRYPTION__MASTER_KEY_FILE", absent.as_str()));
    let (code, said, _) = check(&both, &["--json"]);
    let said: Value = serde_json::from_str(&said).unwrap();
    assert_eq!((code, &said["usable"]), (Some(64), &false.into()));
    let error = said["error"].as_str().unwrap();
    assert!(error.contains("no master key in") && error.contains("cannot serve TLS"), "{error}");
    assert!(!state.exists(), "nothing was opened");
}
