//! Messages over HTTP: accepted once, found again.

use std::{collections::HashSet, time::Duration};

use entity::state::MessageStatus;
use reqwest::Method;
use serde_json::{Value, json};
use wagate::event::{Ack, AckLevel, Event};

use crate::{
    database::{Kind, on, on_each},
    http_app::{Answer, App, json as with_json},
};

const PATH: &str = "/api/whatsapp/session/s/messages";

async fn send_with_key(app: &App, key: &str, body: Value) -> Answer {
    let request = app.request(Method::POST, PATH).header("idempotency-key", key);
    Answer::to(with_json(request, &body)).await
}

fn hello() -> Value {
    json!({ "to": "+62 812-3456-7890", "type": "text", "text": "hello", "queue": true })
}

#[tokio::test]
async fn a_message_while_not_connected_is_refused_or_queued() {
    on_each(async |database| {
        let app = App::start(database).await;
        app.session("s").await;
        let body = json!({ "to": "6281234567890", "text": "hello" });
        let problem = app.post(PATH, body.clone()).await.problem(409, "SESSION_NOT_CONNECTED");
        assert_eq!(problem["sessionStatus"], "session_not_connected");
        let none = app.get(PATH).await.json();
        assert_eq!(none["data"], json!([]), "nothing is kept of what was refused");

        let answer = app.post(PATH, hello()).await;
        assert_eq!(answer.status, 202);
        let message = answer.json()["data"].clone();
        assert_eq!(message["status"], "queued");
        assert_eq!(message["ack"], 0);
        assert_eq!(message["to"], "6281234567890@c.us");
        assert_eq!(message["fromMe"], true);
        let id = message["id"].as_str().unwrap();
        assert_eq!(answer.header("location"), format!("{PATH}/{id}"));
        let wa_id = message["waId"].as_str().unwrap();
        assert!(wa_id.starts_with("3EB0") && wa_id.len() == 22);
        assert_eq!(app.get(&format!("{PATH}/{id}")).await.json()["data"], message);

        // The database says connected and nothing runs: the socket is asked, not the row.
        app.connect("s").await;
        let problem = app.post(PATH, body).await.problem(409, "SESSION_NOT_CONNECTED");
        assert_eq!(problem["sessionStatus"], "connecting");
        assert_eq!(app.get(PATH).await.json()["data"].as_array().unwrap().len(), 1);
        app.close().await;
    })
    .await;
}

#[tokio::test]
async fn one_key_makes_one_message() {
    on_each(async |database| {
        let app = App::start(database).await;
        app.session("s").await;

        let many = (0..8).map(|_| send_with_key(&app, "order-1", hello()));
        let many = futures_util::future::join_all(many).await;
        let ids: HashSet<_> = many.iter().map(|a| a.json()["data"]["id"].to_string()).collect();
        assert_eq!(ids.len(), 1);
        assert_eq!(many.iter().filter(|answer| answer.status == 202).count(), 1);
        for answer in many.iter().filter(|answer| answer.status != 202) {
            assert_eq!(answer.status, 200);
            assert_eq!(answer.header("idempotency-replayed"), "true");
        }
        assert_eq!(app.get(PATH).await.json()["data"].as_array().unwrap().len(), 1);

        // The recipient in another spelling is the same request; another text is not.
        let mut same = hello();
        same["to"] = json!("6281234567890@c.us");
        assert_eq!(send_with_key(&app, "order-1", same).await.status, 200);
        let mut other = hello();
        other["text"] = json!("bye");
        let answer = send_with_key(&app, "order-1", other.clone()).await;
        answer.problem(422, "IDEMPOTENCY_KEY_REUSED");
        assert_eq!(send_with_key(&app, "order-2", other).await.status, 202);

        // A key whose request was refused is free again.
        let refused = json!({ "to": "6281234567890", "text": "now" });
        app.connect("s").await;
        send_with_key(&app, "order-3", refused).await.problem(409, "SESSION_NOT_CONNECTED");
        assert_eq!(send_with_key(&app, "order-3", hello()).await.status, 202);

        for bad in ["", "a b", &"x".repeat(256)] {
            send_with_key(&app, bad, hello()).await.invalid(&["/Idempotency-Key"]);
        }
        app.close().await;
    })
    .await;
}

