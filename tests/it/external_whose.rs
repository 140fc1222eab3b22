//! Whose a message is that does not say so, and whose a session is by what its messages say.

use std::time::Duration;

use serde_json::{Value, json};

use crate::{
    database::{Database, on_each},
    external_day::all_messages,
    external_early::{ack, waiting},
    external_receiver::{ALICE, BOB, feed},
    handover::{SESSION, status},
    http_app::App,
};

const GROUP: &str = "120363042424242424@g.us";

/// A daemon with a session whose number is Bob's.
async fn start(database: &Database) -> App {
    let app = App::start(database).await;
    app.external("shop", json!({})).await;
    app.tell("shop", "ready", json!({ "phoneNumber": "6289876543210" })).await;
    app
}

fn message(id: &str, from: &str, to: &str) -> Value {
    json!({ "id": id, "body": id, "from": from, "to": to, "type": "chat", "timestamp": 1_640_995_200 })
}

fn by(author: &str, mut message: Value) -> Value {
    message["author"] = json!(author);
    message
}

fn says(from_me: bool, mut message: Value) -> Value {
    message["fromMe"] = json!(from_me);
    message
}

async fn tell(app: &App, event: &str, message: &Value) -> Value {
    let told = app.tell("shop", event, json!({ "message": message })).await;
    assert_eq!(told.status, 200, "{}", told.text());
    told.json()["data"].clone()
}

#[tokio::test]
async fn a_message_that_does_not_say_whose_it_is_is_the_account_s_if_it_is_from_it() {
    on_each(async |database| {
        let app = start(database).await;
        let hidden = "100000000000001@lid";
        for (told, from_me, chat, from) in [
            (message("3EB1", ALICE, BOB), false, ALICE, ALICE),
            (message("3EB2", BOB, ALICE), true, ALICE, BOB),
            (by(ALICE, message("3EB3", GROUP, BOB)), false, GROUP, ALICE),
            (by(BOB, message("3EB4", GROUP, BOB)), true, GROUP, BOB),
            (message("3EB5", BOB, GROUP), true, GROUP, BOB),
            // What it says itself is what counts.
            (says(true, message("3EB6", ALICE, GROUP)), true, GROUP, ALICE),
            (message(&format!("false_{BOB}_3EB7"), BOB, ALICE), false, BOB, BOB),
            // That hides the number, which may be the account's.
            (message("3EB8", hidden, ALICE), true, ALICE, hidden),
            // Much of what is from a group is somebody's who hides it.
            (by(hidden, message("3EB9", GROUP, BOB)), false, GROUP, hidden),
        ] {
            assert_eq!(tell(&app, "message_create", &told).await["recorded"], true, "{told}");
            let row = all_messages(&app, "shop").await[0].clone();
            let seen = (&row["fromMe"], &row["chat"], &row["from"]);
            assert_eq!(seen, (&json!(from_me), &json!(chat), &json!(from)), "{told}");
            let (name, _) = feed(&app, "shop").await.pop().unwrap();
            assert_eq!(name, if from_me { "message_create" } else { "message" });
        }
        // whatsapp-web.js tells of what is received as `message` as well.
        assert_eq!(tell(&app, "message", &message("3EB1", ALICE, BOB)).await["duplicate"], true);
        app.close().await;
    })
    .await;
}

