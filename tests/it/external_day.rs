//! A day of fifty clients elsewhere. `external_acks.rs` has acknowledgements in every order, `external_nonsense.rs` what
//! nobody should post.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::{StreamExt as _, stream};
use serde_json::{Value, json};

use crate::{database::on_each, http_app::App};

const SESSIONS: u64 = 50;

/// A generator of numbers, so that a day is the same each time.
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    pub(crate) fn roll(&mut self, sides: u64) -> u64 {
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
    /// How many there are of what has no state: by the event's name, or by the kind of message.
    once: BTreeMap<&'static str, usize>,
}

/// What the clients of a day post, all of them together.
const KINDS: [&str; 17] = [
    "qr",
    "authenticated",
    "loading_screen",
    "ready",
    "change_state",
    "disconnected",
    "auth_failure",
    "message",
    "message_create",
    "message_ack",
    "message_reaction",
    "message_revoke",
    "call",
    "group_join",
    "group_leave",
    "group_update",
    "media_uploaded",
];

/// Events that say nothing of a session's state, by what they are called where they come from and here.
const ASIDE: [(&str, &str); 7] = [
    ("call", "call"),
    ("message_reaction", "reaction"),
    ("message_revoke", "revoke"),
    ("group_join", "group_join"),
    ("group_leave", "group_leave"),
    ("group_update", "group_update"),
    ("media_uploaded", "unknown"),
];

/// What a client tells of one of these.
fn aside(event: &str, other: &str, me: &str, id: &str, at: i64) -> Value {
    let named = json!({ "fromMe": false, "remote": other, "id": id });
    let seconds = at / 1000;
    match event {
        "call" => {
            json!({ "call": { "id": id, "from": other, "isVideo": true, "timestamp": seconds } })
        }
        "message_reaction" => json!({ "reaction": {
            "id": named, "reaction": "👍", "senderId": other, "timestamp": seconds,
            "msgId": { "fromMe": true, "remote": other, "id": "3EB0" },
        } }),
        "message_revoke" => json!({ "message": {
            "id": named, "from": other, "to": me, "type": "revoked", "timestamp": seconds,
        } }),
        "media_uploaded" => json!({ "message": { "id": id } }),
        _ => json!({ "notification": {
            "id": { "remote": "1203630001@g.us", "id": id }, "chatId": "1203630001@g.us",
            "author": other, "recipientIds": [me], "timestamp": seconds,
        } }),
    }
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

        let (mut inbound, mut outbound, mut once) = (0, BTreeMap::new(), BTreeMap::new());
        for hour in 0..24 {
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
            if dice.roll(2) == 0 {
                clock += 1_000;
                let (event, name) = ASIDE[usize::try_from(dice.roll(7)).unwrap()];
                let other = format!("4915110000{}@c.us", dice.roll(10));
                let id = format!("{name}-{session}-{hour}");
                say(clock, event, aside(event, &other, &me, &id, clock));
                *once.entry(name).or_default() += 1;
            }
        }
        clock = begin + 24 * 3_600_000 + 1_800_000;
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
        Self { posts, status, inbound, outbound, once }
    }
}

pub(crate) async fn all_messages(app: &App, id: &str) -> Vec<Value> {
    let path = format!("/api/whatsapp/session/{id}/messages?limit=500");
    app.get(&path).await.json()["data"].as_array().unwrap().clone()
}

pub(crate) async fn names(app: &App, id: &str) -> Vec<String> {
    let path = format!("/api/whatsapp/session/{id}/events/page?after=0&limit=1000");
    let page = app.get(&path).await.json();
    let names = page["data"].as_array().unwrap().iter().map(|it| it["event"].as_str().unwrap());
    names.filter(|name| !name.contains('.')).map(ToOwned::to_owned).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_day_of_fifty_clients_out_of_order_and_twice_ends_in_the_right_state() {
    on_each(async |database| {
        let app = App::start(database).await;
        let begin = app.clock.now().0 - 26 * 3_600_000;
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
        assert!(posts > 10_000, "{posts} is not much of a day");
        let met: BTreeSet<_> = days
            .iter()
            .flat_map(|day| &day.posts)
            .map(|it| it["event"].as_str().unwrap())
            .collect();
        assert_eq!(met, KINDS.into());
        let ends: BTreeSet<_> = days.iter().map(|day| day.status).collect();
        assert_eq!(ends.len(), 4, "{ends:?}");
        for (id, day) in ids.iter().zip(&days) {
            let seen = app.get(&format!("/api/whatsapp/session/{id}")).await.json()["data"].clone();
            assert_eq!(seen["status"], day.status, "{id}: {seen}");
            assert_eq!(seen["pushName"], "Shop");
            let rows = all_messages(&app, id).await;
            let inbound = rows.iter().filter(|row| row["direction"] == "inbound").count();
            let of = |name: &str| day.once.get(name).copied().unwrap_or_default();
            let aside = of("reaction") + of("revoke");
            assert_eq!(inbound, day.inbound + aside, "{id}");
            for kind in ["reaction", "revoke"] {
                let kept = rows.iter().filter(|row| row["type"] == kind).count();
                assert_eq!(kept, of(kind), "{id}: {kind}");
            }
            let levels: BTreeMap<String, i64> = rows
                .iter()
                .filter(|row| row["direction"] == "outbound")
                .map(|row| (row["waId"].as_str().unwrap().to_owned(), row["ack"].as_i64().unwrap()))
                .collect();
            assert_eq!(levels, day.outbound, "{id}");
            let told = names(&app, id).await;
            let count = |name: &str| told.iter().filter(|it| *it == name).count();
            assert_eq!(count("message"), day.inbound + aside, "{id}: each once");
            for name in ["call", "group_join", "group_leave", "group_update", "unknown"] {
                assert_eq!(count(name), of(name), "{id}: {name}");
            }
            assert_eq!(count("message_create"), day.outbound.len(), "{id}: each once");
        }
        app.close().await;
    })
    .await;
}
