//! Acknowledgements that clients elsewhere post with an id alone: before their message, after it, or without one.

use std::time::{Duration, Instant};

use entity::state::{Direction, MessageStatus};
use sea_orm::{ConnectionTrait as _, TransactionTrait as _};
use serde_json::{Value, json};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use wagate::{
    event::{Ack, AckLevel, Event, NewMessage},
    maintenance::{Maintenance, Policy},
    store::{
        Patience, Store,
        events::{Mark, NewEvent, Posted, Recorded},
        retention::Table,
    },
};

use crate::{
    database::{Database, Kind, on, on_each},
    external_day::{all_messages, names},
    external_receiver::{ALICE, BOB, feed},
    http_app::App,
    world::DEADLINE,
};

pub(crate) async fn ack(app: &App, id: &str, message: Value, level: i64) -> Value {
    let told = app.tell(id, "message_ack", json!({ "message": message, "ack": level })).await;
    assert_eq!(told.status, 200, "{}", told.text());
    told.json()["data"].clone()
}

pub(crate) async fn waiting(database: &Database) -> i64 {
    database.count("SELECT count(*) FROM early_ack").await
}

#[tokio::test]
async fn an_acknowledgement_with_an_id_alone_waits_for_its_message() {
    on_each(async |database| {
        let app = App::start(database).await;
        app.external("shop", json!({})).await;
        let outcome = async |level: i64| {
            let told = ack(&app, "shop", json!({ "id": "3EB1" }), level).await;
            (told["recorded"] == true, told["duplicate"] == true)
        };
        assert_eq!(outcome(2).await, (false, false), "its message is not known");
        assert_eq!(outcome(2).await, (false, true));
        assert_eq!(outcome(3).await, (false, false), "higher");
        for lower in [1, 2, -1] {
            assert_eq!(outcome(lower).await, (false, true), "{lower}");
        }
        assert!(names(&app, "shop").await.is_empty());
        let message = json!({ "message": {
            "id": "3EB1", "from": BOB, "to": ALICE, "body": "x", "fromMe": true, "timestamp": 1_640_995_200,
        } });
        app.tell("shop", "message_create", message).await;
        let told = feed(&app, "shop").await;
        let named: Vec<_> = told.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(named, ["message_create", "message_ack"]);
        assert_eq!(told[1].1["ack"], 3);
        assert_eq!(told[1].1["message"]["messageId"], told[0].1["message"]["messageId"]);
        assert_eq!(all_messages(&app, "shop").await[0]["ack"], 3);
        assert_eq!(waiting(database).await, 0);
        for lower in [3, 2] {
            assert_eq!(outcome(lower).await, (false, true), "{lower}");
        }
        assert_eq!(outcome(4).await, (true, false));
        assert_eq!(all_messages(&app, "shop").await[0]["ack"], 4);
        app.close().await;
    })
    .await;
}

#[tokio::test]
async fn that_a_message_has_not_left_is_a_repetition_of_whatever_is_known_of_it() {
    on_each(async |database| {
        let app = App::start(database).await;
        app.external("shop", json!({})).await;
        let pending = async || {
            let told = ack(&app, "shop", json!({ "id": "3EB1" }), 0).await;
            (told["recorded"] == true, told["duplicate"] == true)
        };
        assert_eq!(pending().await, (false, false), "nothing is known of it");
        let message = json!({ "message": {
            "id": "3EB1", "from": BOB, "to": ALICE, "body": "x", "fromMe": true, "timestamp": 1_640_995_200,
        } });
        app.tell("shop", "message_create", message).await;
        assert_eq!(pending().await, (false, true));
        ack(&app, "shop", json!({ "id": "3EB1" }), 2).await;
        assert_eq!(pending().await, (false, true));
        assert_eq!(all_messages(&app, "shop").await[0]["ack"], 2);
        app.close().await;
    })
    .await;
}

