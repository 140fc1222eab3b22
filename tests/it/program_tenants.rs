//! `wagate org`, `wagate token` and `wagate audit`, beside a daemon that runs.

use std::process::Command;

use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::{
    database::{Database, on_each},
    program::{Process, command, ended},
    world::http_client,
};

/// What a command says in JSON.
fn told(mut command: Command, words: &[&str]) -> Value {
    let output = command.args(words).arg("--json").output().unwrap();
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{words:?}: {complaint}");
    serde_json::from_slice(&output.stdout).unwrap()
}

/// What the system calls whoever runs this test.
fn user() -> String {
    let output = Command::new("id").arg("-un").output().unwrap();
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn tenants_are_made_at_the_command_line_while_the_daemon_runs_and_take_effect_at_once() {
    on_each(async |database: &Database| {
        let dir = tempfile::tempdir().unwrap();
        let state = dir.path().join("state");
        let wagate = || {
            let mut command = command(&state);
            command.env("WAGATE_DATABASE__URL", &database.url).env_remove("SUDO_USER");
            command
        };
        let daemon = Process::of(wagate(), &state);
        let status = async |secret: &str, path: &str| {
            let url = format!("{}{path}", daemon.base());
            http_client().get(url).bearer_auth(secret).send().await.unwrap().status()
        };

        let acme = told(wagate(), &["org", "create", "Acme", "--max-sessions", "3"]);
        assert_eq!((&acme["clientId"], &acme["maxSessions"]), (&2.into(), &3.into()));
        assert_eq!(told(wagate(), &["org", "list"]).as_array().unwrap().len(), 2);
        let changed = told(wagate(), &["org", "change", "2", "--name", "Acme Ltd", "--unlimited"]);
        assert_eq!((&changed["name"], &changed["maxSessions"]), (&"Acme Ltd".into(), &Value::Null));
        assert_eq!(told(wagate(), &["org", "show", acme["id"].as_str().unwrap()]), changed);

        let made = told(wagate(), &["token", "create", "--org", "2", "--role", "admin"]);
        let (id, secret) = (made["id"].as_str().unwrap(), made["secret"].as_str().unwrap());
        assert!(secret.starts_with("wag_"));
        assert_eq!(status(secret, "/api/tokens").await, StatusCode::OK);
        assert_eq!(status(secret, "/api/organizations").await, StatusCode::FORBIDDEN);
        let shown = told(wagate(), &["token", "show", id, "--org", "2"]);
        assert!(shown["secret"].is_null() && shown["lastUsedAt"].is_string(), "{shown}");
        // In another organization it is not there.
        let mut elsewhere = wagate();
        elsewhere.args(["token", "revoke", id]);
        assert_eq!(ended(elsewhere), (Some(1), "wagate: there is no such token\n".to_owned()));

        let next = told(wagate(), &["token", "rotate", id, "--org", "2"]);
        let next_secret = next["secret"].as_str().unwrap();
        assert_eq!(status(secret, "/").await, StatusCode::UNAUTHORIZED);
        assert_eq!(status(next_secret, "/").await, StatusCode::OK);
        let list = told(wagate(), &["token", "list", "--org", "2"]).to_string();
        assert!(list.contains(id) && !list.contains("wag_"), "{list}");

        // Written down, by nobody's token and from no address, but with who it was.
        let user = user();
        let url = format!("{}/api/audit", daemon.base());
        let audit = http_client().get(url).bearer_auth(next_secret).send().await.unwrap();
        let audit: Value = audit.json().await.unwrap();
        let actions: Vec<_> = audit["data"]
            .as_array()
            .unwrap()
            .iter()
            .map(|entry| {
                assert_eq!((&entry["tokenId"], &entry["address"]), (&Value::Null, &Value::Null));
                assert_eq!(entry["detail"]["by"], json!({ "via": "command line", "user": user }));
                entry["action"].as_str().unwrap()
            })
            .collect();
        assert_eq!(
            actions,
            [
                "token_revoked",
                "token_created",
                "token_created",
                "organization_changed",
                "organization_created"
            ]
        );

        // The same at the command line, page by page.
        let (mut listed, mut cursor) = (Vec::new(), None);
        loop {
            let mut words = vec!["audit", "list", "--org", "2", "--limit", "2"];
            words
                .extend(cursor.as_deref().map(|cursor| ["--cursor", cursor]).into_iter().flatten());
            let page = told(wagate(), &words);
            assert!(page["data"].as_array().unwrap().len() <= 2);
            listed.extend(page["data"].as_array().unwrap().clone());
            let Some(next) = page["nextCursor"].as_str() else { break };
            cursor = Some(next.to_owned());
        }
        assert_eq!(Value::from(listed), audit["data"]);
        let filtered = ["audit", "list", "--org", "2", "--action", "token_revoked", "--target", id];
        assert_eq!(told(wagate(), &filtered)["data"].as_array().unwrap().len(), 1);
        let since = ["audit", "list", "--org", "2", "--since", "2999-01-01T00:00:00Z"];
        assert_eq!(told(wagate(), &since)["data"], Value::Array(Vec::new()));
        let table =
            wagate().args(["audit", "list", "--org", "2", "--limit", "4"]).output().unwrap();
        let table = String::from_utf8(table.stdout).unwrap();
        assert!(table.starts_with("AT") && table.contains("token_revoked"), "{table}");
        assert!(table.contains("\nMore with --cursor "), "{table}");
        for wrong in [["--action", "nonsense"], ["--limit", "501"], ["--cursor", "nonsense"]] {
            let mut command = wagate();
            command.args(["audit", "list"]).args(wrong);
            assert_eq!(ended(command).0, Some(64), "{wrong:?}");
        }

        let next_id = next["id"].as_str().unwrap();
        told(wagate(), &["token", "revoke", next_id, "--org", "2"]);
        assert_eq!(status(next_secret, "/").await, StatusCode::UNAUTHORIZED);
    })
    .await;
}

#[test]
fn without_a_database_nothing_is_made_and_a_mistake_is_one_line() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("state");
    let mut list = command(&state);
    list.args(["org", "list"]);
    let (code, line) = ended(list);
    assert_eq!(code, Some(1));
    assert!(line.starts_with("wagate: there is no database at ") && line.lines().count() == 1);
    assert!(!state.exists());
    let mut wrong = command(&state);
    wrong.args(["token", "create", "--role", "king"]);
    let (code, text) = ended(wrong);
    assert_eq!(code, Some(64));
    assert!(text.contains("expected viewer, manager, admin or operator"), "{text}");
}
