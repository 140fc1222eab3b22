//! What needs no socket works without one, and what needs one never claims more than it knows.

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use wagate_simulator::{Fault, Lasting};

use crate::world::{self, ALICE, BOB, World};

#[tokio::test(flavor = "multi_thread")]
async fn everything_can_be_read_and_configured_while_whatsapp_is_away() {
    world::on_each(async |world| {
        world.connect("sales", ALICE).await;
        world.whatsapp.contact(BOB).unwrap().send_text(ALICE, "hello").await.unwrap();
        let message = world.until_messages("sales", 1).await.remove(0);
        let message = message["id"].as_str().unwrap().to_owned();
        world.create("new").await;
        world.until_qr("new").await;

        world.whatsapp.close().await;
        world.until_status("sales", "connecting").await;
        world.until_status("new", "connecting").await;
        // And again with a daemon that has never seen WhatsApp.
        for restarted in [false, true] {
            if restarted {
                world.stop_daemon().await;
                world.start_daemon().await;
            }
            all_reads(world, &message).await;
        }
        world.whatsapp.reopen().await.unwrap();
        world.post("/api/whatsapp/session/sales/restart", json!({})).await;
        world.until_status("sales", "session_connected").await;
    })
    .await;
}

async fn all_reads(world: &World, message: &str) {
    let session = "/api/whatsapp/session";
    for path in [
        "/".to_owned(),
        "/metrics".to_owned(),
        format!("{session}/list-realtime"),
        format!("{session}/list-realtime?status=loading"),
        format!("{session}/sales"),
        format!("{session}/status/sales"),
        format!("{session}/status/new"),
        format!("{session}/sales/messages"),
        format!("{session}/sales/messages/{message}"),
        format!("{session}/sales/events/page"),
        "/api/whatsapp/events/page".to_owned(),
        "/api/webhooks".to_owned(),
        "/api/webhooks/event-types".to_owned(),
    ] {
        let read = world.get(&path).await;
        assert_eq!(read.status, StatusCode::OK, "{path}: {}", read.body);
    }
    for path in ["/livez", "/readyz"] {
        assert_eq!(world.get(path).await.status, StatusCode::NO_CONTENT);
    }
    for id in ["sales", "new"] {
        let qr = world.get(&format!("{session}/{id}/qr")).await;
        assert_eq!(qr.status, StatusCode::NOT_FOUND, "{}", qr.body);
        assert_eq!(qr.body["reason"], "not_yet", "{}", qr.body);
    }
    let stream = world
        .request(Method::GET, "/api/whatsapp/events")
        .header("accept", "text/event-stream")
        .send()
        .await
        .unwrap();
    assert_eq!(stream.status(), StatusCode::OK);

    let user = json!({ "userId": "user-1" });
    let path = format!("{session}/sales");
    let changed = world.request(Method::PATCH, &path).json(&user).send().await.unwrap();
    assert_eq!(changed.status(), StatusCode::OK);
    // Whom to tell of it can be said, too.
    let endpoint = json!({ "url": "https://hooks.example.com/wagate", "event_types": ["*"] });
    let endpoint = world.post("/api/webhooks", endpoint).await;
    assert_eq!(endpoint.status, StatusCode::CREATED, "{}", endpoint.body);
    let path = format!("/api/webhooks/{}", endpoint.body["data"]["id"].as_str().unwrap());
    let paused = world.post(&format!("{path}/pause"), json!({})).await;
    assert_eq!(paused.status, StatusCode::OK, "{}", paused.body);
    assert_eq!(world.get(&path).await.body["data"]["state"], "paused");
    let gone = world.delete(&path).await;
    assert!(gone.status.is_success(), "{}", gone.body);
    // A message can be left, too.
    let left = json!({ "to": BOB, "text": "later", "queue": true });
    let left = world.post(&format!("{session}/sales/messages"), left).await;
    assert_eq!(left.body["data"]["status"], "queued", "{}", left.body);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_sent_on_a_dying_socket_is_queued_or_refused_and_never_a_success() {
    world::on_each(async |world| {
        let phone = world.connect("sales", ALICE).await;
        let bob = world.whatsapp.contact(BOB).unwrap();
        let mut accepted = Vec::new();
        for (round, fault) in [Fault::Drop, Fault::BlackHole, Fault::Drop].into_iter().enumerate() {
            let logins = phone.logins().len();
            let black_hole = fault == Fault::BlackHole;
            phone.fault(fault, Lasting::Once).await;
            // At once: nobody has noticed yet.
            let text = format!("round {round}");
            let sent = world
                .post("/api/whatsapp/session/sales/messages", json!({ "to": BOB, "text": text }))
                .await;
            match sent.status {
                StatusCode::CREATED => {
                    let status = sent.body["data"]["status"].as_str().unwrap();
                    assert!(matches!(status, "queued" | "sending"), "{}", sent.body);
                    assert!(sent.body["data"]["ack"].as_i64().unwrap() < 1, "{}", sent.body);
                    accepted.push((sent.body["data"]["id"].as_str().unwrap().to_owned(), text));
                }
                StatusCode::CONFLICT | StatusCode::SERVICE_UNAVAILABLE => {}
                other => panic!("{other}: {}", sent.body),
            }
            if black_hole {
                // Silence takes its time to be noticed: the operator is quicker.
                world.post("/api/whatsapp/session/sales/restart", json!({})).await;
            }
            phone.wait_logged_in(logins + 1).await.unwrap();
            world.until_status("sales", "session_connected").await;
        }
        // A yes was a yes: once, and under the same id.
        for (id, text) in accepted {
            world.until_ack("sales", &id, 2).await;
            let copies =
                bob.received().iter().filter(|it| it.text.as_deref() == Some(&*text)).count();
            assert_eq!(copies, 1, "{text}");
        }
        let events: Value = json!(world.events("sales").await);
        assert!(!events.to_string().contains("\"disconnected\""), "a blip pages nobody");
    })
    .await;
}