/// Each looks for the other before either is there, unless one waits.
#[tokio::test(flavor = "multi_thread")]
async fn an_acknowledgement_and_its_message_that_come_to_two_daemons_at_once_find_each_other() {
    on(Kind::Postgres, async |database| {
        let app = App::start(database).await;
        app.external("shop", json!({})).await;
        let other = database.open().await;
        let session_key = app.row("shop").await.id;
        let at = app.clock.now();
        let chat = format!("{}@s.whatsapp.net", ALICE.split('@').next().unwrap());
        let message = NewMessage {
            wa_id: "3EB1".to_owned(),
            direction: Direction::Outbound,
            status: MessageStatus::Sent,
            ..app.message("15550002222", "x")
        };
        let (wa_id, by, level) = ("3EB1".to_owned(), chat.clone(), AckLevel::Read);
        let ack = Event::Ack(Ack { wa_id, chat, by, level, error: None, at });
        let record = |store: &Store, event: Event| {
            let new = NewEvent {
                organization_id: app.organization.clone(),
                session_key: session_key.clone(),
                generation: None,
                event,
                at,
                care: None,
                posted: Some(Posted {
                    mark: Mark::Carried,
                    until: at,
                    came: at,
                    to: None,
                    says_whose: true,
                    request: None,
                }),
            };
            let store = store.clone();
            TaskTracker::new()
                .spawn(async move { store.writer().record(new, Patience::Fail).await.unwrap() })
        };
        // Both are told while neither can be written.
        let holder = database.connect().await;
        let held = holder.begin().await.unwrap();
        held.execute_unprepared("SELECT id FROM organization FOR UPDATE").await.unwrap();
        let kept = async |most: i64| {
            let sql = "SELECT count(*) FROM pg_stat_activity \
                WHERE datname = current_database() AND wait_event_type = 'Lock'";
            database.count(sql).await >= most
        };
        let deadline = Instant::now() + DEADLINE;
        let sent = record(&other.store, Event::Message(Box::new(message)));
        while !kept(1).await {
            assert!(Instant::now() < deadline, "the message is not kept waiting");
            tokio::task::yield_now().await;
        }
        let acknowledged = record(&app.store, ack);
        while !kept(2).await && !acknowledged.is_finished() {
            assert!(Instant::now() < deadline, "the acknowledgement is not kept waiting");
            tokio::task::yield_now().await;
        }
        held.rollback().await.unwrap();
        assert!(matches!(sent.await.unwrap(), Recorded::New { .. }));
        acknowledged.await.unwrap();
        assert_eq!(all_messages(&app, "shop").await[0]["ack"], 3);
        assert_eq!(waiting(database).await, 0);
        other.close().await;
        app.close().await;
    })
    .await;
}

#[tokio::test]
async fn what_waits_for_a_message_that_never_comes_goes_after_a_week_or_with_its_session() {
    on_each(async |database| {
        let app = App::start(database).await;
        for id in ["shop", "other"] {
            app.external(id, json!({})).await;
            ack(&app, id, json!({ "id": "3EB1" }), 1).await;
        }
        assert_eq!(waiting(database).await, 2);
        app.delete("/api/whatsapp/session/other").await;
        assert_eq!(waiting(database).await, 1);
        let sweep = async || {
            let stop = CancellationToken::new();
            let swept = Maintenance::new(app.store.clone(), Policy::default(), stop).sweep().await;
            swept.unwrap().rows.get(&Table::EarlyAcks).copied().unwrap_or_default()
        };
        app.clock.advance(Duration::from_hours(7 * 24));
        assert_eq!(sweep().await, 0);
        app.clock.advance(Duration::from_millis(1));
        assert_eq!((sweep().await, waiting(database).await), (1, 0));
        app.close().await;
    })
    .await;
}

