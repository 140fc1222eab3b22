//! What systemd hears of a process, by which it knows one that hangs.

use std::{io::ErrorKind, os::unix::net::UnixDatagram, time::Duration};

use wagate_simulator::{Options, Simulator};

use crate::process::Installation;

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
    // What was said before it stood still is read first.
    while sign_of_life(&socket).is_some() {}
    assert_eq!(sign_of_life(&socket), None);
    daemon.signal("-CONT");
    socket.set_read_timeout(None).unwrap();
    sign_of_life(&socket).expect("it is alive again");
    daemon.terminate().await;
    whatsapp.stop().await;
}
