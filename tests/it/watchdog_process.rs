//! What systemd hears of a process, by which it knows one that hangs.

use std::{io::ErrorKind, os::unix::net::UnixDatagram, time::Duration};

use reqwest::Method;
use serde_json::json;
use wagate_simulator::{Options, Simulator};

use crate::process::{BLOCK_AT, Installation};

/// How long nothing must be heard to know that there is nothing: much longer than between two signs of life.
const QUIET: Duration = Duration::from_millis(900);

/// The next sign of life; everything else that is said is passed over. None when nothing comes.
fn sign_of_life(socket: &UnixDatagram) -> Option<()> {
    let mut said = [0; 512];
    loop {
        match socket.recv(&mut said) {
            Ok(length) if said[..length].starts_with(b"WATCHDOG=1") => return Some(()),
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => return None,
            Err(error) => panic!("{error}"),
        }
    }
}

/// What was said before is heard first, and then nothing.
fn falls_silent(socket: &UnixDatagram) {
    let heard = std::iter::from_fn(|| sign_of_life(socket)).take(50).count();
    assert!(heard < 50, "it goes on giving signs of life");
    assert_eq!(sign_of_life(socket), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_hangs_gives_no_sign_of_life_any_more() {
    let whatsapp = Simulator::start(Options::default()).await.unwrap();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    let installation = Installation::new(directory.path(), None, &whatsapp);
    let asked = [("NOTIFY_SOCKET", path.to_str().unwrap()), ("WATCHDOG_USEC", "300000")];
    let daemon = installation.try_start(&asked).unwrap();
    for _ in 0..3 {
        sign_of_life(&socket).expect("it is alive");
    }

    daemon.signal("-STOP");
    socket.set_read_timeout(Some(QUIET)).unwrap();
    falls_silent(&socket);
    daemon.signal("-CONT");
    socket.set_read_timeout(None).unwrap();
    sign_of_life(&socket).expect("it is alive again");
    daemon.terminate().await;
    whatsapp.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tasks_that_get_no_turns_because_one_blocks_are_noticed_while_the_process_lives() {
    let whatsapp = Simulator::start(Options::default()).await.unwrap();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    let installation = Installation::new(directory.path(), None, &whatsapp);
    let asked = [
        ("NOTIFY_SOCKET", path.to_str().unwrap()),
        ("WATCHDOG_USEC", "300000"),
        // There is one thread for all tasks, and who dials keeps it.
        ("TOKIO_WORKER_THREADS", "1"),
        (BLOCK_AT, "session.dialling:1"),
    ];
    let daemon = installation.try_start(&asked).unwrap();
    for _ in 0..3 {
        sign_of_life(&socket).expect("it is alive");
    }
    // Nobody may be left to answer.
    let create = daemon.request(Method::POST, "/api/whatsapp/session");
    let create = create.json(&json!({ "sessionId": "sales" })).timeout(QUIET);
    create.send().await.ok();

    socket.set_read_timeout(Some(QUIET)).unwrap();
    falls_silent(&socket);
    // systemd ends such a process, which is otherwise well.
    assert!(std::fs::exists(format!("/proc/{}/fd", daemon.id())).unwrap());
    daemon.kill();
    whatsapp.stop().await;
}
