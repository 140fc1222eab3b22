//! Messages that go out through Meta: on disk before Meta is asked, asked once, and moved on by what Meta tells.

use entity::state::Role;
use reqwest::Method;
use serde_json::{Value, json};

use crate::{
    database::on_each,
    graph::{TOKEN, answers, hello, refuses, said, shop, show, take, takes, told},
    http_app::{Answer, App, json as with_json},
    meta::{NUMBER, ask},
    meta_processing::{SESSION, hello as hears, tell},
    receiver::{Behaviour, Receiver},
};

/// What Meta tells of a message that was sent here.
pub(crate) fn status(wa_id: &str, word: &str, ours: Option<&str>) -> Value {
    let mut status = json!({
        "id": wa_id, "status": word, "timestamp": "1799999001", "recipient_id": "16505551234",
        "pricing": { "billable": true, "category": "service" },
    });
    if let Some(ours) = ours {
        status["biz_opaque_callback_data"] = json!(ours);
    }
    json!({ "statuses": [status] })
}

fn event(kind: &str, id: &str, level: i64) -> (String, String, i64) {
    (kind.to_owned(), id.to_owned(), level)
}

async fn with_key(app: &App, path: &str, key: &str, body: &Value) -> Answer {
    let request = app.request(Method::POST, path).header("idempotency-key", key);
    Answer::to(with_json(request, body)).await
}

#[tokio::test]
async fn a_text_is_on_disk_before_meta_is_asked_and_moved_on_by_what_meta_tells() {
    on_each(async |database| {
        let graph = Receiver::start().await;
        let (app, path) = shop(database, &graph).await;
        let location = take(&app, &path, hello("+1 650-555-1234", "Your parcel")).await;
        assert_eq!(graph.count(), 0);
        let queued = show(&app, &location).await;
        let id = queued["id"].as_str().unwrap();
        for (member, value) in [
            ("waId", json!(id)),
            ("chat", json!("16505551234@c.us")),
            ("channel", json!("cloud")),
            ("direction", json!("outbound")),
            ("type", json!("text")),
            ("body", json!("Your parcel")),
            ("sessionId", json!(SESSION)),
        ] {
            assert_eq!(queued[member], value, "{member}");
        }
        assert!(told(&app).await.is_empty());

        graph.next([takes("wamid.out")]);
        app.sender.drive().await.unwrap();
        let asked = &graph.requests()[0];
        assert_eq!(asked.line, format!("POST /v24.0/{NUMBER}/messages HTTP/1.1"));
        assert_eq!(asked.headers["authorization"], TOKEN);
        assert_eq!(
            asked.json(),
            json!({
                "messaging_product": "whatsapp", "recipient_type": "individual", "to": "16505551234",
                "type": "text", "text": { "body": "Your parcel", "preview_url": false }, "biz_opaque_callback_data": id,
            })
        );
        let sent = show(&app, &location).await;
        assert_eq!(
            (&sent["status"], &sent["ack"], &sent["waId"], &sent["error"]),
            (&json!("sent"), &json!(1), &json!("wamid.out"), &Value::Null)
        );
        let mut expected =
            vec![event("message_create", "wamid.out", 0), event("message_ack", "wamid.out", 1)];
        assert_eq!(told(&app).await, expected);

        // Meta says so as well, which is nothing new.
        tell(&app, &[status("wamid.out", "sent", Some(id))]).await;
        tell(&app, &[status("wamid.out", "delivered", Some(id))]).await;
        tell(&app, &[status("wamid.out", "delivered", Some(id))]).await;
        expected.push(event("message_ack", "wamid.out", 2));
        assert_eq!(told(&app).await, expected);
        let delivered = show(&app, &location).await;
        assert_eq!((&delivered["status"], &delivered["ack"]), (&json!("delivered"), &json!(2)));
        // Nothing is left to be sent, and nothing is there twice.
        app.sender.drive().await.unwrap();
        assert_eq!(graph.count(), 1);
        assert_eq!(database.count("SELECT count(*) FROM meta_outbox").await, 0);
        assert_eq!(database.count("SELECT count(*) FROM message").await, 1);
        let conversations = app.get("/api/conversations").await.json();
        assert_eq!(conversations["data"].as_array().unwrap().len(), 1);
        app.close().await;
    })
    .await;
}

