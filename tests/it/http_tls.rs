//! HTTPS served by the daemon itself, and a certificate that is replaced while it runs.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use reqwest::{Certificate, StatusCode};
use std::io::{BufRead as _, BufReader};

use tokio::time::Instant;

use crate::{program, world::DEADLINE};

/// Makes a certificate for this machine that signs itself.
pub(crate) fn certificate(directory: &Path, name: &str) -> (PathBuf, PathBuf) {
    let (certificate, key) =
        (directory.join(format!("{name}.crt")), directory.join(format!("{name}.key")));
    let made = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"])
        .args(["-nodes", "-days", "2", "-subj", "/CN=localhost"])
        .args(["-addext", "subjectAltName=IP:127.0.0.1"])
        .args(["-addext", "basicConstraints=critical,CA:FALSE"])
        .arg("-keyout")
        .arg(&key)
        .arg("-out")
        .arg(&certificate)
        .output()
        .unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    (certificate, key)
}

/// A client that trusts this certificate alone.
fn client(certificate: &Path) -> reqwest::Client {
    rustls::crypto::ring::default_provider().install_default().ok();
    let trusted = Certificate::from_pem(&fs::read(certificate).unwrap()).unwrap();
    reqwest::Client::builder()
        .no_proxy()
        .timeout(DEADLINE)
        // A connection from before keeps the certificate that it was made with.
        .pool_max_idle_per_host(0)
        .tls_certs_only([trusted])
        .build()
        .unwrap()
}

/// A daemon that serves HTTPS; killed at the end of its test.
pub(crate) struct Daemon {
    child: Child,
    pub(crate) base: String,
    log: std::io::Lines<BufReader<std::process::ChildStderr>>,
}

impl Daemon {
    pub(crate) fn start(state: &Path, certificate: &Path, key: &Path) -> Self {
        let mut child = program::command(state)
            .env("WAGATE_HTTP__TLS_CERTIFICATE", certificate)
            .env("WAGATE_HTTP__TLS_KEY", key)
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let base = BufReader::new(child.stdout.take().unwrap())
            .lines()
            .map_while(Result::ok)
            .find_map(|line| Some(line.trim().strip_prefix("address")?.trim().to_owned()))
            .expect("the daemon says where it answers");
        let log = BufReader::new(child.stderr.take().unwrap()).lines();
        Self { child, base, log }
    }

    /// Asks for the certificate to be read again; what the daemon says of it.
    fn hang_up(&mut self) -> String {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-HUP", &pid]).status().unwrap().success());
        let mut lines = self.log.by_ref().map_while(Result::ok);
        lines.find(|line| line.contains("certificate")).expect("it says what came of it")
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

async fn answers(daemon: &Daemon, client: &reqwest::Client) -> bool {
    match client.get(format!("{}/livez", daemon.base)).send().await {
        Ok(answer) => {
            assert_eq!(answer.status(), StatusCode::NO_CONTENT);
            let hsts = &answer.headers()["strict-transport-security"];
            assert_eq!(hsts, "max-age=31536000");
            true
        }
        Err(_) => false,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_is_replaced_at_sighup_and_one_of_no_use_is_not_taken() {
    let dir = tempfile::tempdir().unwrap();
    let (first, first_key) = certificate(dir.path(), "first");
    let (second, second_key) = certificate(dir.path(), "second");
    let (served, key) = (dir.path().join("tls.crt"), dir.path().join("tls.key"));
    fs::copy(&first, &served).unwrap();
    fs::copy(&first_key, &key).unwrap();
    let mut daemon = Daemon::start(&dir.path().join("state"), &served, &key);
    assert!(daemon.base.starts_with("https://"), "{}", daemon.base);
    let (old, new) = (client(&first), client(&second));
    assert!(answers(&daemon, &old).await);
    assert!(!answers(&daemon, &new).await);

    // A certificate that is not the key's, and half of one.
    fs::copy(&second, &served).unwrap();
    let said = daemon.hang_up();
    assert!(said.contains("is not for the key"), "{said}");
    assert!(answers(&daemon, &old).await);
    fs::write(&served, "-----BEGIN CERTIFICATE-----\nAAAA").unwrap();
    let said = daemon.hang_up();
    assert!(said.contains("the one before is served"), "{said}");
    assert!(answers(&daemon, &old).await);

    fs::copy(&second, &served).unwrap();
    fs::copy(&second_key, &key).unwrap();
    let said = daemon.hang_up();
    assert!(said.contains("The certificate is replaced"), "{said}");
    assert!(answers(&daemon, &new).await);
    // A client that was here before may resume, and asks for no certificate.
    assert!(!answers(&daemon, &client(&first)).await);
    let said = daemon.hang_up();
    assert!(said.contains("the same as before"), "{said}");

    // Who does not speak TLS is told nothing, and holds nobody up.
    let plain = daemon.base.replace("https://", "http://");
    assert!(
        new.get(format!("{plain}/livez")).timeout(Duration::from_secs(20)).send().await.is_err()
    );
    assert!(answers(&daemon, &new).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_that_was_renewed_is_served_without_anybody_asking() {
    let dir = tempfile::tempdir().unwrap();
    let (first, first_key) = certificate(dir.path(), "first");
    let (second, second_key) = certificate(dir.path(), "second");
    let (served, key) = (dir.path().join("tls.crt"), dir.path().join("tls.key"));
    fs::copy(&first, &served).unwrap();
    fs::copy(&first_key, &key).unwrap();
    let daemon = Daemon::start(&dir.path().join("state"), &served, &key);
    assert!(answers(&daemon, &client(&first)).await);
    // Both at once, as far as whoever looks from time to time can tell: each is renamed into its place.
    for (renewed, place) in [(&second_key, &key), (&second, &served)] {
        let beside = dir.path().join("renewed");
        fs::copy(renewed, &beside).unwrap();
        fs::rename(&beside, place).unwrap();
    }
    // It looks by its own clock, every ten seconds. Between the two renames it may have found half of it.
    let (old, new) = (client(&first), client(&second));
    let deadline = Instant::now() + DEADLINE;
    while !answers(&daemon, &new).await {
        assert!(Instant::now() < deadline, "the certificate of before is served");
    }
    assert!(!answers(&daemon, &old).await);
}

#[test]
fn a_daemon_whose_certificate_is_of_no_use_does_not_start() {
    let dir = tempfile::tempdir().unwrap();
    let (first, _) = certificate(dir.path(), "first");
    let (_, second_key) = certificate(dir.path(), "second");
    let mut command = program::command(&dir.path().join("state"));
    command.env("WAGATE_HTTP__TLS_CERTIFICATE", first).env("WAGATE_HTTP__TLS_KEY", second_key);
    let (code, log) = program::ended(command);
    assert_eq!(code, Some(64), "{log}");
    assert!(log.contains("cannot serve TLS: the certificate in "), "{log}");
}