#[tokio::test]
async fn a_key_outlives_the_session_it_was_used_with() {
    on(Kind::Sqlite, async |database| {
        let app = App::start(database).await;
        app.session("s").await;
        assert_eq!(send_with_key(&app, "k", hello()).await.status, 202);
        assert_eq!(app.delete("/api/whatsapp/session/s").await.status, 200);
        app.session("s").await;
        assert_eq!(send_with_key(&app, "k", hello()).await.status, 202, "it is gone: make it anew");
        assert_eq!(send_with_key(&app, "k", hello()).await.status, 200);
        app.close().await;
    })
    .await;
}

#[tokio::test]
async fn messages_are_listed_the_newest_first() {
    on_each(async |database| {
        let app = App::start(database).await;
        app.session("s").await;
        for n in 0..7 {
            let mut body = hello();
            body["text"] = json!(n.to_string());
            if n % 2 == 1 {
                body["to"] = json!("120363000000000001@g.us");
            }
            app.post(PATH, body).await;
        }
        let texts = |list: &Value| -> Vec<String> {
            let rows = list["data"].as_array().unwrap();
            rows.iter().map(|row| row["body"].as_str().unwrap().to_owned()).collect()
        };
        let all = app.get(PATH).await.json();
        // All within one millisecond, and still in order.
        assert_eq!(texts(&all), ["6", "5", "4", "3", "2", "1", "0"]);
        assert_eq!(all["nextCursor"], Value::Null);

        let mut paged = Vec::new();
        let mut path = format!("{PATH}?limit=3");
        loop {
            let page = app.get(&path).await.json();
            paged.extend(texts(&page));
            let Some(cursor) = page["nextCursor"].as_str() else { break };
            path = format!("{PATH}?limit=3&cursor={cursor}");
        }
        assert_eq!(paged, texts(&all));
        let group = app.get(&format!("{PATH}?chat=120363000000000001%40g.us")).await.json();
        assert_eq!(texts(&group), ["5", "3", "1"]);
        app.get(&format!("{PATH}/msg_nonsense")).await.problem(404, "MESSAGE_NOT_FOUND");

        // The queue is in the order of creation.
        let key = app.row("s").await.id;
        let queued = app.store.messages().queued(&key, &[], 100).await.unwrap();
        let queued: Vec<_> = queued.into_iter().filter_map(|row| row.body).collect();
        assert_eq!(queued, ["0", "1", "2", "3", "4", "5", "6"]);
        app.close().await;
    })
    .await;
}

#[tokio::test]
async fn a_message_moves_on_and_shows_its_ack() {
    on_each(async |database| {
        let app = App::start(database).await;
        app.session("s").await;
        let sent = app.post(PATH, hello()).await.json();
        let id = sent["data"]["id"].as_str().unwrap();
        let key = app.row("s").await.id;
        let messages = app.store.messages();
        let typed = id.parse().unwrap();

        assert!(messages.mark_sending(&typed).await.unwrap());
        assert!(!messages.mark_sending(&typed).await.unwrap(), "taken once");
        assert!(!messages.withdraw(&app.organization, &typed).await.unwrap(), "too late");
        // The process died here; the next run sends it again, with the same id.
        assert_eq!(messages.requeue_sending(&key).await.unwrap(), 1);
        let row = &messages.queued(&key, &[], 10).await.unwrap()[0];
        assert_eq!(row.wa_id, sent["data"]["waId"].as_str().unwrap());
        assert!(messages.mark_sending(&typed).await.unwrap());

        for (level, ack, status) in [
            (AckLevel::Sent, 1, "sent"),
            (AckLevel::Read, 3, "read"),
            (AckLevel::Delivered, 3, "read"),
        ] {
            let ack_event = Ack {
                wa_id: row.wa_id.clone(),
                chat: row.chat.clone(),
                by: row.chat.clone(),
                level,
                error: None,
                at: app.clock.now() + Duration::from_secs(1),
            };
            app.happen("s", Event::Ack(ack_event)).await;
            let shown = app.get(&format!("{PATH}/{id}")).await.json();
            assert_eq!(
                (&shown["data"]["ack"], &shown["data"]["status"]),
                (&json!(ack), &json!(status))
            );
        }
        // What WhatsApp has acknowledged is not sent any more.
        assert!(!messages.requeue(&typed).await.unwrap());
        let row = messages.find_by_id(&typed).await.unwrap().unwrap();
        assert_eq!(row.status, MessageStatus::Read);
        app.close().await;
    })
    .await;
}
