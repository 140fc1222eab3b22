//! `wagate doctor` finds what is planted, says what to do, and changes nothing.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::TcpListener,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::Command,
    time::{Duration, SystemTime},
};

use serde_json::Value;

use crate::{
    database::{Database, on_each},
    program::{Process, command},
};

/// Answers whatever it is asked, with the time as a machine with this clock has it.
pub(crate) fn whatsapp(clock: SystemTime) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut head = [0; 1024];
            let read = stream.read(&mut head);
            assert!(read.is_ok_and(|read| read > 0), "nothing was asked");
            let date = httpdate::fmt_http_date(clock);
            let answer = format!("HTTP/1.1 200 OK\r\nDate: {date}\r\nContent-Length: 0\r\n\r\n");
            stream.write_all(answer.as_bytes()).ok();
        }
    });
    format!("ws://{address}/ws/chat")
}

/// `doctor` where everything is as it should be.
pub(crate) fn doctor(state: &Path) -> Command {
    let mut command = command(state);
    command.env("WAGATE_WHATSAPP__URL", whatsapp(SystemTime::now())).args(["doctor", "--json"]);
    command
}

/// Exit code, and the report.
pub(crate) fn report(command: &mut Command) -> (Option<i32>, Value) {
    let output = command.output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
    (output.status.code(), serde_json::from_str(&text).expect(&complaint))
}

/// What is wrong: the checks, and what they say with what to do about it.
pub(crate) fn wrong(report: &Value) -> Vec<(String, String)> {
    let findings = report["findings"].as_array().unwrap();
    let wrong = findings.iter().filter(|finding| finding["verdict"] != "ok");
    wrong
        .map(|finding| {
            let fix = finding["fix"].as_str().expect("what is wrong comes with what to do");
            let says = finding["says"].as_str().unwrap();
            (finding["check"].as_str().unwrap().to_owned(), format!("{says} | {fix}"))
        })
        .collect()
}

/// A state directory that a daemon has used.
pub(crate) fn used(state: &Path, database: Option<&Database>) {
    let mut run = command(state);
    if let Some(database) = database {
        run.env("WAGATE_DATABASE__URL", &database.url);
    }
    let mut daemon = Process::of(run, state);
    daemon.signal("-TERM");
    assert_eq!(daemon.code(), Some(0));
}

/// Every file with its content.
fn files(dir: &Path) -> Vec<(String, Vec<u8>)> {
    let mut files: Vec<_> = fs::read_dir(dir)
        .into_iter()
        .flatten()
        .map(|entry| {
            let path = entry.unwrap().path();
            (path.display().to_string(), fs::read(&path).unwrap())
        })
        .collect();
    files.sort();
    files
}

/// Exactly one thing is wrong: `check`, of which `says` is told; and the exit code says so.
pub(crate) fn finds(command: &mut Command, verdict: &str, check: &str, says: &str) {
    let (code, report) = report(command);
    let found = wrong(&report);
    assert_eq!(found.len(), 1, "{check}: {report:#}");
    assert_eq!(found[0].0, check, "{report:#}");
    assert!(found[0].1.contains(says), "{report:#}");
    let counted = if verdict == "fault" { "faults" } else { "warnings" };
    assert_eq!(report[counted], 1, "{report:#}");
    assert_eq!(code, Some(i32::from(verdict == "fault")), "{report:#}");
}

#[test]
fn nothing_is_wrong_before_the_first_start_after_it_and_while_it_runs_and_nothing_changes() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("state");
    let (code, before) = report(&mut doctor(&state));
    assert_eq!((code, &before["faults"], &before["warnings"]), (Some(0), &0.into(), &0.into()));
    assert!(!state.exists());

    used(&state, None);
    let kept = files(&state);
    let (code, after) = report(&mut doctor(&state));
    assert_eq!((code, wrong(&after)), (Some(0), vec![]), "{after:#}");
    assert_eq!(files(&state), kept);

    let _running = Process::start(&state);
    let (code, during) = report(&mut doctor(&state));
    assert_eq!((code, wrong(&during)), (Some(0), vec![]), "{during:#}");
    assert!(during.to_string().contains("a daemon runs"), "{during:#}");
}

