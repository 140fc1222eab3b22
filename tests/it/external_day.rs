//! Much of what clients elsewhere post: a day of fifty of them, acknowledgements in every order, and nonsense.

use std::{collections::BTreeMap, time::Duration};

use futures_util::{StreamExt as _, stream};
use proptest::{
    prelude::*,
    strategy::ValueTree as _,
    test_runner::{Config, RngAlgorithm, TestRng, TestRunner},
};
use reqwest::Method;
use serde_json::{Value, json};

use crate::{
    database::on_each,
    http_app::{Answer, App},
};

const SESSIONS: u64 = 50;

/// A generator of numbers, so that a day is the same each time.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        // SplitMix64.
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % sides
    }
}

/// A day of one client: what it posts, and what must be known in the end.
struct Day {
    posts: Vec<Value>,
    status: &'static str,
    inbound: usize,
    /// The level that each outbound message has reached.
    outbound: BTreeMap<String, i64>,
}

impl Day {
    fn of(session: u64, begin: i64) -> Self {
        let mut dice = Dice(session);
        let me = format!("62812000{session:05}@c.us");
        // When it happens, with a message's own time in whole seconds.
        let mut clock = begin;
        let mut timed: Vec<(i64, Value)> = Vec::new();
        let mut say = |at: i64, event: &str, data: Value| {
            timed.push((at, json!({ "event": event, "data": data, "timestamp": at })));
        };
        for code in 0..3 {
            clock += 20_000;
            say(clock, "qr", json!({ "qr": format!("2@{session}-{code}") }));
        }
        clock += 5_000;
        say(clock, "authenticated", json!({}));
        for percent in [10, 55, 100] {
            clock += 1_500;
            say(clock, "loading_screen", json!({ "percent": percent, "message": "WhatsApp" }));
        }
        clock += 2_000;
        let user = me.trim_end_matches("@c.us");
        say(
            clock,
            "ready",
            json!({ "info": { "wid": { "_serialized": me, "user": user }, "pushname": "Shop" } }),
        );

        let (mut inbound, mut outbound) = (0, BTreeMap::new());
        for hour in 0..12 {
            clock = begin + hour * 3_600_000 + 120_000;
            for _ in 0..dice.roll(3) {
                clock += 1_000 + i64::try_from(dice.roll(600_000)).unwrap();
                let id = format!("3EB0{session:03}{inbound:04}");
                let other = format!("4915110000{}@c.us", dice.roll(10));
                let message = json!({
                    "id": { "fromMe": false, "remote": other, "id": id, "_serialized": format!("false_{other}_{id}") },
                    "from": other, "to": me, "body": "Wie geht's? 🙂", "type": "chat", "ack": 1,
                    "timestamp": clock / 1000, "fromMe": false, "hasMedia": false, "deviceType": "android",
                });
                // It tells of each twice, under two names.
                say(clock, "message_create", json!({ "message": message }));
                say(clock, "message", json!({ "message": message }));
                inbound += 1;
            }
            for _ in 0..dice.roll(3) {
                clock += 1_000 + i64::try_from(dice.roll(600_000)).unwrap();
                let id = format!("3EB1{session:03}{:04}", outbound.len());
                let other = format!("4915110000{}@c.us", dice.roll(10));
                let message = json!({
                    "id": { "fromMe": true, "remote": other, "id": id, "_serialized": format!("true_{other}_{id}") },
                    "from": me, "to": other, "body": "Ihre Bestellung ist da", "type": "chat", "ack": 0,
                    "timestamp": clock / 1000, "fromMe": true,
                });
                say(clock, "message_create", json!({ "message": message }));
                let reached = i64::try_from(dice.roll(5)).unwrap();
                for level in 0..=reached {
                    let at = clock + 700 * (level + 1);
                    say(at, "message_ack", json!({ "message": message, "ack": level }));
                }
                outbound.insert(id, reached);
            }
            if dice.roll(4) == 0 {
                clock += 30_000;
                say(clock, "change_state", json!({ "state": "TIMEOUT" }));
                clock += 9_000;
                say(clock, "change_state", json!({ "state": "CONNECTED" }));
            }
            if dice.roll(6) == 0 {
                clock += 1_000;
                say(
                    clock,
                    "media_uploaded",
                    json!({ "message": { "id": format!("up-{session}-{hour}") } }),
                );
            }
        }
        clock = begin + 12 * 3_600_000 + 1_800_000;
        let status = match dice.roll(5) {
            0 => {
                say(clock, "disconnected", json!({ "reason": "LOGOUT" }));
                "session_not_connected"
            }
            1 => {
                say(clock, "change_state", json!({ "state": "TOS_BLOCK" }));
                "error"
            }
            2 => {
                say(clock, "disconnected", json!({ "reason": "NAVIGATION" }));
                say(clock + 9_000, "auth_failure", json!({ "msg": "restore failed" }));
                "auth_failure"
            }
            _ => "session_connected",
        };

        // What is posted comes late, up to ten minutes, and every fifth comes again.
        let mut arrivals: Vec<(i64, Value)> = Vec::new();
        for (at, post) in timed {
            let late = |dice: &mut Dice| at + i64::try_from(dice.roll(600_000)).unwrap();
            if dice.roll(5) == 0 {
                arrivals.push((late(&mut dice), post.clone()));
            }
            arrivals.push((late(&mut dice), post));
        }
        arrivals.sort_by_key(|(at, _)| *at);
        let posts = arrivals.into_iter().map(|(_, post)| post).collect();
        Self { posts, status, inbound, outbound }
    }
}

