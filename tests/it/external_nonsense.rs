//! Nonsense that is posted for sessions that run elsewhere: what is wrong changes nothing, what is odd breaks nothing.

use std::time::Duration;

use futures_util::{StreamExt as _, stream};
use reqwest::Method;
use serde_json::{Value, json};

use crate::{
    database::{Database, Kind, on_each},
    external_day::{Dice, all_messages, names},
    http_app::{Answer, App, STATUS_KEY, json as with_json},
};

/// How many bodies there are in which something is wrong.
const WRONG: usize = 10_000;

/// How many of which nobody says whether anything is.
const ODD: usize = 3_000;

/// Members that an event cannot do without or that must be as they must, with what they are not.
fn required() -> Vec<(&'static str, &'static str, Vec<Value>)> {
    let text = || vec![json!(7), json!(true), json!([]), json!({}), json!([1, "x"]), Value::Null];
    let object = || vec![json!(7), json!("x"), json!([{}]), json!(false), Value::Null];
    let id = || vec![json!(7), json!(""), json!([]), json!({}), json!({ "id": 7 }), Value::Null];
    let address = || {
        vec![
            json!(7),
            json!("@"),
            json!("a b@c.us"),
            json!({}),
            json!("x".repeat(200)),
            Value::Null,
        ]
    };
    let number = || {
        vec![json!("x"), json!(-2), json!(1.5), json!(1e300), json!(101), json!([]), Value::Null]
    };
    vec![
        ("qr", "/qr", text()),
        ("loading_screen", "/percent", number()),
        ("change_state", "/state", text()),
        ("change_state", "/state", vec![json!("PAIRED"), json!(""), json!("x".repeat(500))]),
        ("message", "/message", object()),
        ("message", "/message/id", id()),
        ("message", "/message/from", address()),
        ("message_create", "/message/from", address()),
        ("message_ack", "/message", object()),
        ("message_ack", "/message/id", id()),
        ("message_ack", "/ack", number()),
        ("message_reaction", "/reaction/msgId", id()),
        ("message_reaction", "/reaction/senderId", address()),
        ("message_revoke", "/message/id", id()),
        ("call", "/call", object()),
        ("call", "/call/id", id()),
        ("call", "/call/from", address()),
        ("group_join", "/notification/chatId", address()),
        ("group_update", "/notification/chatId", address()),
    ]
}

/// The data of an event in which nothing is wrong.
fn sound(event: &str) -> Value {
    let message = json!({ "id": "3EB0", "from": "6281200000001@c.us", "to": "4915110000001@c.us", "body": "x" });
    match event {
        "qr" => json!({ "qr": "2@x" }),
        "loading_screen" => json!({ "percent": 5, "message": "x" }),
        "change_state" => json!({ "state": "CONNECTED" }),
        "message_ack" => json!({ "message": message, "ack": 1 }),
        "message_reaction" => json!({ "reaction": {
            "reaction": "x", "msgId": "3EB0", "senderId": "6281200000001@c.us",
        } }),
        "call" => json!({ "call": { "id": "x", "from": "6281200000001@c.us" } }),
        "group_join" | "group_update" => json!({ "notification": { "chatId": "1203@g.us" } }),
        _ => json!({ "message": message }),
    }
}

/// A body that is wrong, by how it was made.
fn wrong(dice: &mut Dice, required: &[(&str, &str, Vec<Value>)]) -> Vec<u8> {
    let pick = |dice: &mut Dice, length: usize| {
        usize::try_from(dice.roll(u64::try_from(length).unwrap())).unwrap()
    };
    let (event, pointer, junk) = &required[pick(dice, required.len())];
    let mut body = json!({ "event": event, "data": sound(event) });
    match dice.roll(5) {
        // Cut off anywhere.
        0 => {
            let mut text = body.to_string().into_bytes();
            let length = text.len();
            text.truncate(1 + pick(dice, length - 1));
            return text;
        }
        // Bytes.
        1 => {
            return (0..=dice.roll(64)).map(|_| u8::try_from(dice.roll(256)).unwrap()).collect();
        }
        // No event.
        2 => {
            let junk = [json!(7), Value::Null, json!(""), json!({}), json!("x".repeat(129))];
            body["event"] = junk[pick(dice, junk.len())].clone();
        }
        _ => *body["data"].pointer_mut(pointer).unwrap() = junk[pick(dice, junk.len())].clone(),
    }
    body.to_string().into_bytes()
}

