//! The life of a session, on the real wire.

use std::time::Duration;

use reqwest::{Method, StatusCode};
use serde_json::json;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use wagate_simulator::{Fault, Lasting, Options, Scope};

use crate::{
    care_wire,
    database::{self, Kind},
    world::{self, ALICE, BOB, DEADLINE, World},
};

#[tokio::test(flavor = "multi_thread")]
async fn a_session_goes_from_qr_to_connected_and_says_so_everywhere() {
    world::on_each(async |world| {
        world.create("sales").await;
        let shown = world.until_status("sales", "qr_generated").await;
        assert_eq!(shown["needsQR"], true);
        assert_eq!(shown["message"], "QR code generated, scan to connect");
        let image = shown["qrImage"].as_str().unwrap();
        assert!(image.starts_with("data:image/png;base64,"));

        let phone = world.whatsapp.phone(ALICE).unwrap();
        phone.set_name("Alice");
        phone.scan(shown["qr"].as_str().unwrap()).await.unwrap();
        let connected = world.until_status("sales", "session_connected").await;
        assert_eq!(connected["isConnected"], true);
        assert_eq!(connected["needsQR"], false);
        assert!(connected["qr"].is_null());
        assert!(connected["qrImage"].is_null());
        assert_eq!(connected["phoneNumber"], ALICE);
        assert_eq!(phone.logins().len(), 1, "one login after the pairing");

        let list = world.get("/api/whatsapp/session/list-realtime?status=connected").await.body;
        assert_eq!(list["data"][0]["sessionId"], "sales");
        assert_eq!(list["data"][0]["hasQR"], false);
        assert_eq!(list["summary"]["connected"], 1);
        assert_eq!(list["summary"]["total"], 1);

        let names: Vec<_> = world.events("sales").await.into_iter().map(|(name, _)| name).collect();
        assert_eq!(names.first().map(String::as_str), Some("change_state"));
        let at = |wanted: &str| names.iter().position(|name| name == wanted).unwrap();
        assert!(at("qr") < at("authenticated") && at("authenticated") < at("ready"), "{names:?}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_qr_image_is_the_code_and_the_next_one_can_be_waited_for() {
    world::on_each(async |world| {
        world.create("sales").await;
        let code = world.until_qr("sales").await;
        let path = "/api/whatsapp/session/sales/qr";

        let png = world.request(Method::GET, path).send().await.unwrap();
        assert_eq!(png.headers()["content-type"], "image/png");
        let etag = png.headers()["etag"].to_str().unwrap().to_owned();
        let bytes = png.bytes().await.unwrap();
        assert_eq!(decode(&bytes), code);

        let again =
            world.request(Method::GET, path).header("if-none-match", &etag).send().await.unwrap();
        assert_eq!(again.status(), StatusCode::NOT_MODIFIED);

        // Whoever waits for the next code is woken by the connection as well: there is no code then.
        let waiting = world
            .request(Method::GET, &format!("{path}?wait=60"))
            .header("if-none-match", &etag)
            .send();
        let phone = world.whatsapp.phone(ALICE).unwrap();
        let (waited, scanned) = tokio::join!(waiting, phone.scan(&code));
        scanned.unwrap();
        let waited = waited.unwrap();
        assert_eq!(waited.status(), StatusCode::NOT_FOUND);
        world.until_status("sales", "session_connected").await;
    })
    .await;
}

fn decode(png: &[u8]) -> String {
    let image = image::load_from_memory(png).unwrap().to_luma8();
    let (width, height) = (image.width() as usize, image.height() as usize);
    let mut image = rqrr::PreparedImage::prepare_from_greyscale(width, height, |x, y| {
        image.as_raw()[y * width + x]
    });
    image.detect_grids()[0].decode().unwrap().1
}

#[tokio::test(flavor = "multi_thread")]
async fn a_phone_number_and_eight_characters_link_as_well_as_a_qr_code() {
    world::on_each(async |world| {
        world.create("sales").await;
        world.until_qr("sales").await;
        let pair = world
            .post("/api/whatsapp/session/sales/pair", json!({ "phoneNumber": format!("+{ALICE}") }))
            .await;
        assert_eq!(pair.status, StatusCode::OK, "{}", pair.body);
        let code = pair.body["data"]["code"].as_str().unwrap();
        assert_eq!(code.len(), 8, "{code}");
        assert!(pair.body["data"]["expiresAt"].is_string());

        let phone = world.whatsapp.phone(ALICE).unwrap();
        phone.enter_code(code).await.unwrap();
        world.until_status("sales", "session_connected").await;

        let again =
            world.post("/api/whatsapp/session/sales/pair", json!({ "phoneNumber": ALICE })).await;
        assert_eq!(again.status, StatusCode::CONFLICT, "{}", again.body);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_pairing_code_is_an_error_with_a_reason() {
    world::on_each(async |world| {
        world.whatsapp.phone(ALICE).unwrap();
        world
            .whatsapp
            .fault(Scope::Everyone, Fault::RefusePairingCode { code: 429 }, Lasting::Once)
            .await;
        world.create("sales").await;
        world.until_qr("sales").await;
        let refused =
            world.post("/api/whatsapp/session/sales/pair", json!({ "phoneNumber": ALICE })).await;
        assert!(refused.status.is_client_error(), "{} {}", refused.status, refused.body);
        assert_eq!(refused.body["success"], false);
        assert!(refused.body["code"].is_string());
        world.until_status("sales", "qr_generated").await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_socket_is_dialled_again_after_five_seconds_at_most_and_once() {
    care_wire::on_each(async |world| {
        let phone = world.connect("sales", ALICE).await;
        let dials = world.whatsapp.info().connections;
        phone.fault(Fault::Drop, Lasting::Once).await;
        world
            .until("the loss", async || {
                let seen = world.status("sales").await;
                let waits = seen["reconnecting"] == true && seen["nextAttemptAt"].is_string();
                if waits { Ok(()) } else { Err(seen) }
            })
            .await;
        // Time stands still but for this.
        world.clock.advance(Duration::from_secs(5));
        world.until_status("sales", "session_connected").await;
        assert_eq!(world.whatsapp.info().connections, dials + 1);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_socket_is_reconnecting_and_comes_back_by_itself() {
    world::on_each(async |world| {
        let phone = world.connect("sales", ALICE).await;
        phone.fault(Fault::Drop, Lasting::Once).await;
        phone.wait_logged_in(2).await.unwrap();
        world.until_status("sales", "session_connected").await;

        let events = world.events("sales").await;
        let lost = events
            .iter()
            .find(|(name, data)| name == "change_state" && data["state"] == "reconnecting");
        assert!(lost.unwrap().1["nextAttemptAt"].is_string());
        assert!(events.iter().all(|(name, _)| name != "disconnected"), "a blip pages nobody");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_of_the_daemon_needs_no_qr() {
    world::on_each(async |world| {
        let phone = world.connect("sales", ALICE).await;
        world.stop_daemon().await;
        phone.wait_offline().await.unwrap();
        world.start_daemon().await;
        world.until_status("sales", "session_connected").await;
        let codes = world.events("sales").await.into_iter().filter(|(name, _)| name == "qr");
        assert_eq!(codes.count(), 1, "only the first pairing needed a code");

        // And it is the same device, with the same ratchets.
        let bob = world.whatsapp.contact(BOB).unwrap();
        bob.send_text(ALICE, "still there?").await.unwrap();
        let messages = world.until_messages("sales", 1).await;
        assert_eq!(messages[0]["body"], "still there?");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_operator_stopped_stays_stopped() {
    world::on_each(async |world| {
        let phone = world.connect("sales", ALICE).await;
        let stopped = world.post("/api/whatsapp/session/sales/stop", json!({})).await;
        assert_eq!(stopped.body["data"]["status"], "session_not_connected", "{}", stopped.body);
        phone.wait_offline().await.unwrap();

        world.stop_daemon().await;
        world.start_daemon().await;
        assert_eq!(world.status("sales").await["status"], "session_not_connected");
        assert_eq!(phone.logins().len(), 1);

        world.post("/api/whatsapp/session/sales/start", json!({})).await;
        world.until_status("sales", "session_connected").await;
        assert_eq!(phone.logins().len(), 2);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_logout_on_the_phone_ends_the_session_and_a_start_pairs_anew() {
    world::on_each(async |world| {
        let phone = world.connect("sales", ALICE).await;
        assert_eq!(phone.unlink_all(), 1);
        let ended = world.until_status("sales", "session_not_connected").await;
        assert_eq!(ended["lastDisconnect"]["reason"], "logged_out", "{ended}");

        // No dial of its own: the credentials are dead, and a restart does not change that.
        world.stop_daemon().await;
        world.start_daemon().await;
        assert_eq!(world.status("sales").await["status"], "session_not_connected");

        world.post("/api/whatsapp/session/sales/start", json!({})).await;
        let qr = world.until_qr("sales").await;
        phone.scan(&qr).await.unwrap();
        world.until_status("sales", "session_connected").await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_logout_here_unlinks_the_device_there() {
    world::on_each(async |world| {
        let phone = world.connect("sales", ALICE).await;
        let out = world.post("/api/whatsapp/session/sales/logout", json!({})).await;
        assert_eq!(out.status, StatusCode::OK, "{}", out.body);
        assert_eq!(out.body["data"]["unlinked"], true, "{}", out.body);
        assert_eq!(out.body["data"]["status"], "session_not_connected");
        assert!(phone.devices().is_empty());
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_client_with_the_same_credentials_ends_the_session() {
    world::on_each(async |world| {
        let phone = world.connect("sales", ALICE).await;
        phone.fault(Fault::Replaced, Lasting::Once).await;
        let ended = world.until_status("sales", "session_not_connected").await;
        assert_eq!(ended["lastDisconnect"]["reason"], "replaced");
        assert_eq!(phone.logins().len(), 1, "no ping-pong");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn refused_credentials_are_an_authentication_failure() {
    world::on_each(async |world| {
        let phone = world.connect("sales", ALICE).await;
        world.stop_daemon().await;
        phone.wait_offline().await.unwrap();
        phone.fault(Fault::Failure { reason: 401 }, Lasting::UntilCleared).await;
        world.start_daemon().await;
        let refused = world.until_status("sales", "auth_failure").await;
        assert_eq!(refused["hasError"], true);
        assert_eq!(refused["lastDisconnect"]["reason"], "credentials_refused");
        assert_eq!(refused["lastDisconnect"]["code"], 401);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_ends_the_wait_for_the_next_try() {
    world::on_each(async |world| {
        let phone = world.connect("sales", ALICE).await;
        // Away for so long that the session waits a good while before its next try.
        world.whatsapp.close().await;
        world
            .until("a wait for the next try", async || {
                let seen = world.status("sales").await;
                if seen["nextAttemptAt"].is_string() { Ok(()) } else { Err(seen) }
            })
            .await;
        world.whatsapp.reopen().await.unwrap();
        let restarted = world.post("/api/whatsapp/session/sales/restart", json!({})).await;
        assert_eq!(restarted.status, StatusCode::OK, "{}", restarted.body);
        phone.wait_logged_in(2).await.unwrap();
        world.until_status("sales", "session_connected").await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_starts_at_once_open_the_device_once() {
    world::on_each(async |world| {
        let phone = world.connect("sales", ALICE).await;
        world.post("/api/whatsapp/session/sales/stop", json!({})).await;
        phone.wait_offline().await.unwrap();
        let starts = (0..50).map(|n| {
            let verb = if n % 5 == 0 { "restart" } else { "start" };
            world.post(
                if verb == "start" {
                    "/api/whatsapp/session/sales/start"
                } else {
                    "/api/whatsapp/session/sales/restart"
                },
                json!({}),
            )
        });
        for answer in futures_util::future::join_all(starts).await {
            assert_eq!(answer.status, StatusCode::OK, "{}", answer.body);
        }
        world.until_status("sales", "session_connected").await;
        // Two live connections of one device are a violation, which the end of the test asserts.
        assert_eq!(phone.online_devices().len(), 1);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_session_is_gone_and_unlinked() {
    world::on_each(async |world| {
        let phone = world.connect("sales", ALICE).await;
        let deleted = world.delete("/api/whatsapp/session/sales").await;
        assert_eq!(deleted.status, StatusCode::OK, "{}", deleted.body);
        assert_eq!(deleted.body["data"]["unlinked"], true, "{}", deleted.body);
        let gone = world.get("/api/whatsapp/session/status/sales").await;
        assert_eq!(gone.status, StatusCode::NOT_FOUND);
        assert!(phone.devices().is_empty());
        // The name is free again.
        world.create("sales").await;
        world.until_qr("sales").await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unpaired_session_says_that_whatsapp_cannot_be_reached_and_tries_again() {
    world::on_each(async |world| {
        world.whatsapp.close().await;
        world.create("sales").await;
        world
            .until("a wait for the next try", async || {
                let seen = world.status("sales").await;
                if seen["nextAttemptAt"].is_string() { Ok(()) } else { Err(seen) }
            })
            .await;
        world.whatsapp.reopen().await.unwrap();
        world.until_qr("sales").await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_lost_while_a_code_is_shown_brings_a_new_code() {
    world::on_each(async |world| {
        world.create("sales").await;
        let first = world.until_qr("sales").await;
        world.whatsapp.close().await;
        world.until_status("sales", "connecting").await;
        world.whatsapp.reopen().await.unwrap();
        let second = world.until_qr("sales").await;
        assert_ne!(first, second);
        let phone = world.whatsapp.phone(ALICE).unwrap();
        phone.scan(&second).await.unwrap();
        world.until_status("sales", "session_connected").await;
    })
    .await;
}

/// Sends a request on a connection of its own, waits until `begun`, and hangs up before there is an
/// answer. Returns when the daemon has let go of it.
async fn given_up(world: &World, method: Method, path: &str, begun: &str) {
    let head = format!(
        "{method} {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\n\
         content-type: application/json\r\ncontent-length: 2\r\n\r\n{{}}",
        world.token
    );
    let mut caller = TcpStream::connect(world.address()).await.unwrap();
    caller.write_all(head.as_bytes()).await.unwrap();
    // What is wanted is written first, and no event says so: there is nothing to wait for but the row.
    let begins = async {
        while world.status("sales").await["desiredState"] != begun {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(DEADLINE, begins).await.unwrap();
    caller.shutdown().await.unwrap();
    let mut answer = Vec::new();
    caller.read_to_end(&mut answer).await.ok();
    assert!(answer.is_empty(), "it was not done yet: {}", String::from_utf8_lossy(&answer));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_is_given_up_halfway_is_carried_out_all_the_same() {
    world::on_each(async |world| {
        let phone = world.connect("sales", ALICE).await;
        let session = "/api/whatsapp/session/sales";

        // WhatsApp never answers the logout, so that it is under way when its caller hangs up. The
        // restart waits for its turn, and its caller does not.
        phone.fault(Fault::BlackHole, Lasting::Once).await;
        given_up(world, Method::POST, &format!("{session}/logout"), "stopped").await;
        given_up(world, Method::POST, &format!("{session}/restart"), "running").await;
        // Said as soon as it is begun, and not when WhatsApp has answered.
        world.until_status("sales", "session_not_connected").await;
        phone.fault(Fault::Drop, Lasting::Once).await;
        let qr = world.until_qr("sales").await;
        let ended =
            world.events("sales").await.into_iter().filter(|(name, _)| name == "disconnected");
        let ended: Vec<_> = ended.map(|(_, data)| data["reason"].clone()).collect();
        assert_eq!(ended, ["logged_out_here"]);
        phone.scan(&qr).await.unwrap();
        world.until_status("sales", "session_connected").await;
        // Two live connections of the device at any time would be a violation.
        assert_eq!(phone.online_devices().len(), 1);

        phone.fault(Fault::BlackHole, Lasting::Once).await;
        given_up(world, Method::DELETE, session, "stopped").await;
        // Said as soon as it is begun, too, and gone when WhatsApp has answered or will not.
        world.until_status("sales", "session_not_connected").await;
        phone.fault(Fault::Drop, Lasting::Once).await;
        let gone = async {
            while world.get(session).await.status != StatusCode::NOT_FOUND {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(DEADLINE, gone).await.unwrap();
        assert!(phone.online_devices().is_empty());
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_nobody_scans_gives_up_and_can_be_started_again() {
    // The library itself keeps a first code for a minute: one series, one code, one database.
    database::on(Kind::Sqlite, async |database| {
        let options = Options { pairing_refs: 1, ..Options::default() };
        let mut world = World::start_with(database, options, |config| {
            config.whatsapp.max_qr_rounds = 1;
        })
        .await;
        world.create("sales").await;
        world.until_qr("sales").await;
        let ended = world.until_status("sales", "session_not_connected").await;
        assert_eq!(ended["lastDisconnect"]["reason"], "qr_codes_exhausted");
        assert_eq!(ended["needsQR"], false);

        world.stop_daemon().await;
        world.start_daemon().await;
        assert_eq!(world.status("sales").await["status"], "session_not_connected");
        world.post("/api/whatsapp/session/sales/start", json!({})).await;
        world.until_qr("sales").await;
        world.end().await;
    })
    .await;
}
