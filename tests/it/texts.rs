//! Texts of every kind: what comes back is what went in, on both databases, but for NUL.

use std::collections::BTreeMap;

use entity::{
    id::MessageId,
    kind::MessageKind,
    state::{Direction, MessageStatus},
};
use futures_util::future::try_join_all;
use proptest::{
    prelude::*,
    strategy::ValueTree as _,
    test_runner::{Config, RngAlgorithm, TestRng, TestRunner},
};
use reqwest::{Method, StatusCode, header::CONTENT_TYPE};
use serde_json::{Value, json};
use wagate::{
    event::{Account, Call, Event, NewMessage, identifier},
    store::{Patience, events::NewEvent, messages::Filter, page::Page},
};

use crate::{
    database::{Database, Opened, on_each},
    http_app::{Answer, App},
    world::{self, ALICE, BOB},
};

/// Characters that have broken somebody's database or client.
const ODD: [&str; 16] = [
    "\0",
    "\u{1}",
    "\u{7f}",
    "\u{fffe}",
    "\u{ffff}",
    "\u{10ffff}",
    "\u{feff}",
    "\u{202e}drawkcab\u{202c}",
    "مرحبا",
    "e\u{301}\u{301}\u{301}",
    "👩‍👩‍👧‍👦",
    "𝒳",
    "\u{2028}\u{2029}",
    "'; DROP TABLE message; --",
    "\\u0000\\ud800",
    "\r\n\t\"\\",
];

fn text() -> impl Strategy<Value = String> {
    let part = prop_oneof![
        proptest::sample::select(&ODD[..]).prop_map(str::to_owned),
        any::<char>().prop_map(String::from),
        "[ -~]{0,12}",
    ];
    proptest::collection::vec(part, 1..8).prop_map(|parts| parts.concat())
}

/// The same texts in every run, so that both databases are asked the same.
fn texts(count: usize) -> Vec<String> {
    let rng = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    let mut texts: Vec<String> = ODD.iter().map(|odd| format!("a{odd}b")).collect();
    texts.extend((0..count).map(|_| text().new_tree(&mut runner).unwrap().current()));
    texts
}

/// What is kept of a text.
fn kept(text: &str) -> String {
    text.replace('\0', "\u{fffd}")
}