#[tokio::test]
async fn what_is_sent_and_what_comes_back_is_one_conversation() {
    on_each(async |database| {
        let graph = Receiver::start().await;
        let (app, path) = shop(database, &graph).await;
        take(&app, &path, hello("16505551234", "one")).await;
        graph.next([takes("wamid.one")]);
        app.sender.drive().await.unwrap();
        tell(&app, &[hears("16505551234", "wamid.two", "two")]).await;
        let all = app.get("/api/conversations").await.json();
        let all = all["data"].as_array().unwrap();
        assert_eq!((all.len(), &all[0]["chat"]), (1, &json!("16505551234@c.us")));
        let of = format!("/api/conversations/{}/messages", all[0]["id"].as_str().unwrap());
        let bodies = app.get(&of).await.json();
        let bodies: Vec<_> =
            bodies["data"].as_array().unwrap().iter().map(|it| it["body"].clone()).collect();
        assert_eq!(bodies, [json!("two"), json!("one")]);
        app.close().await;
    })
    .await;
}

#[tokio::test]
async fn a_request_with_the_same_key_sends_nothing_new() {
    on_each(async |database| {
        let graph = Receiver::start().await;
        let (app, path) = shop(database, &graph).await;
        let body = hello("16505551234", "once");
        let first = with_key(&app, &path, "order-1", &body).await;
        assert_eq!(first.status, 202, "{}", first.text());
        let again = with_key(&app, &path, "order-1", &body).await;
        assert_eq!((again.status.as_u16(), again.header("idempotency-replayed")), (200, "true"));
        assert_eq!(again.json()["data"]["id"], first.json()["data"]["id"]);
        let other = with_key(&app, &path, "order-1", &hello("16505551234", "twice")).await;
        other.problem(422, "IDEMPOTENCY_KEY_REUSED");
        graph.next([takes("wamid.1")]);
        app.sender.drive().await.unwrap();
        // Also when it is sent, and when the account sends nothing any more.
        let accounts = path.trim_end_matches("/messages");
        app.post(&format!("{accounts}/status"), json!({ "status": "disabled" })).await;
        let again = with_key(&app, &path, "order-1", &body).await;
        assert_eq!(
            (again.status.as_u16(), &again.json()["data"]["waId"]),
            (200, &json!("wamid.1"))
        );
        // A key of what was not taken is free.
        let refused = with_key(&app, &path, "order-2", &body).await;
        refused.problem(409, "META_ACCOUNT_NOT_SENDING");
        app.post(&format!("{accounts}/status"), json!({ "status": "unverified" })).await;
        assert_eq!(with_key(&app, &path, "order-2", &body).await.status, 202);
        assert_eq!(graph.count(), 1);
        app.close().await;
    })
    .await;
}

#[tokio::test]
async fn a_repeated_answer_is_answered_from_its_key_whatever_became_of_what_it_answers() {
    on_each(async |database| {
        let graph = Receiver::start().await;
        let (app, path) = shop(database, &graph).await;
        tell(&app, &[hears("16505551234", "wamid.in", "how much?")]).await;
        let messages = format!("/api/whatsapp/session/{SESSION}/messages");
        let ours = app.get(&messages).await.json()["data"][0]["id"].clone();
        let mut body = hello("16505551234", "7");
        body["replyTo"] = ours;
        let first = with_key(&app, &path, "order-1", &body).await;
        assert_eq!(first.status, 202, "{}", first.text());
        // As retention does it.
        database.execute("DELETE FROM message WHERE wa_id = 'wamid.in'").await;
        let again = with_key(&app, &path, "order-1", &body).await;
        assert_eq!((again.status.as_u16(), again.header("idempotency-replayed")), (200, "true"));
        assert_eq!(again.json()["data"]["id"], first.json()["data"]["id"]);
        // Another answer to it cannot be, and its key is free.
        with_key(&app, &path, "order-2", &body).await.invalid(&["/replyTo"]);
        let plain = hello("16505551234", "8");
        assert_eq!(with_key(&app, &path, "order-2", &plain).await.status, 202);
        // A key is of one request, with what it answers.
        with_key(&app, &path, "order-2", &body).await.problem(422, "IDEMPOTENCY_KEY_REUSED");
        graph.next([takes("wamid.1"), takes("wamid.2")]);
        app.sender.drive().await.unwrap();
        let asked: Vec<_> =
            graph.requests().iter().map(|it| it.json()["context"].clone()).collect();
        assert_eq!(asked, [json!({ "message_id": "wamid.in" }), Value::Null]);
        app.close().await;
    })
    .await;
}

