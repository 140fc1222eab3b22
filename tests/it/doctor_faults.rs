//! Faults that are planted one by one beside a healthy installation: `wagate doctor` finds each, and nothing else.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::TcpListener,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::Command,
    time::{Duration, SystemTime},
};

use crate::{
    doctor::{doctor, finds, report, used, whatsapp, wrong},
    http_tls::certificate,
};

/// An address at which nobody answers.
fn nobody() -> String {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string()
}

/// Answers each request with this status; where it is.
fn answering(status: u16) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut head = [0; 4096];
            let read = stream.read(&mut head).unwrap();
            let asked = String::from_utf8_lossy(&head[..read]).to_ascii_lowercase();
            // Of a collector: in the way that spans are sent, with the key, and without one.
            let is_right = !asked.starts_with("post")
                || (asked.contains("application/x-protobuf") && asked.contains("x-scope: wagate"));
            let status = if is_right { status } else { 415 };
            write!(stream, "HTTP/1.1 {status} X\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
                .ok();
        }
    });
    address
}

/// A certificate that was good for one second, long ago.
fn expired(directory: &Path) -> (String, String) {
    let (file, key) = certificate(directory, "expired");
    let made = Command::new("sh")
        .current_dir(directory)
        .arg("-ec")
        .arg(
            "openssl req -new -key expired.key -subj /CN=localhost -out expired.csr
             echo subjectAltName=IP:127.0.0.1 >expired.ext
             openssl x509 -req -in expired.csr -signkey expired.key -days -1 -extfile expired.ext \
                 -out expired.crt",
        )
        .output()
        .unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    (file.display().to_string(), key.display().to_string())
}

#[test]
fn each_of_ten_planted_faults_is_found_with_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("state");
    used(&state, None);
    assert_eq!(wrong(&report(&mut doctor(&state)).1), vec![], "nothing is planted yet");
    let with = |variables: &[(&str, &str)]| {
        let mut command = doctor(&state);
        command.envs(variables.iter().copied());
        command
    };
    let mode =
        |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    let busy = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = busy.local_addr().unwrap().to_string();
    let hour_ahead = whatsapp(SystemTime::now() + Duration::from_hours(1));
    let (certificate_of, key_of) = expired(dir.path());

    // 1: the configuration.
    let said = &mut with(&[("WAGATE_DATABASE__READERS", "many")]);
    finds(said, "fault", "configuration", "database.readers");
    // 2: the directory.
    mode(&state, 0o777);
    finds(&mut with(&[]), "warning", "state_dir", "chmod 700");
    mode(&state, 0o700);
    // 3: the token.
    mode(&state.join("operator.token"), 0o604);
    finds(&mut with(&[]), "fault", "operator_token", "chmod 600");
    mode(&state.join("operator.token"), 0o600);
    // 4 and 5: both listeners.
    let said = &mut with(&[("WAGATE_HTTP__LISTEN", &taken)]);
    finds(said, "fault", "listen", "or set http.listen");
    let said = &mut with(&[("WAGATE_HTTP__ADMIN_LISTEN", &taken)]);
    finds(said, "fault", "listen", "or set http.admin_listen");
    // 6: the certificate.
    let files = [
        ("WAGATE_HTTP__TLS_CERTIFICATE", certificate_of.as_str()),
        ("WAGATE_HTTP__TLS_KEY", key_of.as_str()),
    ];
    finds(&mut with(&files), "fault", "certificate", "is expired since");
    // 7: the master key.
    mode(&state.join("master.key"), 0o644);
    finds(&mut with(&[]), "fault", "master_key", "chmod 600");
    mode(&state.join("master.key"), 0o600);
    // 8: who must be reached.
    let said = &mut with(&[("WAGATE_WHATSAPP__URL", &format!("ws://{}/", nobody()))]);
    finds(said, "fault", "whatsapp", "firewall");
    // 9: the clock.
    finds(&mut with(&[("WAGATE_WHATSAPP__URL", &hour_ahead)]), "fault", "clock", "timedatectl");
    // 10: Meta.
    let said = &mut with(&[("WAGATE_META__GRAPH_URL", &format!("http://{}", nobody()))]);
    finds(said, "fault", "meta", "does not answer");
    // And the collector.
    let at = format!("http://{}/v1/traces?key=hunter2", nobody());
    let said = &mut with(&[("WAGATE_TRACES__ENDPOINT", &at)]);
    finds(said, "warning", "traces", "does not answer");
    assert!(
        !report(&mut with(&[("WAGATE_TRACES__ENDPOINT", &at)])).1.to_string().contains("hunter2")
    );

    let (code, after) = report(&mut with(&[]));
    assert_eq!((code, wrong(&after)), (Some(0), vec![]), "all is taken away again: {after:#}");
}