async fn record(opened: &Opened, session: &entity::session::Model, event: Event) {
    let new = NewEvent {
        organization_id: session.organization_id.clone(),
        session_key: session.id.clone(),
        generation: None,
        care: None,
        posted: None,
        event,
        at: opened.clock.now(),
    };
    opened.store.writer().record(new, Patience::Fail).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn any_text_comes_back_from_the_store_as_it_was_but_for_nul() {
    on_each(async |database: &Database| {
        let opened = database.open().await;
        let session = opened.session("s").await;
        let texts = texts(300);
        let at = opened.clock.now();
        let recorded = texts.iter().enumerate().map(|(n, text)| {
            let message = Event::Message(Box::new(NewMessage {
                id: MessageId::new(at, n as u128),
                wa_id: format!("{n} {text}"),
                chat: format!("{text}@g.us"),
                sender: text.clone(),
                direction: Direction::Inbound,
                kind: MessageKind::Text,
                body: Some(text.clone()),
                target_wa_id: Some(text.clone()),
                interaction: None,
                raw: Some(text.as_bytes().to_vec()),
                push_name: Some(text.clone()),
                sent_at: at,
                is_group: true,
                offline: false,
                status: MessageStatus::Received,
            }));
            let new = NewEvent {
                organization_id: session.organization_id.clone(),
                session_key: session.id.clone(),
                generation: None,
                care: None,
                posted: None,
                event: message,
                at,
            };
            opened.store.writer().record(new, Patience::Fail)
        });
        try_join_all(recorded).await.unwrap();

        let (filter, page) = (Filter::default(), Page::all());
        let listed = opened
            .store
            .messages()
            .list(&session.organization_id, &session.id, &filter, &page)
            .await
            .unwrap();
        let found: BTreeMap<_, _> = listed.into_iter().map(|row| (row.id.clone(), row)).collect();
        for (n, text) in texts.iter().enumerate() {
            let row = &found[&MessageId::new(at, n as u128)];
            let kept = kept(text);
            assert_eq!(row.body.as_ref(), Some(&kept));
            assert_eq!(row.target_wa_id.as_ref(), Some(&kept));
            assert_eq!(row.push_name.as_ref(), Some(&kept));
            assert_eq!((&row.sender, &row.chat), (&kept, &format!("{kept}@g.us")));
            assert_eq!(row.wa_id, format!("{n} {kept}"));
        }
        let events = opened.store.events();
        let rows = events.page(&session.organization_id, None, 0, 1000).await.unwrap();
        assert_eq!(rows.len(), texts.len());
        for row in rows {
            let payload: Value = serde_json::from_str(&row.payload).unwrap();
            let body = payload["message"]["body"].as_str().unwrap();
            assert!(texts.iter().any(|text| kept(text) == body), "{body:?}");
        }

        // What is no message, too.
        let odd = ODD.concat();
        let account = Account {
            phone_number: Some("1\0".to_owned()),
            push_name: Some(odd.clone()),
            jid: Some("1\0@s.whatsapp.net".to_owned()),
            lid: Some("2\0@lid".to_owned()),
        };
        record(&opened, &session, Event::Ready(account)).await;
        let call = Call {
            id: odd.clone(),
            from: odd.clone(),
            video: false,
            group: false,
            stage: "offer",
            at,
        };
        record(&opened, &session, Event::Call(call)).await;
        let row = opened.store.sessions().find_by_key(&session.id).await.unwrap().unwrap();
        assert_eq!(row.push_name, Some(kept(&odd)));
        assert_eq!(row.phone_number.as_deref(), Some("1\u{fffd}"));
        opened.close().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn odd_texts_go_over_the_wire_and_through_http_both_ways() {
    world::on_each(async |world| {
        let phone = world.connect("sales", ALICE).await;
        let bob = world.whatsapp.contact(BOB).unwrap();
        bob.set_name(&format!("Bob {}", ODD.concat()));
        for odd in ODD {
            bob.send_text(ALICE, &format!("in {odd}!")).await.unwrap();
        }
        let messages = world.until_messages("sales", ODD.len()).await;
        for (message, odd) in messages.iter().zip(ODD) {
            assert_eq!(message["body"], kept(&format!("in {odd}!")));
        }
        for odd in ODD.into_iter().filter(|odd| *odd != "\0") {
            let text = format!("out {odd}!");
            world.send("sales", BOB, &text).await;
            phone.wait_for_sent(|sent| sent.text.as_deref() == Some(&text)).await.unwrap();
        }
    })
    .await;
}

/// Text that nothing makes shorter: PostgreSQL's indices hold values of 2.7 kB, compressed.
fn noise(length: usize) -> String {
    (0..length).map(|_| char::from(rand::random_range(b'A'..=b'Z'))).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_is_kept_however_long_it_and_its_id_are() {
    world::on_each(async |world| {
        world.connect("sales", ALICE).await;
        let bob = world.whatsapp.contact(BOB).unwrap();
        bob.set_name(&noise(20_000));
        let mut sent = Vec::new();
        for (length, id) in [(600_000, None), (10, Some(noise(4_000))), (10, None)] {
            let body = noise(length);
            let message = wagate_simulator::text(&body);
            let id = bob.send_with_id(ALICE, message, id).await.unwrap();
            sent.push((id, body));
        }
        let messages = world.until_messages("sales", sent.len()).await;
        for (message, (id, body)) in messages.iter().zip(sent) {
            assert_eq!(
                (&message["waId"], &message["body"]),
                (&identifier(&id).into(), &body.into())
            );
        }
    })
    .await;
}

/// A request whose body is sent byte by byte as it is here.
async fn raw(app: &App, path: &str, body: &[u8]) -> StatusCode {
    let request = app.request(Method::POST, path).header(CONTENT_TYPE, "application/json");
    Answer::to(request.body(body.to_vec())).await.status
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_text_is_refused_at_the_edge_on_both_databases_alike() {
    on_each(async |database: &Database| {
        let app = App::start(database).await;
        let sessions = "/api/whatsapp/session";
        let made = app.post(sessions, json!({ "sessionId": "s", "userId": "zoë 👩‍👩‍👧‍👦" }));
        assert_eq!(made.await.status, StatusCode::CREATED);
        let seen = app.get("/api/whatsapp/session/status/s").await;
        assert_eq!(seen.json()["data"]["userId"], "zoë 👩‍👩‍👧‍👦");

        let messages = "/api/whatsapp/session/s/messages";
        for body in [
            // Overlong, cut off, a surrogate's bytes, beyond the last character.
            b"{\"to\":\"15550002222\",\"text\":\"\xc0\x80\"}".as_slice(),
            b"{\"to\":\"15550002222\",\"text\":\"\xe2\x82\"}",
            b"{\"to\":\"15550002222\",\"text\":\"\xed\xa0\x80\"}",
            b"{\"to\":\"15550002222\",\"text\":\"\xf4\x90\x80\x80\"}",
            // Surrogates alone, and NUL.
            br#"{"to":"15550002222","text":"\ud800"}"#,
            br#"{"to":"15550002222","text":"\udc00\ud800"}"#,
            br#"{"to":"15550002222","text":"a\u0000b"}"#,
            br#"{"to":"1555000\u00002222","text":"a"}"#,
        ] {
            let status = raw(&app, messages, body).await;
            assert_eq!(status, StatusCode::BAD_REQUEST, "{}", String::from_utf8_lossy(body));
        }
        for body in [
            br#"{"sessionId":"a\u0000b"}"#.as_slice(),
            br#"{"sessionId":"a\ud800b"}"#,
            br#"{"sessionId":"n","userId":"a\u0000b"}"#,
            br#"{"sessionId":"n","phoneNumber":"1\u0000"}"#,
        ] {
            let status = raw(&app, sessions, body).await;
            assert_eq!(status, StatusCode::BAD_REQUEST, "{}", String::from_utf8_lossy(body));
        }
        for path in [
            "/api/whatsapp/session/status/%00",
            "/api/whatsapp/session/status/a%00b",
            "/api/whatsapp/session/status/%ff",
            "/api/whatsapp/session/list-realtime?userId=%00",
            "/api/whatsapp/session/list-realtime?userId=%ff",
            "/api/whatsapp/session/s/messages?chat=%00",
            "/api/whatsapp/session/s/messages/%00",
            "/api/whatsapp/session/s/messages?cursor=%00",
        ] {
            let answer = app.get(path).await;
            assert!(answer.status.as_u16() < 500, "{path}: {} {}", answer.status, answer.text());
        }
        app.close().await;
    })
    .await;
}