#[tokio::test]
async fn a_message_that_was_told_of_as_received_has_one_row_when_it_is_told_of_as_sent() {
    on_each(async |database| {
        let app = start(database).await;
        for (number, (heard, sent)) in [
            (message("3EB1", BOB, ALICE), message("3EB1", BOB, ALICE)),
            (message("3EB2", BOB, ALICE), says(true, message("3EB2", BOB, ALICE))),
            (by(BOB, message("3EB3", GROUP, BOB)), says(true, message("3EB3", BOB, GROUP))),
            (
                by(BOB, message("3EB4", GROUP, BOB)),
                says(true, by(BOB, message("3EB4", GROUP, BOB))),
            ),
        ]
        .into_iter()
        .enumerate()
        {
            assert_eq!(tell(&app, "message", &heard).await["recorded"], true, "{heard}");
            let row = all_messages(&app, "shop").await[0].clone();
            assert_eq!(row["fromMe"], false, "{row}");
            assert_eq!(tell(&app, "message_create", &sent).await["recorded"], true, "{sent}");
            let rows = all_messages(&app, "shop").await;
            assert_eq!(rows.len(), number + 1, "{rows:?}");
            let to = if number < 2 { ALICE } else { GROUP };
            let seen = (&rows[0]["id"], &rows[0]["fromMe"], &rows[0]["chat"], &rows[0]["to"]);
            assert_eq!(seen, (&row["id"], &json!(true), &json!(to), &json!(to)));
            let (name, anew) = feed(&app, "shop").await.pop().unwrap();
            let seen = (name.as_str(), &anew["message"]["messageId"]);
            assert_eq!(
                seen,
                ("message_create", &row["id"]),
                "whoever heard of it hears what it is"
            );
            for (event, again) in [("message_create", &sent), ("message", &heard)] {
                assert_eq!(tell(&app, event, again).await["duplicate"], true, "{event} {again}");
            }
            // Its acknowledgements are the account's.
            let told = ack(&app, "shop", json!({ "id": heard["id"] }), 2).await;
            assert_eq!(told["recorded"], true, "{heard}");
            assert_eq!(all_messages(&app, "shop").await[0]["ack"], 2);
        }
        app.close().await;
    })
    .await;
}

#[tokio::test]
async fn where_the_account_is_not_known_what_was_told_of_as_received_stays_so() {
    on_each(async |database| {
        let app = App::start(database).await;
        app.external("shop", json!({})).await;
        let heard = message("3EB1", ALICE, BOB);
        assert_eq!(tell(&app, "message", &heard).await["recorded"], true);
        assert_eq!(tell(&app, "message_create", &heard).await["duplicate"], true);
        let rows = all_messages(&app, "shop").await;
        assert_eq!((rows.len(), &rows[0]["fromMe"]), (1, &json!(false)));
        app.close().await;
    })
    .await;
}

#[tokio::test]
async fn a_received_message_says_to_whom_it_was() {
    on_each(async |database| {
        let app = start(database).await;
        let other = "6285555555555@c.us";
        tell(&app, "message", &message("3EB1", ALICE, other)).await;
        tell(&app, "message", &by(ALICE, message("3EB2", GROUP, BOB))).await;
        let mut unsaid = message("3EB3", ALICE, BOB);
        unsaid.as_object_mut().unwrap().remove("to");
        tell(&app, "message", &unsaid).await;
        let rows = all_messages(&app, "shop").await;
        let to: Vec<_> = rows.iter().map(|row| row["to"].clone()).collect();
        assert_eq!(to, [BOB, BOB, other]);
        // As events tell it; and one that is shown alone is the same.
        let told: Vec<_> =
            feed(&app, "shop").await[1..].iter().map(|it| it.1["message"]["to"].clone()).collect();
        assert_eq!(told, [other, BOB, BOB]);
        let path = format!("{SESSION}/shop/messages/{}", rows[0]["id"].as_str().unwrap());
        assert_eq!(app.get(&path).await.json()["data"]["to"], BOB);
        // Of an embedded session it is its account.
        app.session("here").await;
        app.connect("here").await;
        app.hear("here", "15550002222", "Hello").await;
        let own = app.row("here").await.phone_number.unwrap();
        assert_eq!(all_messages(&app, "here").await[0]["to"], format!("{own}@c.us"));
        app.close().await;
    })
    .await;
}

#[tokio::test]
async fn that_a_message_has_not_left_yet_is_remembered_until_the_message_comes() {
    on_each(async |database| {
        let app = start(database).await;
        let id = json!({ "id": "3EB1" });
        let told = ack(&app, "shop", id.clone(), 0).await;
        assert_eq!((&told["recorded"], &told["duplicate"]), (&json!(false), &json!(false)));
        assert_eq!(ack(&app, "shop", id.clone(), 0).await["duplicate"], true);
        assert_eq!(waiting(database).await, 1);
        // That it was refused is more, and that it has not left is no more than that.
        assert_eq!(ack(&app, "shop", id.clone(), -1).await["duplicate"], false);
        assert_eq!(ack(&app, "shop", id.clone(), 0).await["duplicate"], true);
        tell(&app, "message_create", &message("3EB1", BOB, ALICE)).await;
        assert_eq!(all_messages(&app, "shop").await[0]["ack"], -1);
        // Of a message that comes then nothing is told but that.
        ack(&app, "shop", json!({ "id": "3EB2" }), 0).await;
        tell(&app, "message_create", &message("3EB2", BOB, ALICE)).await;
        let row = all_messages(&app, "shop").await[0].clone();
        assert_eq!((&row["ack"], &row["status"]), (&json!(0), &json!("sent")));
        assert_eq!((feed(&app, "shop").await.len(), waiting(database).await), (4, 0));
        app.close().await;
    })
    .await;
}