/// Anything.
fn any_json(depth: u32, dice: &mut Dice) -> Value {
    match dice.roll(if depth == 0 { 5 } else { 7 }) {
        0 => Value::Null,
        1 => json!(dice.roll(2) == 0),
        2 => json!(i64::from_ne_bytes(dice.roll(u64::MAX).to_ne_bytes())),
        3 => json!(f64::from_bits(dice.roll(u64::MAX))),
        4 => {
            let texts =
                ["", "x", "\0", "6281@c.us", "🙂\u{202e}", "2027-01-15T00:00:00Z", "true_1@c.us_3"];
            json!(texts[usize::try_from(dice.roll(7)).unwrap()])
        }
        5 => (0..dice.roll(4)).map(|_| any_json(depth - 1, dice)).collect(),
        _ => {
            let names = [
                "message",
                "id",
                "from",
                "to",
                "ack",
                "qr",
                "state",
                "timestamp",
                "call",
                "reaction",
            ];
            let mut members = serde_json::Map::new();
            for _ in 0..dice.roll(6) {
                let name = names[usize::try_from(dice.roll(10)).unwrap()];
                members.insert(name.to_owned(), any_json(depth - 1, dice));
            }
            Value::Object(members)
        }
    }
}

async fn posted(app: &App, id: &str, body: &[u8]) -> Answer {
    let path = format!("/api/whatsapp/webhook/{id}");
    let request = app.request(Method::POST, &path).header("content-type", "application/json");
    Answer::to(request.body(body.to_vec())).await
}