#[test]
fn faults_of_the_machine_and_of_the_directory_are_found() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("state");
    used(&state, None);

    let mistyped = &mut doctor(&state);
    mistyped.env("WAGATE_HTTP__LISTEN", "everywhere");
    finds(mistyped, "fault", "configuration", "http.listen (environment variable");

    fs::set_permissions(&state, fs::Permissions::from_mode(0o755)).unwrap();
    finds(&mut doctor(&state), "warning", "state_dir", "chmod 700");
    fs::set_permissions(&state, fs::Permissions::from_mode(0o700)).unwrap();
    let file = dir.path().join("file");
    fs::write(&file, "").unwrap();
    let (code, report_of_file) = report(&mut doctor(&file));
    assert_eq!(code, Some(1));
    assert!(wrong(&report_of_file).iter().any(|(check, _)| check == "state_dir"));

    let token = state.join("operator.token");
    let kept = fs::read(&token).unwrap();
    fs::set_permissions(&token, fs::Permissions::from_mode(0o644)).unwrap();
    finds(&mut doctor(&state), "fault", "operator_token", "chmod 600");
    fs::set_permissions(&token, fs::Permissions::from_mode(0o600)).unwrap();
    fs::write(&token, "\n").unwrap();
    finds(&mut doctor(&state), "fault", "operator_token", "is empty");
    fs::write(&token, format!("wag_{}", "W".repeat(43))).unwrap();
    finds(&mut doctor(&state), "warning", "operator_token", "none of this database's");
    fs::write(&token, kept).unwrap();
    let wagate = |words: &[&str]| {
        let output = command(&state).args(words).arg("--json").output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice::<Value>(&output.stdout).unwrap()
    };
    let first = wagate(&["token", "list"])[0]["id"].as_str().unwrap().to_owned();
    wagate(&["token", "revoke", &first]);
    finds(&mut doctor(&state), "warning", "operator_token", "revoked or expired");
    let other = wagate(&["token", "create", "--role", "operator"]);
    fs::write(&token, other["secret"].as_str().unwrap()).unwrap();
    assert_eq!(wrong(&report(&mut doctor(&state)).1), vec![]);

    let busy = TcpListener::bind("127.0.0.1:0").unwrap();
    let on_busy = &mut doctor(&state);
    on_busy.env("WAGATE_HTTP__LISTEN", busy.local_addr().unwrap().to_string());
    finds(on_busy, "fault", "listen", "ss -ltnp");
    // It is systemd who listens there for the daemon, or for nobody.
    let address = busy.local_addr().unwrap();
    let systemctl = |says: &str| {
        let path = dir.path().join("systemctl");
        fs::write(&path, format!("#!/bin/sh\n[ \"$2\" = wagate.socket ] && printf '{says}'\n"))
            .unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        let mut command = doctor(&state);
        command.env("WAGATE_HTTP__LISTEN", address.to_string());
        command.env("PATH", format!("{}:/usr/bin:/bin", dir.path().display()));
        command
    };
    let held = format!("Listen={address} (Stream)\\n");
    let (code, of_systemd) = report(&mut systemctl(&format!("ActiveState=active\\n{held}")));
    assert_eq!((code, wrong(&of_systemd)), (Some(0), vec![]), "{of_systemd:#}");
    assert!(of_systemd.to_string().contains("wagate.socket has"), "{of_systemd:#}");
    for other in [
        format!("ActiveState=inactive\\n{held}"),
        "ActiveState=active\\nListen=127.0.0.1:1 (Stream)\\n".to_owned(),
    ] {
        finds(&mut systemctl(&other), "fault", "listen", "ss -ltnp");
    }

    let wagate = env!("CARGO_BIN_EXE_wagate");
    let few = &mut Command::new("sh");
    few.env_clear()
        .env("WAGATE_STATE_DIR", &state)
        .env("WAGATE_HTTP__LISTEN", "127.0.0.1:0")
        .env("WAGATE_WHATSAPP__URL", whatsapp(SystemTime::now()))
        .args(["-c", &format!("ulimit -n 256 && exec {wagate} doctor --json")]);
    finds(few, "warning", "descriptors", "LimitNOFILE=");

    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let unreachable = &mut doctor(&state);
    unreachable.env("WAGATE_WHATSAPP__URL", format!("ws://{closed}/"));
    finds(unreachable, "fault", "whatsapp", "firewall");

    let hour = Duration::from_hours(1);
    let slow = &mut doctor(&state);
    slow.env("WAGATE_WHATSAPP__URL", whatsapp(SystemTime::now() + hour));
    finds(slow, "fault", "clock", "behind WhatsApp's | let the machine keep time");

    let open = &mut doctor(&state);
    open.env("WAGATE_WEBHOOKS__ALLOW_CIDRS", "10.0.0.0/8, 0.0.0.0/0");
    finds(open, "fault", "webhooks", "0.0.0.0/0");
    assert_eq!(report(&mut doctor(&state)).0, Some(0));
}