/// Seed 001's own `ready` does not say whose the session is. What its client says of messages does.
#[tokio::test]
async fn a_session_s_number_is_learnt_from_what_its_messages_say_and_it_takes_over_then() {
    on_each(async |database| {
        let app = App::start(database).await;
        let number = async || status(&app, "shop").await["phoneNumber"].clone();
        app.external("old", json!({})).await;
        app.tell("old", "ready", json!({ "phoneNumber": "6289876543210" })).await;
        app.tell("old", "disconnected", json!({ "reason": "LOGOUT" })).await;
        app.external("shop", json!({})).await;
        let now = |message: Value| {
            let mut message = message;
            message["timestamp"] = json!(app.clock.now().as_secs());
            message
        };
        app.clock.advance(Duration::from_secs(2));
        let sent = |id| says(true, message(id, BOB, ALICE));
        tell(&app, "message_create", &now(sent("3EB0"))).await;
        assert_eq!(number().await, Value::Null, "it is not connected");
        app.tell("shop", "ready", json!({})).await;
        app.clock.advance(Duration::from_secs(2));
        // Not said, of before, of a group, and from an address without a number.
        tell(&app, "message", &now(message("3EB1", ALICE, BOB))).await;
        tell(&app, "message_create", &sent("3EB2")).await;
        tell(&app, "message", &now(says(false, by(ALICE, message("3EB3", GROUP, BOB))))).await;
        tell(&app, "message", &now(says(false, message("3EB9", GROUP, BOB)))).await;
        // One from a group is the account's only if that says so.
        let of_group = now(by(ALICE, message("3EBA", GROUP, BOB)));
        tell(&app, "message_create", &of_group).await;
        let rows = all_messages(&app, "shop").await;
        let of_group = rows.iter().find(|row| row["waId"] == "3EBA").unwrap();
        assert_eq!(of_group["fromMe"], false);
        tell(&app, "message_create", &now(says(true, message("3EB4", "1@lid", ALICE)))).await;
        assert_eq!(number().await, Value::Null);
        assert_eq!(status(&app, "old").await["migratedTo"], Value::Null);
        tell(&app, "message_create", &now(sent("3EB5"))).await;
        assert_eq!(number().await, "6289876543210");
        assert_eq!(status(&app, "old").await["migratedTo"], "shop");
        // Once known it is not changed by a message.
        tell(&app, "message_create", &now(says(true, message("3EB6", ALICE, BOB)))).await;
        assert_eq!(number().await, "6289876543210");
        // Or to whom a message of somebody else's is.
        app.external("other", json!({})).await;
        app.tell("other", "ready", json!({})).await;
        app.clock.advance(Duration::from_secs(2));
        let heard = now(says(false, message("3EB7", ALICE, "6287777777777@c.us")));
        app.tell("other", "message", json!({ "message": heard })).await;
        assert_eq!(status(&app, "other").await["phoneNumber"], "6287777777777");
        // What has ended since it is connected was at work beside it.
        app.external("beside", json!({})).await;
        app.tell("beside", "ready", json!({ "phoneNumber": "6286666666666" })).await;
        app.external("late", json!({})).await;
        app.tell("late", "ready", json!({})).await;
        app.clock.advance(Duration::from_secs(2));
        app.tell("beside", "disconnected", json!({ "reason": "LOGOUT" })).await;
        let sent = now(says(true, message("3EB8", "6286666666666@c.us", ALICE)));
        app.tell("late", "message_create", json!({ "message": sent })).await;
        assert_eq!(status(&app, "late").await["phoneNumber"], "6286666666666");
        assert_eq!(status(&app, "beside").await["migratedTo"], Value::Null);
        app.close().await;
    })
    .await;
}