#[tokio::test]
async fn a_template_and_an_answer_are_asked_for_as_meta_documents_them() {
    on_each(async |database| {
        let graph = Receiver::start().await;
        let (app, path) = shop(database, &graph).await;
        tell(&app, &[hears("16505551234", "wamid.in", "how much?")]).await;
        let messages = format!("/api/whatsapp/session/{SESSION}/messages");
        let ours = app.get(&messages).await.json()["data"][0]["id"].clone();
        let components =
            json!([{ "type": "body", "parameters": [{ "type": "text", "text": "7" }] }]);
        let body = json!({
            "to": "US.13491208655302741918@bsuid", "type": "template", "replyTo": ours,
            "template": { "name": "price", "language": "en_US", "components": components },
        });
        let location = take(&app, &path, body).await;
        graph.next([takes("wamid.out")]);
        app.sender.drive().await.unwrap();
        let asked = graph.requests()[0].json();
        assert_eq!(asked["recipient"], "US.13491208655302741918");
        assert_eq!(asked.get("to"), None);
        assert_eq!(asked["context"], json!({ "message_id": "wamid.in" }));
        assert_eq!(
            asked["template"],
            json!({ "name": "price", "language": { "code": "en_US" }, "components": components })
        );
        let shown = show(&app, &location).await;
        assert_eq!(
            (&shown["type"], &shown["body"], &shown["targetId"], &shown["chat"]),
            (
                &json!("template"),
                &json!("price"),
                &json!("wamid.in"),
                &json!("US.13491208655302741918@bsuid")
            )
        );
        app.close().await;
    })
    .await;
}

#[tokio::test]
async fn what_cannot_be_sent_is_refused_with_all_that_is_wrong() {
    on_each(async |database| {
        let graph = Receiver::start().await;
        let (app, path) = shop(database, &graph).await;
        app.post(&path, json!({})).await.invalid(&["/to", "/text"]);
        let long = json!({ "to": "120363000000000001@g.us", "text": "x".repeat(4097), "replyTo": "" });
        app.post(&path, long).await.invalid(&["/to", "/replyTo", "/text"]);
        let template = json!({ "to": "16505551234", "type": "template", "template": { "name": "A b", "x": 1 } });
        app.post(&path, template).await.invalid(&["/template/language", "/template/x"]);
        let none = json!({ "to": "16505551234", "type": "template", "text": "x" });
        app.post(&path, none).await.invalid(&["/template", "/text"]);
        let video = json!({ "to": "16505551234", "type": "video" });
        app.post(&path, video).await.invalid(&["/type"]);
        let nobody_s = "msg_01JJ2Q8ZK4XG0V3M5N7P9R1T3V";
        let body = json!({ "to": "16505551234", "text": "x", "replyTo": nobody_s });
        app.post(&path, body).await.invalid(&["/replyTo"]);
        // Another organization's account is not there, for whoever it is.
        let stranger = app.stranger(database).await;
        let body = hello("16505551234", "x");
        ask(&app, &stranger, Method::POST, &path, &body).await.problem(404, "META_ACCOUNT_NOT_FOUND");
        let viewer = app.token_of(&app.organization, Role::Viewer).await;
        ask(&app, &viewer, Method::POST, &path, &body).await.problem(403, "FORBIDDEN");
        app.patch(path.trim_end_matches("/messages"), json!({ "accessToken": null })).await;
        app.post(&path, body).await.problem(409, "META_ACCOUNT_NOT_SENDING");
        app.sender.drive().await.unwrap();
        assert_eq!(graph.count(), 0);
        for table in ["message", "meta_outbox", "conversation", "contact"] {
            assert_eq!(database.count(&format!("SELECT count(*) FROM {table}")).await, 0);
        }
        app.close().await;
    })
    .await;
}

