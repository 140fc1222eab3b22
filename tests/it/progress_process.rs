//! Whoever waits at a terminal sees how far a long command has come; nobody else does.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use serde_json::Value;

use crate::{
    database::{Database, on_each},
    program::{Process, command},
};

/// An escape of a terminal.
const ESCAPE: &str = "\u{1b}[";

struct Place {
    state: PathBuf,
    database: String,
}

impl Place {
    fn wagate(&self, words: &[&str]) -> Command {
        let mut command = command(&self.state);
        command
            .args(words)
            .env("WAGATE_DATABASE__URL", &self.database)
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
        command
    }

    /// On a terminal of its own: all that appears there.
    fn at_a_terminal(&self, words: &[&str]) -> String {
        let quoted: Vec<_> = words.iter().map(|word| format!("'{word}'")).collect();
        let line = format!("'{}' {}", env!("CARGO_BIN_EXE_wagate"), quoted.join(" "));
        let mut script = Command::new("script");
        let script = script
            .args(["--quiet", "--return", "--command", &line, "/dev/null"])
            .current_dir(self.state.parent().unwrap())
            .env_clear()
            .env("WAGATE_STATE_DIR", &self.state)
            .env("WAGATE_DATABASE__URL", &self.database)
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .env("SHELL", "/bin/sh")
            .env("TERM", "xterm");
        let output = script.output().unwrap();
        let seen = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{words:?}: {seen}");
        seen
    }
}

fn silent(output: &Output) {
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && complaint.is_empty(), "{complaint}");
}

fn file(directory: &Path, name: &str) -> String {
    directory.join(name).to_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_command_shows_how_far_it_is_at_a_terminal_and_nowhere_else() {
    on_each(async |database: &Database| {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| file(directory.path(), name);
        let here = Place { state: directory.path().join("state"), database: database.url.clone() };
        let daemon = Process::of(here.wagate(&[]), &here.state);

        let seen = here.at_a_terminal(&["backup", &at("one")]);
        assert!(seen.contains(ESCAPE) && seen.contains("Copying"), "{seen:?}");
        assert!(seen.contains("The database is copied to "), "{seen:?}");
        let seen = here.at_a_terminal(&["rekey"]);
        assert!(seen.contains("Rotating the master key"), "{seen:?}");
        assert!(seen.contains("The master key is rotated"), "{seen:?}");
        // For programs there is nothing but the object, also where somebody looks.
        let seen = here.at_a_terminal(&["backup", &at("two"), "--json"]);
        assert!(!seen.contains(ESCAPE), "{seen:?}");
        serde_json::from_str::<Value>(&seen).unwrap();
        // In a pipe there is no terminal.
        silent(&here.wagate(&["rekey"]).output().unwrap());
        silent(&here.wagate(&["backup", &at("three")]).output().unwrap());
        drop(daemon);

        if database.server_url().is_none() {
            let there = Place {
                state: directory.path().join("there"),
                database: format!("sqlite:{}", at("restored.db")),
            };
            fs::create_dir(&there.state).unwrap();
            fs::set_permissions(&there.state, fs::metadata(&here.state).unwrap().permissions())
                .unwrap();
            fs::copy(here.state.join("master.key"), there.state.join("master.key")).unwrap();
            let seen = there.at_a_terminal(&["restore", &at("three")]);
            assert!(seen.contains(ESCAPE) && seen.contains("Copying"), "{seen:?}");
            assert!(seen.contains(" is restored to "), "{seen:?}");
        }
    })
    .await;
}
