//! Acknowledgements of messages that were sent by a session which has handed over.

use std::collections::BTreeMap;

use entity::{
    id::MessageId,
    state::{Direction, MessageStatus},
};
use serde_json::{Value, json};
use wagate::{
    event::{Ack, AckLevel, Event, NewMessage},
    store::events::Recorded,
};

use crate::{
    database::on_each,
    handover::{NUMBER, SESSION, account, hear, logged_out, ready},
    http_app::App,
};

const BOB: &str = "15550002222";

/// A message that the account has sent, from wherever.
fn sent(app: &App, wa_id: &str) -> NewMessage {
    NewMessage {
        wa_id: wa_id.to_owned(),
        sender: format!("{NUMBER}@s.whatsapp.net"),
        direction: Direction::Outbound,
        status: MessageStatus::Sent,
        ..app.message(BOB, wa_id)
    }
}

async fn ack(app: &App, id: &str, wa_id: &str, level: AckLevel) -> Recorded {
    let chat = format!("{BOB}@s.whatsapp.net");
    let error = (level == AckLevel::Error).then(|| "479".to_owned());
    let (wa_id, by, at) = (wa_id.to_owned(), chat.clone(), app.clock.now());
    app.happen(id, Event::Ack(Ack { wa_id, chat, by, level, error, at })).await
}

/// The levels that a session shows, by WhatsApp's ids.
async fn levels(app: &App, id: &str) -> BTreeMap<String, (i64, String)> {
    let page = app.get(&format!("{SESSION}/{id}/messages?limit=100")).await.json();
    let rows = page["data"].as_array().unwrap().iter();
    rows.filter(|row| row["fromMe"] == true)
        .map(|row| {
            let text = |name: &str| row[name].as_str().unwrap().to_owned();
            (text("waId"), (row["ack"].as_i64().unwrap(), text("status")))
        })
        .collect()
}

fn level(level: i64, status: &str) -> (i64, String) {
    (level, status.to_owned())
}

#[tokio::test]
async fn an_acknowledgement_at_the_new_session_is_one_of_the_old_session_s_message() {
    on_each(async |database| {
        let app = App::start(database).await;
        // Two that have handed over, one after the other, and one that has nothing to do with it.
        for id in ["first", "second", "other"] {
            app.session(id).await;
        }
        let lid = |lid| Event::Ready(account(NUMBER, Some(lid)));
        app.happen("other", lid("9@lid")).await;
        hear(&app, "other", &sent(&app, "3EB0OTHER")).await;
        for id in ["first", "second"] {
            app.happen(id, lid("1@lid")).await;
            hear(&app, id, &sent(&app, &format!("3EB0{id}"))).await;
            logged_out(&app, id).await;
        }
        hear(&app, "second", &NewMessage { direction: Direction::Inbound, ..sent(&app, "3EB0IN") })
            .await;
        app.session("new").await;
        app.happen("new", lid("1@lid")).await;
        assert_eq!(app.row("first").await.migrated_to, Some(app.row("new").await.id));

        for id in ["first", "second"] {
            let wa_id = format!("3EB0{id}");
            assert!(matches!(ack(&app, "new", &wa_id, AckLevel::Read).await, Recorded::New { .. }));
            assert_eq!(ack(&app, "new", &wa_id, AckLevel::Read).await, Recorded::Duplicate);
            for lower in [AckLevel::Delivered, AckLevel::Sent, AckLevel::Error] {
                assert_eq!(ack(&app, "new", &wa_id, lower).await, Recorded::Ignored, "{lower:?}");
            }
            for shown_by in [id, "new"] {
                assert_eq!(levels(&app, shown_by).await[&wa_id], level(3, "read"), "{shown_by}");
            }
        }
        // What it never was told of, what came to it, and what is another account's.
        for wa_id in ["3EB0NONE", "3EB0IN", "3EB0OTHER"] {
            assert_eq!(ack(&app, "new", wa_id, AckLevel::Read).await, Recorded::Ignored, "{wa_id}");
        }
        assert_eq!(levels(&app, "other").await["3EB0OTHER"].0, 0);
        // It is the new session's event, and the old session's own word still counts for its own.
        let path = format!("{SESSION}/new/events/page?after=0&limit=100");
        let page = app.get(&path).await.json();
        let acks: Vec<&Value> = page["data"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|it| it["event"] == "message_ack")
            .map(|it| &it["data"]["message"]["id"])
            .collect();
        assert_eq!(acks, [&json!("3EB0first"), &json!("3EB0second")]);
        ack(&app, "first", "3EB0first", AckLevel::Played).await;
        assert_eq!(levels(&app, "new").await["3EB0first"], level(4, "played"));
        app.close().await;
    })
    .await;
}