#[test]
fn what_is_wrong_with_a_certificate_is_told_apart() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("state");
    used(&state, None);
    let with = |certificate: &Path, key: &Path| {
        let mut command = doctor(&state);
        command.env("WAGATE_HTTP__TLS_CERTIFICATE", certificate).env("WAGATE_HTTP__TLS_KEY", key);
        command
    };
    let (one, key) = certificate(dir.path(), "one");
    let (_, other) = certificate(dir.path(), "other");
    // It is made for two days.
    finds(&mut with(&one, &key), "warning", "certificate", "expires at");
    finds(&mut with(&one, &other), "fault", "certificate", "is not for the key");
    finds(&mut with(&one, &one), "fault", "certificate", "holds no private key");
    finds(&mut with(&key, &key), "fault", "certificate", "holds no certificate");
    finds(&mut with(&dir.path().join("none"), &key), "fault", "certificate", "cannot read");

    let long = Command::new("openssl")
        .current_dir(dir.path())
        .args([
            "req", "-x509", "-key", "one.key", "-days", "90", "-subj", "/CN=x", "-out", "long.crt",
        ])
        .output()
        .unwrap();
    assert!(long.status.success(), "{}", String::from_utf8_lossy(&long.stderr));
    let (code, fine) = report(&mut with(&dir.path().join("long.crt"), &key));
    assert_eq!((code, wrong(&fine)), (Some(0), vec![]), "{fine:#}");
    assert!(fine.to_string().contains("long.crt is good until"), "{fine:#}");
}

#[test]
fn who_is_reached_is_asked_nothing_and_told_apart_from_who_is_in_trouble() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("state");
    let with = |graph: &str, collector: &str| {
        let mut command = doctor(&state);
        command
            .env("WAGATE_META__GRAPH_URL", format!("http://{graph}"))
            .env("WAGATE_TRACES__ENDPOINT", format!("http://{collector}/v1/traces"))
            .env("WAGATE_TRACES__HEADERS", "x-scope=wagate");
        command
    };
    let (code, fine) = report(&mut with(&answering(400), &answering(200)));
    assert_eq!((code, wrong(&fine)), (Some(0), vec![]), "{fine:#}");
    assert!(fine.to_string().contains("takes spans"), "{fine:#}");
    finds(&mut with(&answering(503), &answering(200)), "warning", "meta", "answers 503");
    finds(&mut with(&answering(400), &answering(404)), "warning", "traces", "answers 404");
}

#[test]
fn two_listeners_that_are_in_each_other_s_way_are_found() {
    let dir = tempfile::tempdir().unwrap();
    let port = nobody().rsplit(':').next().unwrap().to_owned();
    let mut both = doctor(&dir.path().join("state"));
    both.env("WAGATE_HTTP__LISTEN", format!("0.0.0.0:{port}"))
        .env("WAGATE_HTTP__ADMIN_LISTEN", format!("127.0.0.1:{port}"));
    finds(&mut both, "fault", "listen", "http.admin_listen");
}
