//! The README's lines for a first run without a phone, as a newcomer pastes them.

use std::process::{Command, Stdio};

use wagate::daemon::Daemon;

use crate::{
    failure::Failure,
    world::{FRIEND, World},
};

const PAGE: &str = include_str!("../../README.md");

/// Above the lines.
const HEADING: &str = "\n### Without a phone\n";

/// The first of them, which is this program, and what it says of places: they are others here.
const FIRST: &str = "cargo run --example sandbox -- --listen 127.0.0.1:8080 --control 127.0.0.1:8090 --state-dir sandbox-data";
const LISTEN: &str = "127.0.0.1:8080";
const CONTROL: &str = "127.0.0.1:8090";
const STATE_DIR: &str = "sandbox-data";

/// What they have the friend read.
const TEXT: &str = "hello from the README";

/// Runs them; the friend reads what they send, so the session was paired and connected.
pub(crate) async fn follow(world: &World, daemon: &Daemon) -> Result<(), Failure> {
    let lines = lines(world, daemon)?;
    let run = move || {
        let mut shell = Command::new("sh");
        // `-f`: an answer that says no is a failure.
        shell.args(["-euc", &format!("curl() {{ command curl -fsS \"$@\"; }}\n{lines}")]);
        shell.stdin(Stdio::null()).output()
    };
    let ran = tokio::task::spawn_blocking(run).await.map_err(|_| Failure::wrong("no shell"))??;
    if !ran.status.success() {
        let said = String::from_utf8_lossy(&ran.stderr).into_owned();
        return Err(Failure::wrong(format!("the README's lines end with {}: {said}", ran.status)));
    }
    let friend = world.simulator().contact(FRIEND)?;
    friend.wait_for_received(|message| message.text.as_deref() == Some(TEXT)).await?;
    Ok(())
}

/// The lines below the first, for this daemon and this simulator.
fn lines(world: &World, daemon: &Daemon) -> Result<String, Failure> {
    let section = PAGE.split_once(HEADING).map(|(_, rest)| rest);
    let section = section.and_then(|rest| rest.split("\n#").next()).unwrap_or_default();
    let mut lines = section.lines().filter_map(|line| line.strip_prefix("    "));
    if lines.next() != Some(FIRST) {
        return Err(Failure::wrong(format!("the README does not begin with: {FIRST}")));
    }
    let lines: Vec<&str> = lines.collect();
    let state_dir = daemon.operator_token_path().with_file_name("");
    let lines = lines.join("\n").replace(LISTEN, &daemon.address().to_string());
    let lines = lines.replace(CONTROL, &world.control().to_string());
    Ok(lines.replace(STATE_DIR, state_dir.to_string_lossy().trim_end_matches('/')))
}