#[tokio::test]
async fn messages_of_one_conversation_are_sent_in_order_and_others_do_not_wait_for_them() {
    on_each(async |database| {
        let graph = Receiver::start().await;
        let (app, path) = shop(database, &graph).await;
        for n in 0..3 {
            take(&app, &path, hello("16505551234", &n.to_string())).await;
        }
        take(&app, &path, hello("16505559999", "other")).await;
        // Too much to this person: what follows waits, and nobody else.
        graph.usually(takes("wamid.x"));
        graph.next([refuses(400, 131_056), refuses(400, 131_056)]);
        app.sender.drive().await.unwrap();
        let said_so_far: Vec<_> = graph.requests().iter().map(said).collect();
        assert_eq!(said_so_far.len(), 2, "{said_so_far:?}");
        assert!(said_so_far.contains(&json!("0")) && said_so_far.contains(&json!("other")));
        graph.next((0..4).map(|n| takes(&format!("wamid.{n}"))));
        app.clock.advance(std::time::Duration::from_secs(3));
        app.sender.drive().await.unwrap();
        let all: Vec<_> = graph.requests().iter().skip(2).map(said).collect();
        let own: Vec<_> = all.iter().filter(|it| **it != json!("other")).cloned().collect();
        assert_eq!(own, [json!("0"), json!("1"), json!("2")]);
        assert_eq!(all.len(), 4);
        app.close().await;
    })
    .await;
}

#[tokio::test]
async fn whoever_wrote_is_told_that_it_is_read() {
    on_each(async |database| {
        let graph = Receiver::start().await;
        let (app, path) = shop(database, &graph).await;
        tell(&app, &[hears("16505551234", "wamid.1", "a"), hears("16505551234", "wamid.2", "b")])
            .await;
        let conversation = app.get("/api/conversations").await.json()["data"][0]["id"].clone();
        let read = format!("/api/conversations/{}/read", conversation.as_str().unwrap());
        graph.usually(answers(200, &json!({ "success": true })));
        let done = app.post(&read, json!({})).await;
        assert_eq!(done.status, 200, "{}", done.text());
        assert_eq!(done.json()["data"]["waId"], "wamid.2");
        let asked = &graph.requests()[0];
        assert_eq!(asked.headers["authorization"], TOKEN);
        assert_eq!(
            asked.json(),
            json!({ "messaging_product": "whatsapp", "status": "read", "message_id": "wamid.2" })
        );
        let messages = app.get(&format!("/api/whatsapp/session/{SESSION}/messages")).await.json();
        let first = messages["data"][1]["id"].clone();
        let done = app.post(&read, json!({ "messageId": first })).await;
        assert_eq!(done.json()["data"]["waId"], "wamid.1");

        graph.next([refuses(401, 190)]);
        let problem = app.post(&read, json!({})).await.problem(502, "META_REFUSED");
        assert_eq!(
            (&problem["metaCode"], &problem["metaTrace"]),
            (&json!(190), &json!("Az8or2yhqkZfEZ-_4Qn6Bam"))
        );
        assert!(!problem.to_string().contains("16505551234"), "{problem}");
        graph.next([refuses(400, 80_007)]);
        let later = app.post(&read, json!({})).await;
        later.problem(503, "META_UNAVAILABLE");
        assert!(!later.header("retry-after").is_empty());
        graph.next([Behaviour::Reset]);
        app.post(&read, json!({})).await.problem(503, "META_UNAVAILABLE");
        let nobody_s = json!({ "messageId": "msg_01JJ2Q8ZK4XG0V3M5N7P9R1T3V" });
        app.post(&read, nobody_s).await.problem(404, "MESSAGE_NOT_FOUND");
        let stranger = app.stranger(database).await;
        let asked = ask(&app, &stranger, Method::POST, &read, &json!({})).await;
        asked.problem(404, "CONVERSATION_NOT_FOUND");
        app.patch(path.trim_end_matches("/messages"), json!({ "accessToken": null })).await;
        app.post(&read, json!({})).await.problem(409, "META_ACCOUNT_NOT_SENDING");
        app.close().await;
    })
    .await;
}
