//! What a start remembers of the configuration before: the audit log says which keys have other values, and no value.

use std::{fs, fs::OpenOptions, path::Path};

use serde_json::Value;

use crate::{
    database::{Database, on_each},
    program::{Process, command},
    world::http_client,
};

/// Values of keys of each kind: a secret, one with a secret in it, and two that are shown. Each is longer than what a
/// signature has by chance.
const BEFORE: [&str; 4] = ["hunter-one", "authorization=hunter-one", "104747s", "hunter_one=warn"];
const AFTER: [&str; 4] = ["hunter-two", "authorization=hunter-two", "104848s", "hunter_two=warn"];

const KEYS: [&str; 4] =
    ["external.webhook_secret_key", "traces.headers", "http.request_timeout", "log.filter"];

struct Installation<'a> {
    database: &'a Database,
    directory: &'a Path,
}

impl Installation<'_> {
    /// Starts the program with these values of the keys.
    fn start(&self, values: [&str; 4]) -> Process {
        let state = self.directory.join("state");
        let log = OpenOptions::new().create(true).append(true).open(self.log()).unwrap();
        let mut wagate = command(&state);
        let variables = KEYS.map(|key| key.to_ascii_uppercase().replace('.', "__"));
        wagate
            .envs(variables.iter().map(|key| format!("WAGATE_{key}")).zip(values))
            .envs(self.database.server_url().map(|url| ("WAGATE_DATABASE__URL", url)))
            .stderr(log);
        Process::logging(wagate, &state)
    }

    fn log(&self) -> std::path::PathBuf {
        self.directory.join("log")
    }

    /// All that says what the configuration was: what is remembered, and what was logged.
    fn said(&self) -> String {
        let remembered = self.directory.join("state").join("configuration.used");
        [remembered, self.log()].map(|path| fs::read_to_string(path).unwrap()).concat()
    }
}

/// What the audit log has of changes of the configuration.
async fn audited(daemon: &Process) -> Vec<Value> {
    let url = format!("{}/api/audit?action=configuration_changed", daemon.base());
    let answer = http_client().get(url).bearer_auth(daemon.token()).send().await.unwrap();
    let log: Value = answer.json().await.unwrap();
    log["data"].as_array().unwrap().clone()
}

fn end(mut daemon: Process) {
    daemon.signal("-TERM");
    assert_eq!(daemon.code(), Some(0));
}

#[tokio::test]
async fn a_start_says_which_keys_have_other_values_and_no_value() {
    on_each(async |database| {
        let directory = tempfile::tempdir().unwrap();
        let installation = Installation { database, directory: directory.path() };
        // Nothing is known before the first, and nothing is another value at the second.
        for _ in 0..2 {
            let daemon = installation.start(BEFORE);
            assert_eq!(audited(&daemon).await, [] as [Value; 0]);
            end(daemon);
        }
        let mut keys = KEYS;
        keys.sort_unstable();
        for _ in 0..2 {
            let daemon = installation.start(AFTER);
            let entries = audited(&daemon).await;
            assert_eq!(entries.len(), 1, "it is said once: {entries:?}");
            assert_eq!(entries[0]["detail"], serde_json::json!({ "keys": keys }));
            assert_eq!(entries[0]["tokenId"], Value::Null, "it was nobody's token");
            let said = format!("{entries:?} {}", installation.said());
            for value in ["hunter", "104747s", "104848s"] {
                assert!(!said.contains(value), "{value} in {said}");
            }
            end(daemon);
        }
        // What is remembered of one key is nothing that another one could have.
        let mut swapped = AFTER;
        swapped[3] = BEFORE[3];
        let daemon = installation.start(swapped);
        assert_eq!(audited(&daemon).await[0]["detail"]["keys"], serde_json::json!(["log.filter"]));
        end(daemon);
    })
    .await;
}