async fn all_messages(app: &App, id: &str) -> Vec<Value> {
    let path = format!("/api/whatsapp/session/{id}/messages?limit=500");
    app.get(&path).await.json()["data"].as_array().unwrap().clone()
}

async fn names(app: &App, id: &str) -> Vec<String> {
    let path = format!("/api/whatsapp/session/{id}/events/page?after=0&limit=1000");
    let page = app.get(&path).await.json();
    let names = page["data"].as_array().unwrap().iter().map(|it| it["event"].as_str().unwrap());
    names.filter(|name| !name.contains('.')).map(ToOwned::to_owned).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_day_of_fifty_clients_out_of_order_and_twice_ends_in_the_right_state() {
    on_each(async |database| {
        let app = App::start(database).await;
        let begin = app.clock.now().0 - 24 * 3_600_000;
        let days: Vec<_> = (0..SESSIONS).map(|session| Day::of(session, begin)).collect();
        let played = stream::iter(days.iter().enumerate()).map(async |(number, day)| {
            let id = format!("shop-{number}");
            app.external(&id, json!({})).await;
            for post in &day.posts {
                let answer = app.post(&format!("/api/whatsapp/webhook/{id}"), post.clone()).await;
                assert!(answer.status.is_success(), "{}", answer.text());
            }
            id
        });
        let ids: Vec<String> = played.buffered(SESSIONS.try_into().unwrap()).collect().await;
        let posts: usize = days.iter().map(|day| day.posts.len()).sum();
        assert!(posts > 2_000, "{posts} is not much of a day");
        for (id, day) in ids.iter().zip(&days) {
            let seen = app.get(&format!("/api/whatsapp/session/{id}")).await.json()["data"].clone();
            assert_eq!(seen["status"], day.status, "{id}: {seen}");
            assert_eq!(seen["pushName"], "Shop");
            let rows = all_messages(&app, id).await;
            let inbound = rows.iter().filter(|row| row["direction"] == "inbound").count();
            assert_eq!(inbound, day.inbound, "{id}");
            let levels: BTreeMap<String, i64> = rows
                .iter()
                .filter(|row| row["direction"] == "outbound")
                .map(|row| (row["waId"].as_str().unwrap().to_owned(), row["ack"].as_i64().unwrap()))
                .collect();
            assert_eq!(levels, day.outbound, "{id}");
            let told = names(&app, id).await;
            let count = |name: &str| told.iter().filter(|it| *it == name).count();
            assert_eq!(count("message"), day.inbound, "{id}: each once");
            assert_eq!(count("message_create"), day.outbound.len(), "{id}: each once");
        }
        app.close().await;
    })
    .await;
}

/// Levels of one message with repetitions, in some order, and after how many of them the message comes itself.
fn acknowledgements() -> impl Strategy<Value = (Vec<i64>, usize)> {
    let levels = proptest::collection::vec(prop_oneof![Just(-1_i64), 0..=4_i64], 1..9);
    levels.prop_flat_map(|levels| {
        let twice: Vec<_> = levels.iter().chain(&levels).copied().collect();
        (Just(twice).prop_shuffle(), 0..levels.len() * 2)
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn acknowledgements_in_any_order_with_any_repetitions_give_the_same_level() {
    on_each(async |database| {
        let app = App::start(database).await;
        app.external("shop", json!({})).await;
        let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &[6; 32]);
        let mut runner = TestRunner::new_with_rng(Config::default(), rng);
        let cases: Vec<_> =
            (0..60).map(|_| acknowledgements().new_tree(&mut runner).unwrap().current()).collect();
        let mut expected = BTreeMap::new();
        let now = app.clock.now().as_secs();
        let mut posts = Vec::new();
        for (number, (levels, itself)) in cases.iter().enumerate() {
            let id = format!("3EB0{number:04}");
            let message = json!({
                "id": id, "from": "6281200000001@c.us", "to": "4915110000001@c.us", "fromMe": true,
                "body": "x", "timestamp": now,
            });
            let mut told = Vec::new();
            for (place, level) in levels.iter().enumerate() {
                if place == *itself {
                    told.push(("message_create", json!({ "message": message })));
                }
                told.push(("message_ack", json!({ "message": message, "ack": level })));
            }
            posts.push(told);
            let highest = levels.iter().copied().filter(|level| *level != 0).max();
            expected.insert(id, highest.unwrap_or(0));
        }
        let app_ref = &app;
        let told = stream::iter(posts).map(async |told| {
            for (event, data) in told {
                let answer = app_ref.tell("shop", event, data).await;
                assert_eq!(answer.status, 200, "{}", answer.text());
            }
        });
        told.buffer_unordered(16).collect::<Vec<_>>().await;
        let reached: BTreeMap<String, i64> = all_messages(&app, "shop")
            .await
            .iter()
            .map(|row| (row["waId"].as_str().unwrap().to_owned(), row["ack"].as_i64().unwrap()))
            .collect();
        assert_eq!(reached, expected);
        app.close().await;
    })
    .await;
}

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

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_payloads_of_nonsense_break_nothing_and_change_nothing() {
    on_each(async |database| {
        let app = App::start(database).await;
        app.external("sound", json!({})).await;
        app.external("odd", json!({})).await;
        app.tell("sound", "ready", json!({})).await;
        let (before, told) = (app.row("sound").await, names(&app, "sound").await);

        let mut dice = Dice(7);
        let required = required();
        let wrong: Vec<_> = (0..7_000).map(|_| wrong(&mut dice, &required)).collect();
        let events =
            ["message", "message_ack", "qr", "change_state", "ready", "call", "group_join", "zzz"];
        let odd: Vec<_> = (0..3_000)
            .map(|_| {
                let event = events[usize::try_from(dice.roll(8)).unwrap()];
                let mut body = json!({ "event": event, "data": any_json(4, &mut dice) });
                if dice.roll(3) == 0 {
                    body["timestamp"] = any_json(1, &mut dice);
                }
                body.to_string().into_bytes()
            })
            .collect();
        let post = async |id: &str, body: &[u8]| {
            let path = format!("/api/whatsapp/webhook/{id}");
            let request =
                app.request(Method::POST, &path).header("content-type", "application/json");
            Answer::to(request.body(body.to_vec())).await
        };
        let refused = stream::iter(&wrong).map(async |body| {
            let answer = post("sound", body).await;
            let shown = String::from_utf8_lossy(body);
            assert_eq!(answer.status, 400, "{shown}: {}", answer.text());
            assert!(answer.json()["errors"][0]["pointer"].is_string(), "{shown}");
        });
        refused.buffer_unordered(32).collect::<Vec<()>>().await;
        let taken = stream::iter(&odd).map(async |body| {
            let answer = post("odd", body).await;
            let status = answer.status.as_u16();
            assert!(
                matches!(status, 200 | 202 | 400),
                "{status}: {}",
                String::from_utf8_lossy(body)
            );
        });
        taken.buffer_unordered(32).collect::<Vec<()>>().await;

        assert_eq!(app.row("sound").await, before);
        assert_eq!(names(&app, "sound").await, told);
        assert!(all_messages(&app, "sound").await.is_empty());
        app.clock.advance(Duration::from_secs(1));
        let next = app.tell("odd", "ready", json!({})).await.json();
        assert_eq!(next["data"]["status"], "session_connected");
        app.close().await;
    })
    .await;
}