#[tokio::test]
async fn a_message_that_both_have_is_at_one_level_and_never_goes_down() {
    on_each(async |database| {
        let app = App::start(database).await;
        app.session("old").await;
        ready(&app, "old").await;
        let ids = ["3EB0A", "3EB0B", "3EB0C", "3EB0D"];
        let messages = ids.map(|id| sent(&app, id));
        for message in &messages {
            hear(&app, "old", message).await;
        }
        ack(&app, "old", "3EB0B", AckLevel::Played).await;
        ack(&app, "old", "3EB0C", AckLevel::Error).await;
        logged_out(&app, "old").await;
        app.clock.advance(std::time::Duration::from_secs(1));
        app.session("new").await;
        ready(&app, "new").await;
        // Its phone hands over what the other has had.
        for message in &messages {
            let id = MessageId::new(app.clock.now(), rand::random());
            hear(&app, "new", &NewMessage { id, ..message.clone() }).await;
        }
        ack(&app, "new", "3EB0A", AckLevel::Delivered).await;
        assert_eq!(ack(&app, "new", "3EB0B", AckLevel::Read).await, Recorded::Ignored);
        assert!(matches!(ack(&app, "new", "3EB0C", AckLevel::Sent).await, Recorded::New { .. }));
        ack(&app, "new", "3EB0D", AckLevel::Error).await;
        for id in ["old", "new"] {
            let levels = levels(&app, id).await;
            let shown = ids.map(|id| levels[id].0);
            assert_eq!(shown, [2, 4, 1, -1], "{id}");
        }
        // Each row by itself: what the old session had as played is no less in its own.
        let sql = "SELECT ack FROM message WHERE wa_id = '3EB0A'";
        for row in database.query(sql).await {
            assert_eq!(row.try_get::<i16>("", "ack").unwrap(), 2);
        }
        app.close().await;
    })
    .await;
}

#[tokio::test]
async fn an_acknowledgement_at_the_old_session_is_one_of_the_new_session_s_message() {
    on_each(async |database| {
        let app = App::start(database).await;
        for id in ["first", "second"] {
            app.session(id).await;
            ready(&app, id).await;
            hear(&app, id, &sent(&app, &format!("3EB0{id}"))).await;
            logged_out(&app, id).await;
        }
        app.session("new").await;
        ready(&app, "new").await;
        hear(&app, "new", &sent(&app, "3EB0new")).await;
        let recorded = ack(&app, "first", "3EB0new", AckLevel::Read).await;
        assert!(matches!(recorded, Recorded::New { .. }), "{recorded:?}");
        assert_eq!(ack(&app, "first", "3EB0new", AckLevel::Delivered).await, Recorded::Ignored);
        assert_eq!(ack(&app, "new", "3EB0new", AckLevel::Read).await, Recorded::Ignored);
        // One of those that have handed over is told of another's.
        ack(&app, "first", "3EB0second", AckLevel::Delivered).await;
        let levels = levels(&app, "new").await;
        assert_eq!(levels["3EB0new"], level(3, "read"));
        assert_eq!(levels["3EB0second"], level(2, "delivered"));
        assert_eq!(levels["3EB0first"].0, 0);
        app.close().await;
    })
    .await;
}

#[tokio::test]
async fn what_the_old_session_has_sent_is_not_received_when_the_new_one_s_client_tells_of_it() {
    on_each(async |database| {
        let app = App::start(database).await;
        app.session("old").await;
        ready(&app, "old").await;
        hear(&app, "old", &sent(&app, "3EB1")).await;
        logged_out(&app, "old").await;
        app.clock.advance(std::time::Duration::from_secs(1));
        app.external("new", json!({})).await;
        app.tell("new", "ready", json!({ "phoneNumber": NUMBER })).await;
        assert_eq!(app.row("old").await.migrated_to, Some(app.row("new").await.id));
        let tell = async |wa_id: &str| {
            let message = json!({ "message": {
                "id": wa_id, "from": NUMBER, "to": BOB, "body": "x",
                "timestamp": app.clock.now().as_secs(),
            } });
            let told = app.tell("new", "message", message).await.json();
            (told["data"]["recorded"] == true, told["data"]["duplicate"] == true)
        };
        assert_eq!(tell("3EB1").await, (false, true));
        assert_eq!(tell("3EB2").await, (true, false), "nothing is known of it");
        assert_eq!(database.count("SELECT count(*) FROM message WHERE wa_id = '3EB1'").await, 1);
        app.close().await;
    })
    .await;
}

#[tokio::test]
async fn an_acknowledgement_that_waits_at_one_session_finds_its_message_at_another() {
    on_each(async |database| {
        let app = App::start(database).await;
        let ready = async |id: &str| {
            app.clock.advance(std::time::Duration::from_secs(1));
            app.tell(id, "ready", json!({ "phoneNumber": NUMBER })).await;
        };
        let acknowledge = async |id: &str, wa_id: &str| {
            let told = json!({ "message": { "id": wa_id }, "ack": 3 });
            let told = app.tell(id, "message_ack", told).await.json();
            (told["data"]["recorded"] == true, told["data"]["duplicate"] == true)
        };
        let create = async |id: &str, wa_id: &str| {
            let message = json!({ "message": {
                "id": wa_id, "from": NUMBER, "to": BOB, "body": "x", "fromMe": true,
                "timestamp": app.clock.now().as_secs(),
            } });
            assert_eq!(app.tell(id, "message_create", message).await.status, 200);
        };
        app.external("old", json!({})).await;
        ready("old").await;
        // Told before the handover, and after it.
        assert_eq!(acknowledge("old", "3EB1").await, (false, false));
        app.tell("old", "disconnected", json!({ "reason": "LOGOUT" })).await;
        app.external("new", json!({})).await;
        ready("new").await;
        assert_eq!(app.row("old").await.migrated_to, Some(app.row("new").await.id));
        for (id, wa_id) in [("old", "3EB2"), ("new", "3EB3")] {
            assert_eq!(acknowledge(id, wa_id).await, (false, false), "{wa_id}");
            assert_eq!(acknowledge(id, wa_id).await, (false, true), "{wa_id}");
        }
        for (id, wa_id) in [("new", "3EB1"), ("new", "3EB2"), ("old", "3EB3")] {
            create(id, wa_id).await;
            assert_eq!(levels(&app, "new").await[wa_id], level(3, "read"), "{wa_id}");
        }
        assert_eq!(database.count("SELECT count(*) FROM early_ack").await, 0);
        app.close().await;
    })
    .await;
}
