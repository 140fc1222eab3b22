//! What a release does when it is pointed at another server than WhatsApp. See `src/lib.rs` for how
//! this is run, and why alone.

use std::{
    path::{Path, PathBuf},
    process::{Command, Output},
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use wagate::{clock::Clock, config::Config, daemon::Daemon};
use wagate_simulator::{Options, Simulator};

/// A session gives up on a server that is not WhatsApp after three tries, some seconds in all.
const PATIENCE: Duration = Duration::from_secs(60);

const RULE: &str = "build it alone, without the `simulator` feature: \
                    cargo build -p wagate -p wagate-production --bins";

/// The program that `cargo build` has put beside the tests.
///
/// Any later build of the tests replaces it by one with the feature; that one would run for ever
/// where this one refuses, so it is asked first.
fn program() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let program = test.parent().and_then(Path::parent).unwrap().join("wagate");
    assert!(program.exists(), "{} is missing; {RULE}", program.display());
    let version = Command::new(&program).arg("--version").output().unwrap().stdout;
    let version = String::from_utf8(version).unwrap();
    let expected = format!("wagate {} (revision ", env!("CARGO_PKG_VERSION"));
    assert!(version.starts_with(&expected) && !version.contains("simulator"), "{version}; {RULE}");
    program
}

fn run(dir: &Path, arguments: &[&str], variables: &[(&str, &str)]) -> Output {
    Command::new(program())
        .current_dir(dir)
        .env_clear()
        .args(arguments)
        .envs(variables.iter().copied())
        .output()
        .unwrap()
}

#[test]
fn neither_the_library_nor_the_program_has_the_short_cut() {
    assert!(!wagate::SIMULATOR, "{RULE}");
    program();
}

/// A build for tests can be told to end at a moment that it names; this one does not know of any.
#[test]
fn the_program_has_no_moments_to_be_killed_at() {
    let bytes = std::fs::read(program()).unwrap();
    for part in [
        "KILL_WAGATE_AT",
        "HOLD_WAGATE_AT",
        "TELL_WAGATE_AT",
        "inbound.committed",
        "pairing.before_signing",
        "store.committed",
    ] {
        assert!(!bytes.windows(part.len()).any(|window| window == part.as_bytes()), "{part}");
    }
}

#[test]
fn the_program_refuses_another_server_before_it_opens_anything() {
    let url = "ws://127.0.0.1:7000/ws/chat";
    let dir = tempfile::tempdir().unwrap();
    let refusal = |output: Output| {
        let line = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(64), "{line}");
        assert_eq!(line.lines().count(), 1, "{line}");
        line
    };

    let line = refusal(run(dir.path(), &[], &[("WAGATE_WHATSAPP__URL", url)]));
    let start =
        "wagate: whatsapp.url (environment variable WAGATE_WHATSAPP__URL): this build talks";
    assert!(line.starts_with(start), "{line}");

    std::fs::write(dir.path().join("wagate.toml"), format!("[whatsapp]\nurl = '{url}'\n")).unwrap();
    for arguments in [&["run"][..], &["check-config"]] {
        let line = refusal(run(dir.path(), arguments, &[]));
        assert!(line.starts_with("wagate: whatsapp.url (wagate.toml): this build talks"), "{line}");
    }

    assert!(!dir.path().join("wagate-data").exists(), "nothing was opened");
}

/// The configuration is one door; this is what is behind it. Whoever gets the daemon to dial another
/// server all the same, by a changed program or a lying resolver, finds the certificate refused.
#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_that_is_made_to_dial_the_simulator_refuses_its_certificate() {
    assert!(!wagate::SIMULATOR, "{RULE}");
    let whatsapp = Simulator::start(Options::default()).await.unwrap();
    let dir = tempfile::tempdir().unwrap();
    let mut config = Config::default();
    config.state_dir = dir.path().join("state");
    config.http.listen = "127.0.0.1:0".parse().unwrap();
    config.whatsapp.version = Some((2, 3000, 1_023_456_789));
    // Not a configuration that `config::load` would let pass.
    config.whatsapp.url = Some(whatsapp.url());
    assert!(config.validate().is_err());

    let daemon = Daemon::start(config, Clock::system()).await.unwrap();
    let token = std::fs::read_to_string(daemon.operator_token_path()).unwrap();
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let api = format!("http://{}/api/whatsapp/session", daemon.address());
    let body = json!({ "sessionId": "shop" });
    let created = http.post(&api).bearer_auth(token.trim()).json(&body).send().await.unwrap();
    assert_eq!(created.status(), 201);

    let begun = Instant::now();
    let last = loop {
        let url = format!("{api}/status/shop");
        let answer = http.get(url).bearer_auth(token.trim()).send().await.unwrap();
        let status = answer.json::<Value>().await.unwrap()["data"].take();
        assert_eq!(
            status["needsQR"], false,
            "it trusted the simulator so far as to ask for a scan"
        );
        assert_eq!(status["isConnected"], false);
        if status["hasError"] == true {
            break status;
        }
        assert!(begun.elapsed() < PATIENCE, "still {status}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    };
    assert_eq!(last["status"], "auth_failure");
    assert_eq!(last["lastDisconnect"]["reason"], "server_not_trusted", "{last}");

    // It was the simulator that was dialled, and it got no further than the handshake.
    let seen = whatsapp.info();
    assert!(seen.connections > 0, "{seen:?}");
    assert_eq!((seen.pairings, seen.logins, seen.stanzas_in), (0, 0, 0), "{seen:?}");

    assert!(daemon.shutdown().await.is_clean());
    whatsapp.stop().await;
}
