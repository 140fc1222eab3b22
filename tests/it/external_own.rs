//! Messages of the account's own that were told of as if somebody else had sent them, and what is told of them later.

use serde_json::{Value, json};

use crate::{
    database::{Database, on_each},
    external_day::{all_messages, names},
    external_early::{ack, waiting},
    external_receiver::{ALICE, BOB, feed},
    http_app::App,
};

/// A daemon with a session whose number is Bob's.
async fn start(database: &Database) -> App {
    let app = App::start(database).await;
    app.external("shop", json!({})).await;
    app.tell("shop", "ready", json!({ "phoneNumber": "6289876543210" })).await;
    app
}

fn own(id: &str) -> Value {
    json!({ "id": id, "body": id, "from": BOB, "to": ALICE, "type": "chat", "timestamp": 1_640_995_200 })
}

async fn tell(app: &App, event: &str, message: &Value) -> Value {
    let told = app.tell("shop", event, json!({ "message": message })).await;
    assert_eq!(told.status, 200, "{}", told.text());
    told.json()["data"].clone()
}

#[tokio::test]
async fn what_waited_while_a_message_counted_as_received_is_told_when_it_is_the_account_s() {
    on_each(async |database| {
        let app = start(database).await;
        assert_eq!(tell(&app, "message", &own("3EB1")).await["recorded"], true);
        let heard = all_messages(&app, "shop").await[0]["id"].clone();
        let told = ack(&app, "shop", json!({ "id": "3EB1" }), 3).await;
        assert_eq!((&told["recorded"], waiting(database).await), (&json!(false), 1));
        // It comes along with its message, which is told of as sent now, and with that what waited: which is more.
        assert_eq!(ack(&app, "shop", own("3EB1"), 2).await["duplicate"], true);
        let rows = all_messages(&app, "shop").await;
        assert_eq!(rows.len(), 1, "{rows:?}");
        assert_eq!((&rows[0]["ack"], &rows[0]["fromMe"]), (&json!(3), &json!(true)));
        assert_eq!(waiting(database).await, 0);
        let told = feed(&app, "shop").await;
        let acks: Vec<_> = told.iter().filter(|(name, _)| name == "message_ack").collect();
        let levels: Vec<_> = acks.iter().map(|(_, ack)| ack["ack"].clone()).collect();
        assert_eq!(levels, [3]);
        for (_, ack) in acks {
            assert_eq!(ack["message"]["messageId"], heard);
        }
        assert_eq!(ack(&app, "shop", json!({ "id": "3EB1" }), 3).await["duplicate"], true);
        // What waited is less than what comes.
        assert_eq!(tell(&app, "message", &own("3EB2")).await["recorded"], true);
        ack(&app, "shop", json!({ "id": "3EB2" }), 1).await;
        assert_eq!(ack(&app, "shop", own("3EB2"), 2).await["recorded"], true);
        assert_eq!(
            names(&app, "shop").await.split_off(4),
            ["message", "message_create", "message_ack", "message_ack"]
        );
        assert_eq!(
            (all_messages(&app, "shop").await[0]["ack"].clone(), waiting(database).await),
            (json!(2), 0)
        );
        app.close().await;
    })
    .await;
}

#[tokio::test]
async fn a_message_with_a_file_that_became_the_account_s_has_one_row_when_it_is_told_of_as_sent() {
    on_each(async |database| {
        let app = start(database).await;
        let mut message = own("3EB1");
        message["type"] = json!("image");
        message["hasMedia"] = json!(true);
        message["filesize"] = json!(7);
        assert_eq!(tell(&app, "message", &message).await["recorded"], true);
        let heard = all_messages(&app, "shop").await[0].clone();
        assert!(!heard["media"].is_null(), "{heard}");
        ack(&app, "shop", message.clone(), 2).await;
        // It was told anew, as what it is.
        let told = feed(&app, "shop").await;
        let (name, anew) = &told[2];
        let seen = (name.as_str(), &anew["message"]["messageId"], &anew["message"]["fromMe"]);
        assert_eq!(seen, ("message_create", &heard["id"], &json!(true)));
        assert_eq!(told.len(), 4, "ready, received, sent, acknowledged: {told:?}");
        assert_eq!(tell(&app, "message_create", &message).await["duplicate"], true);
        ack(&app, "shop", json!({ "id": "3EB1" }), 3).await;
        let rows = all_messages(&app, "shop").await;
        assert_eq!(rows.len(), 1, "{rows:?}");
        let seen = (&rows[0]["id"], &rows[0]["fromMe"], &rows[0]["ack"], &rows[0]["media"]);
        assert_eq!(seen, (&heard["id"], &json!(true), &json!(3), &heard["media"]));
        // To somebody else it is another one.
        message["to"] = json!("6281111111111@c.us");
        assert_eq!(tell(&app, "message_create", &message).await["recorded"], true);
        assert_eq!(all_messages(&app, "shop").await.len(), 2);
        app.close().await;
    })
    .await;
}

#[tokio::test]
async fn of_one_id_in_two_conversations_both_become_the_account_s() {
    on_each(async |database| {
        let app = start(database).await;
        let group = "120363042424242424@g.us";
        assert_eq!(tell(&app, "message", &own("3EB1")).await["recorded"], true);
        let mut of_group = own("3EB1");
        (of_group["from"], of_group["author"]) = (json!(group), json!(BOB));
        assert_eq!(tell(&app, "message", &of_group).await["recorded"], true);
        let mut acknowledged = own("3EB1");
        acknowledged["to"] = json!(group);
        assert_eq!(ack(&app, "shop", acknowledged.clone(), 2).await["recorded"], true);
        assert_eq!(ack(&app, "shop", acknowledged, 2).await["duplicate"], true);
        let rows = all_messages(&app, "shop").await;
        assert_eq!(rows.len(), 2, "{rows:?}");
        for (row, to) in rows.iter().zip([group, ALICE]) {
            let seen = (&row["fromMe"], &row["chat"], &row["to"], &row["ack"]);
            assert_eq!(seen, (&json!(true), &json!(to), &json!(to), &json!(2)));
        }
        // The one that was not acknowledged is told of as sent when its client says so.
        assert_eq!(tell(&app, "message_create", &own("3EB1")).await["recorded"], true);
        assert_eq!(all_messages(&app, "shop").await.len(), 2);
        app.close().await;
    })
    .await;
}
