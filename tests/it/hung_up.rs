//! Callers that hang up before they have an answer.

use sea_orm::ConnectionTrait as _;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::world::{self, ALICE, World};

/// A POST whose caller hangs up after it is known to be in work, and before it can have come to an
/// end, as nothing can be written. Returns when the daemon has let go of the connection.
async fn give_up(world: &World, path: &str) {
    let held = world.hold_writes().await;
    let mut stream = TcpStream::connect(world.address()).await.unwrap();
    let request = format!(
        "POST {path} HTTP/1.1\r\nhost: wagate\r\nauthorization: Bearer {}\r\n\
         content-type: application/json\r\ncontent-length: 2\r\nexpect: 100-continue\r\n\r\n",
        world.token
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    // Said when the handler reads the body, and not before.
    let mut go_on = [0; 25];
    stream.read_exact(&mut go_on).await.unwrap();
    assert_eq!(&go_on, b"HTTP/1.1 100 Continue\r\n\r\n");
    stream.write_all(b"{}").await.unwrap();
    stream.shutdown().await.unwrap();
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).await.unwrap();
    assert!(rest.is_empty(), "{}", String::from_utf8_lossy(&rest));
    held.execute_unprepared("ROLLBACK").await.unwrap();
    held.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_caller_began_and_did_not_wait_for_is_carried_out_all_the_same() {
    world::on_each(async |world| {
        let phone = world.connect("sales", ALICE).await;
        let before = phone.logins().len();
        for round in 1..=2 {
            give_up(world, "/api/whatsapp/session/sales/stop").await;
            world.until_status("sales", "session_not_connected").await;
            phone.wait_offline().await.unwrap();

            give_up(world, "/api/whatsapp/session/sales/restart").await;
            world.until_status("sales", "session_connected").await;
            assert_eq!(phone.logins().len(), before + round);
        }
        assert_eq!(phone.online_devices().len(), 1);
        // Two live connections of the device at any time would be a violation.
    })
    .await;
}
