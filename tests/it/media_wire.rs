//! Media of messages on the real wire: downloaded, decrypted and verified before anybody sees it.

use std::{fmt::Write as _, fs, time::Duration};

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use wagate::config::{Config, HistoryMode};
use wagate_simulator::{
    Carriage, History, HistoryChat, HistoryKind, MediaDelivery, MediaFile, MediaKind, MediaLie,
    Options, ReceiptKind, Reupload,
};

use crate::{
    database::{self, Database, Kind},
    media_files::{Got, bytes},
    node::{Cluster, number},
    world::{self, ALICE, BOB, World, http_client},
};

/// Runs a test on each database, with these limits.
pub(crate) async fn on_each_with(change: impl Fn(&mut Config), test: impl AsyncFn(&mut World)) {
    for kind in [Kind::Sqlite, Kind::Postgres] {
        database::on(kind, async |database: &Database| {
            let mut world = World::start_with(database, Options::default(), |it| change(it)).await;
            test(&mut world).await;
            world.end().await;
        })
        .await;
    }
}

pub(crate) fn image(length: usize) -> MediaFile {
    MediaFile::new(MediaKind::Image, bytes(length))
}

fn tag(bytes: &[u8]) -> String {
    let mut tag = "\"".to_owned();
    for byte in Sha256::digest(bytes) {
        write!(tag, "{byte:02x}").unwrap();
    }
    tag + "\""
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tag_loads_what_a_contact_has_sent_byte_for_byte_without_a_token() {
    world::on_each(async |world| {
        world.connect("sales", ALICE).await;
        let length = 300_000;
        let document = MediaFile::new(MediaKind::Document, bytes(7)).named("Größe.pdf");
        let html =
            MediaFile::new(MediaKind::Document, bytes(70)).named("a.html").of_type("text/html");
        for (file, kind, content_type, disposition) in [
            (image(length), "image", "image/jpeg", "inline; filename=\"msg_"),
            (MediaFile::new(MediaKind::Video, bytes(16)), "video", "video/mp4", "inline; "),
            (MediaFile::new(MediaKind::Voice, bytes(15)), "audio", "audio/ogg", "inline; "),
            (MediaFile::new(MediaKind::Sticker, bytes(1)), "sticker", "image/webp", "inline; "),
            (
                document,
                "document",
                "application/pdf",
                "attachment; filename=\"Gr__e.pdf\"; filename*=UTF-8''Gr%C3%B6%C3%9Fe.pdf",
            ),
            (html, "document", "application/octet-stream", "attachment; filename=\"a.html\""),
        ] {
            let before = world.whatsapp.info().media_requests;
            let (path, sent) = world.receive("sales", file.clone()).await;
            let message = world.until_message("sales", &sent.id).await;
            assert_eq!(message["type"], kind);
            let media = &message["media"];
            assert_eq!(media["mimetype"], file.mimetype.clone().unwrap());
            assert_eq!(media["size"], file.bytes.len());
            assert_eq!(media["url"], path, "no secret is in it");
            assert_eq!(media["voice"], kind == "audio");
            assert_eq!(media["fileName"], json!(file.name));

            let url = world.signed(&path).await;
            let got = Got::by(world.as_a_tag(Method::GET, &url)).await;
            got.is(&file.bytes);
            assert_eq!(got.header("content-type"), content_type);
            let said = got.header("content-disposition");
            assert!(said.starts_with(disposition), "{said}");
            assert_eq!(got.header("etag"), tag(&file.bytes));
            assert_eq!(got.header("x-content-type-options"), "nosniff");
            assert!(got.header("content-security-policy").starts_with("sandbox;"));
            assert_eq!(got.header("cache-control"), "private, no-cache");
            assert_eq!(got.header("accept-ranges"), "bytes");

            // With a token it is the same, and nobody is asked for it again.
            world.file(&path).await.is(&file.bytes);
            let head = Got::by(world.as_a_tag(Method::HEAD, &url)).await;
            assert_eq!(head.status, StatusCode::OK);
            assert_eq!(head.header("content-length"), file.bytes.len().to_string());
            assert_eq!(world.whatsapp.info().media_requests, before + 1);
        }
        // Nothing of it lies about under a name.
        let names = fs::read_dir(world.state_dir()).unwrap();
        let names: Vec<_> =
            names.map(|it| it.unwrap().file_name().into_string().unwrap()).collect();
        assert!(!names.iter().any(|name| name.starts_with("media")), "{names:?}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_view_and_no_event_has_a_key_or_the_place_of_a_file_in_it() {
    world::on_each(async |world| {
        world.connect("sales", ALICE).await;
        let (path, sent) = world.receive("sales", image(100)).await;
        world.file(&path).await;
        let whole = world.whatsapp.contact(BOB).unwrap();
        assert!(whole.received().is_empty());
        let message = path.trim_end_matches("/media");
        for seen in [
            world.get("/api/whatsapp/session/sales/messages").await.body,
            world.get(message).await.body,
            json!(world.events("sales").await),
        ] {
            let text = seen.to_string();
            assert!(text.contains(&sent.id), "{text}");
            for secret in ["mediaKey", "media_key", "directPath", "sha256", &sent.path, "/v/t62"] {
                assert!(!text.contains(secret), "{secret}: {text}");
            }
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_player_reads_parts_and_who_has_it_is_told_so() {
    world::on_each(async |world| {
        world.connect("sales", ALICE).await;
        let file = MediaFile::new(MediaKind::Video, bytes(200_000));
        let whole = file.bytes.clone();
        let (path, _) = world.receive("sales", file).await;
        let tag = tag(&whole);

        // By its hash alone, before anything was downloaded.
        for known in [tag.clone(), format!("W/{tag}"), format!("\"x\", {tag}"), "*".to_owned()] {
            let got = world.file_with(&path, "if-none-match", &known).await;
            assert_eq!((got.status.as_u16(), got.body.len()), (304, 0), "{known}");
            assert_eq!(got.header("etag"), tag);
        }
        assert_eq!(world.whatsapp.info().media_requests, 0);
        world.file_with(&path, "if-none-match", "\"x\"").await.is(&whole);

        for (range, first, last) in [
            ("bytes=0-0", 0, 0),
            ("bytes=0-65535", 0, 65_535),
            ("bytes=65530-131080", 65_530, 131_080),
            ("bytes=199999-", 199_999, 199_999),
            ("bytes=-5", 199_995, 199_999),
            ("bytes=150000-900000", 150_000, 199_999),
        ] {
            let got = world.file_with(&path, "range", range).await;
            assert_eq!(got.status, 206, "{range}");
            assert!(got.body == whole[first..=last], "{range}");
            let content_range = format!("bytes {first}-{last}/200000");
            assert_eq!(got.header("content-range"), content_range);
            assert_eq!(got.header("content-length"), (last - first + 1).to_string());
            assert_eq!(got.header("etag"), tag);
        }
        let got = world.file_with(&path, "range", "bytes=200000-").await;
        assert_eq!(got.problem(416, "RANGE_NOT_SATISFIABLE")["size"], 200_000);
        assert_eq!(got.header("content-range"), "bytes */200000");
        // What is not understood wants all of it, and so does who has another version.
        world.file_with(&path, "range", "bytes=0-1,5-6").await.is(&whole);
        let other = world.request(Method::GET, &path).header("range", "bytes=0-1");
        Got::by(other.header("if-range", "\"other\"")).await.is(&whole);
        let same = world.request(Method::GET, &path).header("range", "bytes=0-1");
        assert_eq!(Got::by(same.header("if-range", &tag)).await.status, 206);
        // Of a head there are no parts.
        let head = world.request(Method::HEAD, &path).header("range", "bytes=0-1");
        assert_eq!(Got::by(head).await.header("content-length"), "200000");
        assert_eq!(world.whatsapp.info().media_requests, 1, "all of it is one download");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_that_does_not_verify_is_handed_out() {
    world::on_each(async |world| {
        world.connect("sales", ALICE).await;
        let length = 150_000_u64;
        for file in [
            image(150_000).delivered(MediaDelivery::Corrupted),
            image(150_000).delivered(MediaDelivery::Truncated),
            image(150_000).lying(MediaLie::Hash),
            image(150_000).lying(MediaLie::Size(length - 1)),
            image(150_000).delivered(MediaDelivery::Endless),
        ] {
            let what = format!("{:?} {:?}", file.delivery, file.lie);
            let bytes = file.bytes.clone();
            let (path, _) = world.receive("sales", file).await;
            let got = world.file(&path).await;
            got.problem(502, "MEDIA_DAMAGED");
            assert!(!got.body.windows(8).any(|part| part == &bytes[..8]), "{what}");
            // Nor in parts, nor by a tag; and it is not fetched anew for each page.
            let asked = world.whatsapp.info().media_requests;
            let part = world.file_with(&path, "range", "bytes=0-9").await;
            part.problem(502, "MEDIA_DAMAGED");
            assert_eq!(world.whatsapp.info().media_requests, asked, "{what}");
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_s_address_is_never_asked_whatever_its_sender_has_written() {
    world::on_each(async |world| {
        world.connect("sales", ALICE).await;
        let trap = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let host = trap.local_addr().unwrap();
        for kind in [MediaKind::Image, MediaKind::Video, MediaKind::Voice] {
            let file = MediaFile::new(kind, bytes(50));
            let whole = file.bytes.clone();
            let lie = MediaLie::Address(format!("http://{host}/v/stolen.enc"));
            let (path, _) = world.receive("sales", file.lying(lie)).await;
            world.file(&path).await.is(&whole);
        }
        let before = world.whatsapp.info().media_requests;
        for path in [
            format!("@{host}/v/1.enc"),
            format!("http://{host}/v/1.enc"),
            format!(".{host}/v/1.enc"),
            format!("/\\{host}/v/1.enc"),
            "/v/1.enc HTTP/1.1\r\nX-Evil: 1".to_owned(),
        ] {
            let (path, sent) = world.receive("sales", image(50).lying(MediaLie::Path(path))).await;
            let message = world.until_message("sales", &sent.id).await;
            assert_eq!(message["media"]["url"], Value::Null);
            world.file(&path).await.problem(404, "MESSAGE_HAS_NO_MEDIA");
            let signed = world.post(&format!("{path}/url"), json!({})).await;
            assert_eq!(signed.body["code"], "MESSAGE_HAS_NO_MEDIA");
        }
        assert_eq!(world.whatsapp.info().media_requests, before);
        // Whom the host sends elsewhere does not go there.
        let (path, _) = world.receive("sales", image(50).delivered(MediaDelivery::Elsewhere)).await;
        let problem = world.file(&path).await.problem(503, "MEDIA_UNAVAILABLE");
        assert_eq!(problem["reason"], "unreachable");
        assert!(!world.whatsapp.media_asked().iter().any(|it| it.contains("token=elsewhere")));
        // No credentials of the session are shown for what anybody may have written.
        assert!(world.whatsapp.media_asked().iter().all(|it| !it.contains("auth=")));
        let knocked = tokio::time::timeout(Duration::ZERO, trap.accept()).await;
        assert!(knocked.is_err(), "somebody asked the sender's host");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_whatsapp_no_longer_has_the_phone_uploads_again() {
    world::on_each(async |world| {
        let phone = world.connect("sales", ALICE).await;
        let file = image(90_000);
        let whole = file.bytes.clone();
        let (path, sent) =
            world.receive("sales", file.delivered(MediaDelivery::Missing(410))).await;
        world.file(&path).await.is(&whole);
        assert_eq!(world.whatsapp.info().reuploads, 1);

        // Where it is now is remembered, also over a restart.
        world.stop_daemon().await;
        world.start_daemon().await;
        world.until_status("sales", "session_connected").await;
        world.file(&path).await.is(&whole);
        assert_eq!(world.whatsapp.info().reuploads, 1);
        assert!(!world.whatsapp.forget_media("/nothing"), "{}", sent.path);

        // A member of a group has sent it: the phone is told who.
        world.whatsapp.contact(BOB).unwrap();
        let group = world.whatsapp.group("Sales", &[ALICE, BOB]).unwrap();
        let file = image(10);
        let whole = file.bytes.clone();
        let bob = world.whatsapp.contact(BOB).unwrap();
        let file = file.delivered(MediaDelivery::Missing(404));
        let sent = bob.send_group_media(&group.jid(), file).await.unwrap();
        let message = world.until_message("sales", &sent.id).await;
        world.file(message["media"]["url"].as_str().unwrap()).await.is(&whole);

        phone.set_reupload(Reupload::Lost);
        let lost = || image(10).delivered(MediaDelivery::Missing(404));
        let (path, _) = world.receive("sales", lost()).await;
        let asked = world.whatsapp.info().reuploads;
        for _ in 0..3 {
            world.file(&path).await.problem(410, "MEDIA_GONE");
        }
        assert_eq!(world.whatsapp.info().reuploads, asked + 1, "the phone is left alone");

        // Nobody can be asked while the session is stopped.
        let (path, _) = world.receive("sales", lost()).await;
        world.post("/api/whatsapp/session/sales/stop", json!({})).await;
        world.until_status("sales", "session_not_connected").await;
        let problem = world.file(&path).await.problem(503, "MEDIA_UNAVAILABLE");
        assert_eq!(problem["reason"], "session_not_connected");
        assert_eq!(problem["sessionStatus"], "session_not_connected");
        phone.set_reupload(Reupload::Upload);
        world.post("/api/whatsapp/session/sales/start", json!({})).await;
        world.until_status("sales", "session_connected").await;
        assert_eq!(world.file(&path).await.status, StatusCode::OK, "it was not held against it");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_phone_that_says_nothing_is_waited_for_once() {
    database::on(Kind::Sqlite, async |database| {
        let world = World::start(database).await;
        world.connect("sales", ALICE).await.set_reupload(Reupload::Silent);
        let file = image(10).delivered(MediaDelivery::Missing(404));
        let (path, _) = world.receive("sales", file).await;
        for _ in 0..3 {
            let problem = world.file(&path).await.problem(503, "MEDIA_UNAVAILABLE");
            assert_eq!(problem["reason"], "phone_silent");
        }
        assert_eq!(world.whatsapp.info().reuploads, 1);
        world.end().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_session_and_a_restarted_daemon_hand_out_what_was_sent() {
    world::on_each(async |world| {
        let phone = world.connect("sales", ALICE).await;
        let (theirs, ours) = (image(100_000), image(20_000));
        let expected = [theirs.bytes.clone(), ours.bytes.clone()];
        let (path, _) = world.receive("sales", theirs).await;
        // Sent from the phone: the session has a copy.
        world.whatsapp.contact(BOB).unwrap();
        let sent = phone.send_media(BOB, ours).await.unwrap();
        let message = world.until_message("sales", &sent.id).await;
        assert_eq!(message["direction"], "outbound");
        let own = message["media"]["url"].as_str().unwrap().to_owned();
        let url = world.signed(&path).await;

        world.post("/api/whatsapp/session/sales/stop", json!({})).await;
        world.until_status("sales", "session_not_connected").await;
        world.stop_daemon().await;
        world.start_daemon().await;
        Got::by(world.as_a_tag(Method::GET, &url)).await.is(&expected[0]);
        world.file(&own).await.is(&expected[1]);
        assert_eq!(world.status("sales").await["status"], "session_not_connected");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_past_has_brought_is_handed_out_like_the_rest() {
    on_each_with(
        |config| config.history.mode = HistoryMode::Full,
        async |world| {
            let phone = world.connect("sales", ALICE).await;
            world.whatsapp.contact(BOB).unwrap();
            let past = bytes(30_000);
            let yesterday = std::time::SystemTime::now() - Duration::from_hours(24);
            let at = yesterday.duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
            let chat = HistoryChat::with(BOB).received_image("OLD1", past.clone(), at);
            let chunk = History::new(HistoryKind::Recent, Carriage::Download).chat(chat);
            let announced = phone.send_history(chunk).await.unwrap();
            // Nobody is told of the past: the phone is, when it is stored.
            phone.wait_for_receipt(&announced, ReceiptKind::HistSync).await.unwrap();
            let message = world.until_message("sales", "OLD1").await;
            assert_eq!((&message["history"], &message["type"]), (&json!(true), &json!("image")));
            world.file(message["media"]["url"].as_str().unwrap()).await.is(&past);
        },
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_none_of_ours_to_show_is_refused_by_name() {
    world::on_each(async |world| {
        world.connect("sales", ALICE).await;
        let text = world.whatsapp.contact(BOB).unwrap().send_text(ALICE, "hello").await.unwrap();
        let text = world.until_message("sales", &text).await;
        assert_eq!(text["media"], Value::Null);
        let of = |message: &Value| {
            let id = message["id"].as_str().unwrap();
            format!("/api/whatsapp/session/sales/messages/{id}/media")
        };
        world.file(&of(&text)).await.problem(404, "MESSAGE_HAS_NO_MEDIA");
        let (path, sent) = world.receive("sales", image(10).view_once()).await;
        world.file(&path).await.problem(409, "MEDIA_VIEW_ONCE");
        let message = world.until_message("sales", &sent.id).await;
        assert_eq!(message["media"]["viewOnce"], true);
        assert_eq!(message["media"]["url"], Value::Null);
        assert_eq!(world.whatsapp.info().media_requests, 0);

        let (path, _) = world.receive("sales", image(10)).await;
        let unknown = path.replace("msg_0", "msg_1");
        world.file(&unknown).await.problem(404, "MESSAGE_NOT_FOUND");
        let other = path.replace("/sales/", "/other/");
        world.file(&other).await.problem(404, "SESSION_NOT_FOUND");
        // Another organization has nothing of it.
        let made = world.post("/api/organizations", json!({ "name": "Other" })).await.body;
        let theirs = made["data"]["id"].as_str().unwrap();
        let request = world.request(Method::POST, "/api/tokens").header("x-organization", theirs);
        let minted = request.json(&json!({ "role": "admin" })).send().await.unwrap();
        let minted: Value = minted.json().await.unwrap();
        let stranger = minted["data"]["secret"].as_str().unwrap();
        let as_stranger = |method, path: &str| {
            let url = format!("http://{}{path}", world.address());
            http_client().request(method, url).bearer_auth(stranger)
        };
        Got::by(as_stranger(Method::GET, &path)).await.problem(404, "SESSION_NOT_FOUND");
        let sign = as_stranger(Method::POST, &format!("{path}/url")).json(&json!({}));
        Got::by(sign).await.problem(404, "SESSION_NOT_FOUND");
        assert_eq!(world.whatsapp.info().media_requests, 0);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn any_daemon_hands_out_what_another_daemon_s_session_was_sent() {
    database::on(Kind::Postgres, async |database| {
        let cluster = Cluster::new(database, "10m").await;
        let a = cluster.start("a");
        a.create("s00").await;
        let phones = cluster.pair(&a, &["s00".to_owned()]).await;
        let b = cluster.start("b");
        let bob = cluster.whatsapp.contact(BOB).unwrap();
        for (delivery, reuploads) in [(MediaDelivery::Whole, 0), (MediaDelivery::Missing(404), 1)] {
            let file = image(50_000).delivered(delivery);
            let whole = file.bytes.clone();
            let sent = bob.send_media(&number(0), file).await.unwrap();
            let path = b
                .until_some("the message", async || {
                    let messages = b.messages("s00").await;
                    let found = messages.iter().find(|it| it["waId"] == sent.id.as_str());
                    found
                        .map(|it| it["media"]["url"].as_str().unwrap().to_owned())
                        .ok_or_else(|| json!(messages))
                })
                .await;
            Got::by(b.request(Method::GET, &path)).await.is(&whole);
            assert_eq!(cluster.whatsapp.info().reuploads, reuploads);
        }
        assert_eq!(cluster.owned_by("a").await, ["s00"]);
        assert_eq!(phones[0].logins().len(), 1);
        b.terminate().await;
        a.terminate().await;
        cluster.end().await;
    })
    .await;
}