/// Seed 001's samples say nothing of whose a message is, but from whom it is.
#[tokio::test]
async fn a_message_from_the_own_number_stands_once_be_it_told_before_its_acknowledgement_or_after()
{
    on_each(async |database| {
        let app = App::start(database).await;
        app.external("shop", json!({})).await;
        app.tell("shop", "ready", json!({ "phoneNumber": "6289876543210" })).await;
        let own = |id: &str| {
            json!({ "id": id, "body": id, "from": BOB, "to": ALICE, "type": "chat", "timestamp": 1_640_995_200 })
        };
        let with_file = || {
            let mut message = own("3EB3");
            message["type"] = json!("image");
            message["hasMedia"] = json!(true);
            message["filesize"] = json!(7);
            message
        };
        let tell = async |message: Value| {
            app.tell("shop", "message", json!({ "message": message })).await.json()["data"].clone()
        };
        // Told of first: it seems to be received.
        for (message, acknowledged) in [
            (own("3EB1"), own("3EB1")),
            (own("3EB2"), own(&format!("true_{ALICE}_3EB2"))),
            (with_file(), with_file()),
        ] {
            assert_eq!(tell(message).await["recorded"], true);
            let heard = all_messages(&app, "shop").await[0].clone();
            assert_eq!((&heard["fromMe"], &heard["chat"]), (&json!(false), &json!(BOB)));
            assert_eq!(heard["media"].is_null(), acknowledged["hasMedia"] != true, "{heard}");
            let told = ack(&app, "shop", acknowledged, 2).await;
            assert_eq!(told["recorded"], true);
            let rows = all_messages(&app, "shop").await;
            let rows: Vec<_> = rows.iter().filter(|row| row["waId"] == heard["waId"]).collect();
            assert_eq!(rows.len(), 1, "{rows:?}");
            let seen = (&rows[0]["id"], &rows[0]["fromMe"], &rows[0]["chat"], &rows[0]["ack"]);
            assert_eq!(seen, (&heard["id"], &json!(true), &json!(ALICE), &json!(2)));
            assert_eq!(rows[0]["media"], heard["media"], "what was sealed opens");
            let (_, last) = feed(&app, "shop").await.pop().unwrap();
            assert_eq!(last["message"]["messageId"], heard["id"]);
        }
        // Acknowledged first: it is known for what it is.
        assert_eq!(ack(&app, "shop", own("3EB4"), 1).await["recorded"], true);
        assert_eq!(tell(own("3EB4")).await["duplicate"], true);
        let mut told = names(&app, "shop").await;
        assert_eq!(told.split_off(10), ["message_create", "message_ack"]);
        assert_eq!(told[1..4], ["message", "message_create", "message_ack"]);
        let rows = all_messages(&app, "shop").await;
        assert_eq!(rows.len(), 4, "{rows:?}");
        // Somebody else's of the same id is his.
        let mut other = own("3EB4");
        (other["from"], other["to"]) = (json!(ALICE), json!(BOB));
        assert_eq!(tell(other).await["recorded"], true);
        assert_eq!(all_messages(&app, "shop").await.len(), 5);
        app.close().await;
    })
    .await;
}

#[tokio::test]
async fn an_acknowledgement_makes_a_message_only_if_it_is_certainly_the_account_s() {
    on_each(async |database| {
        let app = App::start(database).await;
        app.external("shop", json!({})).await;
        // The seed's shape says nothing of who has sent it.
        let heard = json!({
            "id": "msg_123", "body": "Hello World", "from": ALICE, "to": BOB, "timestamp": 1_640_995_200,
        });
        ack(&app, "shop", heard.clone(), 2).await;
        assert!(all_messages(&app, "shop").await.is_empty(), "it may be anybody's");
        app.tell("shop", "message", json!({ "message": heard })).await;
        ack(&app, "shop", heard.clone(), 3).await;
        let mut said = heard.clone();
        said["fromMe"] = json!(false);
        ack(&app, "shop", said, 3).await;
        let rows = all_messages(&app, "shop").await;
        assert_eq!(rows.len(), 1, "{rows:?}");
        assert_eq!((&rows[0]["direction"], &rows[0]["ack"]), (&json!("inbound"), &json!(0)));
        // Whose number the session has is known: so is that this one is its own.
        app.tell("shop", "ready", json!({ "phoneNumber": "6289876543210" })).await;
        let own = json!({
            "id": "msg_124", "body": "Hi", "from": BOB, "to": ALICE, "timestamp": 1_640_995_201,
        });
        ack(&app, "shop", own, 2).await;
        // So does its id, or its own word.
        let own = json!({ "id": format!("true_{ALICE}_3EB5"), "from": BOB, "to": ALICE, "timestamp": 1_640_995_202 });
        ack(&app, "shop", own, 1).await;
        let rows = all_messages(&app, "shop").await;
        let of = |id: &str| rows.iter().find(|row| row["waId"] == id).unwrap_or_else(|| panic!("{id}"));
        assert_eq!((&of("msg_124")["fromMe"], &of("msg_124")["ack"]), (&json!(true), &json!(2)));
        assert_eq!(of("3EB5")["ack"], 1);
        assert_eq!(rows.len(), 3);
        app.close().await;
    })
    .await;
}