#[test]
fn a_key_that_does_not_fit_and_a_key_that_is_gone_are_found() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("state");
    used(&state, None);
    let key = state.join("master.key");
    let kept = fs::read(&key).unwrap();

    fs::remove_file(&key).unwrap();
    finds(&mut doctor(&state), "fault", "master_key", "does not hold the key");
    assert!(!key.exists());
    fs::write(&key, [b'a'; 64]).unwrap();
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
    finds(&mut doctor(&state), "fault", "master_key", "does not hold the key");
    // As a rotation leaves it that was killed before its last step; the next start ends it.
    let fresh = state.join("master.key.new");
    fs::write(&fresh, &kept).unwrap();
    fs::set_permissions(&fresh, fs::Permissions::from_mode(0o600)).unwrap();
    assert_eq!(report(&mut doctor(&state)).0, Some(0));
    fs::rename(&fresh, &key).unwrap();
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
    finds(&mut doctor(&state), "fault", "master_key", "chmod 600");
}

#[test]
fn a_damaged_file_is_found() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("state");
    used(&state, None);
    let file = state.join("wagate.db");
    let mut bytes = fs::read(&file).unwrap();
    let length = bytes.len();
    // The first page says what is where; what follows is where.
    bytes[8192..length - 4096].fill(0x5a);
    fs::write(&file, bytes).unwrap();
    let (code, report) = report(&mut doctor(&state));
    assert_eq!(code, Some(1), "{report:#}");
    assert!(wrong(&report).iter().any(|(check, _)| check == "database"), "{report:#}");
}

#[tokio::test]
async fn a_newer_schema_and_an_older_one_are_found() {
    on_each(async |database| {
        let dir = tempfile::tempdir().unwrap();
        let state = dir.path().join("state");
        used(&state, Some(database));
        let on_it = || {
            let mut command = doctor(&state);
            command.env("WAGATE_DATABASE__URL", &database.url);
            command
        };
        let (code, healthy) = report(&mut on_it());
        assert_eq!((code, wrong(&healthy)), (Some(0), vec![]), "{healthy:#}");

        let migrate = || {
            let mut command = command(&state);
            command
                .env("WAGATE_DATABASE__URL", &database.url)
                .args(["migrate", "status", "--json"]);
            let (code, told) = report(&mut command);
            let steps = told["steps"].as_array().unwrap().clone();
            (code, steps.into_iter().map(|step| step["seen"].clone()).collect::<Vec<_>>())
        };
        let (code, steps) = migrate();
        assert!(code == Some(0) && steps.len() > 4 && steps.iter().all(|seen| seen == "applied"));

        let last = "(SELECT max(version) FROM seaql_migrations)";
        let forget = format!("DELETE FROM seaql_migrations WHERE version = {last}");
        let known = "INSERT INTO seaql_migrations (version, applied_at) VALUES ('m99991231_x', 0)";
        database.execute(known).await;
        finds(&mut on_it(), "fault", "schema", "newer wagate has written it: m99991231_x");
        assert_eq!(migrate(), (Some(1), vec!["unknown".into()]));
        database.execute(&forget).await;
        database.execute(&forget).await;
        assert_eq!(report(&mut on_it()).0, Some(0), "a start takes the step");
        let (code, steps) = migrate();
        assert_eq!((code, steps.last()), (Some(1), Some(&"pending".into())));
        assert_eq!(steps.iter().filter(|seen| *seen == "pending").count(), 1);
        let stubborn = &mut on_it();
        stubborn.env("WAGATE_DATABASE__MIGRATE", "false");
        finds(stubborn, "fault", "schema", "1 steps behind");
    })
    .await;
}

#[test]
fn a_postgresql_that_is_not_there_is_found_and_its_password_not_shown() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("state");
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let nobody = &mut doctor(&state);
    nobody
        .env("WAGATE_DATABASE__URL", format!("postgres://me:hunter2@{closed}/wagate"))
        .env("WAGATE_DATABASE__ACQUIRE_TIMEOUT", "200ms");
    let (code, report) = report(nobody);
    assert_eq!(code, Some(1));
    assert!(wrong(&report).iter().any(|(check, _)| check == "database"), "{report:#}");
    assert!(!report.to_string().contains("hunter2"));
}
