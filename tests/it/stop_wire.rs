//! A daemon that is told to stop dials nobody any more, however long the rest of its stop takes.

use std::time::Duration;

use serde_json::json;
use tokio::{io::AsyncWriteExt as _, net::TcpStream};
use wagate_simulator::{Fault, Lasting, Scope};

use crate::{
    care_wire::{SECOND, on_each},
    world::ALICE,
};

/// Long enough for a dial that is due.
const A_WHILE: Duration = Duration::from_millis(500);

#[tokio::test(flavor = "multi_thread")]
async fn a_session_whose_next_try_comes_due_while_the_daemon_stops_is_not_dialled() {
    on_each(async |world| {
        let phone = world.connect("sales", ALICE).await;
        let away = Fault::RefuseUpgrade { status: 503, retry_after: Some(60) };
        world.whatsapp.fault(Scope::Everyone, away, Lasting::UntilCleared).await;
        phone.fault(Fault::Drop, Lasting::Once).await;
        world
            .pass_until("a wait of a minute", SECOND, async || {
                let seen = world.status("sales").await;
                let waits = seen["lastDisconnect"]["code"] == 503;
                if waits && seen["nextAttemptAt"].is_string() { Ok(()) } else { Err(seen) }
            })
            .await;
        world.whatsapp.clear_faults(None);
        let dials = world.whatsapp.info().connections;

        // A request that is not finished keeps the daemon from going on with its stop.
        let address = world.address();
        let mut slow = TcpStream::connect(address).await.unwrap();
        let head = format!(
            "POST /api/whatsapp/session HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\n\
             Content-Type: application/json\r\nContent-Length: 100\r\n\r\n{{",
            world.token
        );
        slow.write_all(head.as_bytes()).await.unwrap();
        // Whoever is answered here knows that the request before is being read.
        assert_eq!(world.status("sales").await["reconnecting"], json!(true));
        let daemon = world.daemon.take().expect("the daemon runs");
        let clock = world.clock.clone();
        let meanwhile = async {
            // It has begun to stop when it accepts no more.
            while TcpStream::connect(address).await.is_ok() {}
            clock.advance(Duration::from_mins(10));
            let dialled = tokio::time::timeout(A_WHILE, phone.wait_logged_in(2)).await;
            assert!(dialled.is_err(), "nobody logs in");
            drop(slow);
        };
        tokio::join!(daemon.shutdown(), meanwhile);
        assert_eq!(world.whatsapp.info().connections, dials);

        // What is wanted has not changed.
        world.start_daemon().await;
        world.until_status("sales", "session_connected").await;
    })
    .await;
}
