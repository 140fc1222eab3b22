//! Acknowledgements that clients elsewhere post, in every order and again: the level is the same.

use std::collections::BTreeMap;

use futures_util::{StreamExt as _, stream};
use proptest::{
    prelude::*,
    strategy::ValueTree as _,
    test_runner::{Config, RngAlgorithm, TestRng, TestRunner},
};
use serde_json::{Value, json};

use crate::{
    database::on_each,
    external_day::{all_messages, names},
    external_early::waiting,
    external_receiver::{ALICE, BOB},
    http_app::App,
};

/// Levels of one message with repetitions, in some order, whether each carries the message or its id alone, and
/// after how many of them the message comes itself.
fn acknowledgements() -> impl Strategy<Value = (Vec<(i64, bool)>, usize)> {
    let level = (prop_oneof![Just(-1_i64), 0..=4_i64], any::<bool>());
    proptest::collection::vec(level, 1..9).prop_flat_map(|levels| {
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
            for (place, (level, is_whole)) in levels.iter().enumerate() {
                if place == *itself {
                    told.push(("message_create", json!({ "message": message })));
                }
                let carried = if *is_whole { message.clone() } else { json!({ "id": id }) };
                told.push(("message_ack", json!({ "message": carried, "ack": level })));
            }
            posts.push(told);
            let highest = levels.iter().map(|(level, _)| *level).filter(|level| *level != 0).max();
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
        // All of it says where it came from.
        let call = json!({ "call": { "id": "c", "from": "4915110000001@c.us", "timestamp": now } });
        assert_eq!(app.tell("shop", "call", call).await.status, 200);
        let page = "/api/whatsapp/session/shop/events/page?after=0&limit=1000";
        let told = app.get(page).await.json()["data"].as_array().unwrap().clone();
        let channel = |it: &Value| match it["event"].as_str().unwrap() {
            "message_ack" => it["data"]["channel"].clone(),
            "call" => it["data"]["call"]["channel"].clone(),
            _ => it["data"]["message"]["channel"].clone(),
        };
        let is_of = |name: &str| told.iter().filter(|it| it["event"] == name).count();
        assert!(is_of("message_ack") > 0 && is_of("call") == 1, "{told:#?}");
        let of_messages = |it: &&Value| {
            let word = it["event"].as_str().unwrap();
            matches!(word, "message" | "message_create" | "message_ack" | "call")
        };
        let other = told.iter().filter(of_messages).find(|it| channel(it) != "external");
        assert_eq!(other, None);
        app.close().await;
    })
    .await;
}

/// Seed 001's own: neither its `ready` nor its `message_ack` says whose anything is.
#[tokio::test]
async fn an_acknowledgement_as_the_seed_has_it_counts_where_the_session_s_number_is_known() {
    on_each(async |database| {
        let app = App::start(database).await;
        app.external("shop", json!({ "phoneNumber": "6281234567890" })).await;
        assert_eq!(app.tell("shop", "ready", json!({})).await.status, 200);
        let message = json!({
            "id": "msg_123", "body": "Hello World", "from": ALICE, "to": BOB,
            "timestamp": 1_640_995_200,
        });
        let acknowledged = json!({ "message": message, "ack": 2 });
        for (recorded, duplicate) in [(true, false), (false, true)] {
            let told = app.tell("shop", "message_ack", acknowledged.clone()).await.json();
            let seen = (&told["data"]["recorded"], &told["data"]["duplicate"]);
            assert_eq!(seen, (&json!(recorded), &json!(duplicate)));
        }
        let rows = all_messages(&app, "shop").await;
        assert_eq!(rows.len(), 1, "{rows:?}");
        let seen = (&rows[0]["waId"], &rows[0]["fromMe"], &rows[0]["ack"], &rows[0]["body"]);
        assert_eq!(seen, (&json!("msg_123"), &json!(true), &json!(2), &json!("Hello World")));
        assert_eq!(names(&app, "shop").await, ["ready", "message_create", "message_ack"]);
        app.close().await;
    })
    .await;
}

/// What a session has recorded as its own is, whoever the session is.
#[tokio::test]
async fn an_acknowledgement_that_does_not_say_whose_counts_for_a_message_that_was_sent() {
    on_each(async |database| {
        let app = App::start(database).await;
        app.external("shop", json!({})).await;
        app.tell("shop", "ready", json!({})).await;
        // Of before the session was connected, so that it does not say whose that is.
        let message = |id: &str| {
            json!({ "id": id, "body": "Hi", "from": ALICE, "to": BOB, "timestamp": 1_640_995_200 })
        };
        let mut sent = message("msg_123");
        sent["fromMe"] = json!(true);
        app.tell("shop", "message_create", json!({ "message": sent })).await;
        assert_eq!(app.row("shop").await.phone_number, None);
        let acknowledge = async |id: &str, level: i64| {
            let acknowledged = json!({ "message": message(id), "ack": level });
            app.tell("shop", "message_ack", acknowledged).await.json()["data"]["recorded"].clone()
        };
        for level in [2, 3] {
            assert_eq!(acknowledge("msg_123", level).await, Value::Bool(true));
            assert_eq!(all_messages(&app, "shop").await[0]["ack"], level);
        }
        // Of a message that nobody has told of it may be anybody's: it waits.
        assert_eq!(acknowledge("msg_124", 2).await, Value::Bool(false));
        assert_eq!((all_messages(&app, "shop").await.len(), waiting(database).await), (1, 1));
        let told = names(&app, "shop").await;
        assert_eq!(told, ["ready", "message_create", "message_ack", "message_ack"]);
        app.close().await;
    })
    .await;
}