/// How many rows each table has.
async fn rows(database: &Database) -> Vec<(String, i64)> {
    let tables = match database.kind {
        Kind::Sqlite => "SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name",
        Kind::Postgres => {
            "SELECT tablename::text AS name FROM pg_tables WHERE schemaname = 'public' ORDER BY name"
        }
    };
    let mut rows = Vec::new();
    for table in database.query(tables).await {
        let name: String = table.try_get("", "name").unwrap();
        let count = database.count(&format!("SELECT count(*) FROM \"{name}\"")).await;
        rows.push((name, count));
    }
    assert!(rows.len() > 20, "{rows:?}");
    rows
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_wrong_payloads_are_refused_one_by_one_and_change_nothing() {
    on_each(async |database| {
        let app = App::start(database).await;
        app.external("sound", json!({})).await;
        app.tell("sound", "ready", json!({ "phoneNumber": "6281200000001" })).await;
        let message = json!({
            "id": "3EB0", "from": "6281200000001@c.us", "to": "4915110000001@c.us", "fromMe": true,
            "timestamp": app.clock.now().as_secs(), "body": "x",
        });
        app.tell("sound", "message_ack", json!({ "message": message, "ack": 1 })).await;
        let look = async || {
            let path = "/api/whatsapp/session/sound/events/page?after=0&limit=1000";
            let events = app.get(path).await.json()["data"].clone();
            let numbers = "SELECT CAST(SUM(last_seq) AS bigint) FROM organization";
            (
                app.row("sound").await,
                events,
                all_messages(&app, "sound").await,
                rows(database).await,
                database.count(numbers).await,
            )
        };
        let before = look().await;
        assert_eq!(before.2[0]["ack"], 1);

        let mut dice = Dice(7);
        let required = required();
        let wrong: Vec<_> = (0..WRONG).map(|_| wrong(&mut dice, &required)).collect();
        let refused = stream::iter(&wrong).map(async |body| {
            let answer = posted(&app, "sound", body).await;
            let shown = String::from_utf8_lossy(body);
            assert_eq!(answer.status, 400, "{shown}: {}", answer.text());
            assert!(answer.json()["errors"][0]["pointer"].is_string(), "{shown}");
        });
        let refused = refused.buffer_unordered(32).collect::<Vec<()>>().await;
        assert_eq!(refused.len(), WRONG);
        assert_eq!(look().await, before);
        app.close().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_is_reported_of_a_status_is_taken_or_refused() {
    on_each(async |database| {
        let app = App::start(database).await;
        let data = json!({ "vps_session_id": "wa_1" });
        app.external("odd", json!({ "sessionData": data })).await;
        let mut dice = Dice(7);
        let odd: Vec<_> = (0..ODD / 3)
            .map(|_| {
                let ids = [json!("wa_1"), json!("wa_2"), json!("a\0b"), any_json(1, &mut dice)];
                let words = [json!("connected"), json!("disconnected"), any_json(1, &mut dice)];
                let pick = |dice: &mut Dice, of: u64| usize::try_from(dice.roll(of)).unwrap();
                json!({
                    "sessionId": ids[pick(&mut dice, 4)], "status": words[pick(&mut dice, 3)],
                    "phoneNumber": any_json(1, &mut dice), "timestamp": any_json(1, &mut dice),
                })
            })
            .collect();
        let reported = stream::iter(odd.iter().enumerate()).map(async |(number, body)| {
            let paths = ["/api/whatsapp/status-webhook", "/functions/v1/whatsapp-status-webhook"];
            let request = app.anonymous(Method::POST, paths[number % 2]);
            let request = with_json(request, body).header("webhook-secret-key", STATUS_KEY);
            let status = Answer::to(request).await.status.as_u16();
            assert!(matches!(status, 200 | 400 | 404), "{status}: {body}");
            status
        });
        let reported: Vec<u16> = reported.buffer_unordered(32).collect().await;
        for status in [400, 404] {
            assert!(reported.contains(&status), "{status} was never answered");
        }
        let body = json!({ "sessionId": "a\0b", "status": "connected" });
        let request = with_json(app.anonymous(Method::POST, "/api/whatsapp/status-webhook"), &body);
        let answer = Answer::to(request.header("webhook-secret-key", STATUS_KEY)).await;
        answer.invalid(&["/sessionId"]);
        app.close().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn three_thousand_odd_payloads_are_taken_or_refused_and_break_nothing() {
    on_each(async |database| {
        let app = App::start(database).await;
        app.external("sound", json!({})).await;
        app.external("odd", json!({})).await;
        app.tell("sound", "ready", json!({})).await;
        let (before, told) = (app.row("sound").await, names(&app, "sound").await);
        let mut dice = Dice(7);
        let events =
            ["message", "message_ack", "qr", "change_state", "ready", "call", "group_join", "zzz"];
        let odd: Vec<_> = (0..ODD)
            .map(|_| {
                let event = events[usize::try_from(dice.roll(8)).unwrap()];
                let mut body = json!({ "event": event, "data": any_json(4, &mut dice) });
                if dice.roll(3) == 0 {
                    body["timestamp"] = any_json(1, &mut dice);
                }
                body.to_string().into_bytes()
            })
            .collect();
        let taken = stream::iter(&odd).map(async |body| {
            let status = posted(&app, "odd", body).await.status.as_u16();
            let shown = String::from_utf8_lossy(body);
            assert!(matches!(status, 200 | 202 | 400), "{status}: {shown}");
            status
        });
        let taken: Vec<u16> = taken.buffer_unordered(32).collect().await;
        for status in [200, 202, 400] {
            assert!(taken.contains(&status), "{status} was never answered");
        }
        // It was about one session, which goes on, and no other.
        assert_eq!(app.row("sound").await, before);
        assert_eq!(names(&app, "sound").await, told);
        app.clock.advance(Duration::from_secs(1));
        let next = app.tell("odd", "ready", json!({})).await.json();
        assert_eq!(next["data"]["status"], "session_connected");
        app.close().await;
    })
    .await;
}
