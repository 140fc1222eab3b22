//! What Meta told is carried out: once, in the order of each conversation, and what cannot be is failed alone.

use std::time::Duration;

use serde_json::{Value, json};

use crate::{
    database::{Database, on_each},
    http_app::App,
    meta::{
        NUMBER, SECRET, SHARED, WABA, changes, complete, deliver, each, get, log, samples, set_up,
        tenant,
    },
    receiver::Receiver,
};

pub(crate) const SESSION: &str = "meta_106540352242922";

/// Posts these values as changes of `messages`, and has them carried out.
pub(crate) async fn tell(app: &App, values: &[Value]) {
    let all: Vec<_> = values
        .iter()
        .map(|value| {
            let mut value = value.clone();
            value["metadata"] =
                json!({ "phone_number_id": NUMBER, "display_phone_number": "15550783881" });
            json!({ "field": "messages", "value": value })
        })
        .collect();
    let body = changes(WABA, &all).to_string();
    assert_eq!(deliver(app, SHARED, SECRET, body.as_bytes()).await.status, 200);
    app.meta.drive().await.unwrap();
}

pub(crate) fn hello(from: &str, id: &str, text: &str) -> Value {
    json!({ "messages": [{ "from": from, "id": id, "timestamp": "1799999000", "type": "text", "text": { "body": text } }] })
}

/// All rows that what was told can make.
pub(crate) async fn counts(database: &Database) -> Vec<(&'static str, i64)> {
    let tables = [
        "message",
        "event",
        "contact",
        "contact_identity",
        "conversation",
        "message_status",
        "webhook_delivery",
        "session",
    ];
    let mut counts = Vec::new();
    for table in tables {
        counts.push((table, database.count(&format!("SELECT count(*) FROM {table}")).await));
    }
    counts
}

pub(crate) async fn messages(app: &App) -> Vec<Value> {
    let page = app.get(&format!("/api/whatsapp/session/{SESSION}/messages?limit=500")).await;
    assert_eq!(page.status, 200, "{}", page.text());
    page.json()["data"].as_array().unwrap().clone()
}

#[tokio::test]
async fn every_documented_payload_is_carried_out_and_carried_out_again_adds_nothing() {
    on_each(async |database| {
        let app = App::start(database).await;
        let account = set_up(&app, &app.token, complete(NUMBER, WABA, SECRET)).await;
        let own = account["ownPath"].as_str().unwrap();
        let receiver = Receiver::start().await;
        let made = app.post("/api/webhooks", json!({ "url": receiver.url() })).await;
        assert_eq!(made.status, 201, "{}", made.text());
        for (n, (name, body)) in samples().into_iter().enumerate() {
            // Several of the examples are of one message, as far as its id goes: here each is of another.
            let body = String::from_utf8(body).unwrap().replace("wamid.", &format!("wamid.{n}."));
            assert_eq!(deliver(&app, own, SECRET, body.as_bytes()).await.status, 200, "{name}");
        }
        app.meta.drive().await.unwrap();
        let all = log(&app, &app.token).await;
        assert_eq!(all.len(), 62);
        for event in &all {
            assert_eq!(
                (&event["state"], &event["processed"]),
                (&json!("processed"), &json!(true)),
                "{event:#}"
            );
            assert!(!event["processedAt"].is_null() && event["error"].is_null());
        }
        let before = counts(database).await;
        let of = |name: &str| before.iter().find(|(it, _)| *it == name).unwrap().1;
        assert!(of("message") > 20 && of("message_status") >= 5, "{before:?}");
        // All of them again, as if Meta told them now.
        let again = app.post("/api/meta/events/reprocess", json!({ "state": "processed" })).await;
        assert_eq!(
            (again.status.as_u16(), again.json()["data"]["events"].clone()),
            (202, json!(62))
        );
        app.meta.drive().await.unwrap();
        assert_eq!(counts(database).await, before);
        let all = log(&app, &app.token).await;
        assert!(all.iter().all(|it| it["state"] == "processed"));
        app.close().await;
    })
    .await;
}

#[tokio::test]
async fn a_message_goes_through_the_one_door_and_says_by_which_channel_it_came() {
    on_each(async |database| {
        let app = App::start(database).await;
        set_up(&app, &app.token, complete(NUMBER, WABA, SECRET)).await;
        let receiver = Receiver::start().await;
        app.post("/api/webhooks", json!({ "url": receiver.url() })).await;
        let mut value = hello("16505551234", "wamid.1", "hi");
        value["contacts"] = json!([{ "profile": { "name": "Sheena" }, "wa_id": "16505551234" }]);
        tell(&app, &[value]).await;
        let shown = messages(&app).await;
        assert_eq!(shown.len(), 1);
        for (member, value) in [
            ("channel", json!("cloud")),
            ("waId", json!("wamid.1")),
            ("chat", json!("16505551234@c.us")),
            ("from", json!("16505551234@c.us")),
            ("body", json!("hi")),
            ("type", json!("text")),
            ("direction", json!("inbound")),
            ("pushName", json!("Sheena")),
            ("history", json!(false)),
            ("timestamp", json!("2027-01-15T07:43:20.000Z")),
        ] {
            assert_eq!(shown[0][member], value, "{member}");
        }
        let feed = app.get(&format!("/api/whatsapp/session/{SESSION}/events/page")).await.json();
        let feed = feed["data"].as_array().unwrap_or_else(|| panic!("{feed:#}"));
        let told =
            feed.iter().find(|it| it["event"] == "message").unwrap_or_else(|| panic!("{feed:#?}"));
        assert_eq!(told["data"]["message"]["channel"], "cloud");
        assert_eq!(told["data"]["message"]["to"], "15550783881@c.us");
        app.deliveries.drive().await.unwrap();
        let requests = receiver
            .until(|all| all.iter().any(|it| it.json()["type"] == "message.received"))
            .await;
        let told =
            requests.iter().find(|it| it.json()["type"] == "message.received").unwrap().json();
        assert_eq!(
            (&told["data"]["message"]["body"], &told["session_id"]),
            (&json!("hi"), &json!(SESSION))
        );
        // What is kept of it as it came is sealed.
        let rows = database.query("SELECT raw FROM message").await;
        let raw: Vec<u8> = rows[0].try_get_by_index(0).unwrap();
        assert!(!String::from_utf8_lossy(&raw).contains("16505551234"));
        // It is no session that anybody counts, starts or writes with.
        let list = app.get("/api/whatsapp/session/list-realtime").await.json();
        assert_eq!(list["data"], json!([]));
        let send = json!({ "to": "16505551234", "text": "hi" });
        app.post(&format!("/api/whatsapp/session/{SESSION}/messages"), send)
            .await
            .problem(409, "SESSION_EXTERNAL");
        let made = json!({ "sessionId": "x", "origin": "cloud" });
        app.post("/api/whatsapp/session", made).await.invalid(&["/origin"]);
        app.close().await;
    })
    .await;
}

#[tokio::test]
async fn what_cannot_be_read_is_failed_alone_with_its_reason() {
    on_each(async |database| {
        let app = App::start(database).await;
        set_up(&app, &app.token, complete(NUMBER, WABA, SECRET)).await;
        let item = |id: Value| json!({ "from": "16505551234", "id": id, "timestamp": "1799999000", "type": "text", "text": { "body": "x" } });
        tell(&app, &[json!({ "messages": [item(json!("a")), item(Value::Null), "what?", item(json!("b"))] })]).await;
        let malformed = b"{\"object\":\"whatsapp_business_account\",\"entry\":[{\"id\":\"102290129340398\"";
        assert_eq!(deliver(&app, SHARED, SECRET, malformed).await.status, 200);
        app.meta.drive().await.unwrap();
        assert_eq!(each(&messages(&app).await, "waId"), ["a", "b"]);
        let failed = app.get("/api/meta/events?state=failed").await.json();
        let failed = failed["data"].as_array().unwrap().clone();
        assert_eq!(each(&failed, "error"), ["malformed", "no_id", "no_object"]);
        assert!(failed.iter().all(|it| it["processed"] == false && it["attempts"] == 1));
        let metrics = app.get("/metrics").await;
        for line in ["wagate_meta_received_total 2", "wagate_meta_processed_total 2", "wagate_meta_failed_total 3", "wagate_meta_lag_seconds 0"] {
            assert!(metrics.text().contains(line), "{line}\n{}", metrics.text());
        }
        app.close().await;
    })
    .await;
}

#[tokio::test]
async fn the_lag_is_how_long_the_oldest_has_waited() {
    on_each(async |database| {
        let app = App::start(database).await;
        set_up(&app, &app.token, complete(NUMBER, WABA, SECRET)).await;
        let lag = async || {
            let metrics = app.get("/metrics").await.text().to_owned();
            let line = metrics.lines().find_map(|it| it.strip_prefix("wagate_meta_lag_seconds "));
            line.unwrap_or_else(|| panic!("{metrics}")).to_owned()
        };
        for id in ["a", "b"] {
            let body = crate::meta::text(WABA, NUMBER, id, "hi").to_string();
            assert_eq!(deliver(&app, SHARED, SECRET, body.as_bytes()).await.status, 200);
            app.clock.advance(Duration::from_secs(90));
        }
        assert_eq!(lag().await, "180");
        app.meta.drive().await.unwrap();
        assert_eq!(lag().await, "0");
        app.close().await;
    })
    .await;
}

#[tokio::test]
async fn nobody_is_told_of_echoes_and_of_the_past() {
    on_each(async |database| {
        let app = App::start(database).await;
        set_up(&app, &app.token, complete(NUMBER, WABA, SECRET)).await;
        let metadata = json!({ "phone_number_id": NUMBER, "display_phone_number": "15550783881" });
        let echo = json!({ "field": "smb_message_echoes", "value": { "metadata": metadata, "message_echoes": [
            { "from": "15550783881", "to": "16505551234", "id": "e", "timestamp": "1799999000", "type": "text", "text": { "body": "mine" } },
        ] } });
        let past = json!({ "field": "history", "value": { "metadata": metadata, "history": [{ "threads": [{ "id": "16505551234", "messages": [
            { "from": "15550783881", "id": "h1", "timestamp": "1739230955", "type": "text", "text": { "body": "old" }, "history_context": { "status": "READ" } },
            { "from": "16505551234", "id": "h2", "timestamp": "1739230970", "type": "media_placeholder" },
            { "nothing": true },
        ] }] }] } });
        // The placeholder's file comes later, under its id.
        let file = json!({ "field": "history", "value": { "metadata": metadata, "messages": [
            { "from": "16505551234", "id": "h2", "timestamp": "1739230970", "type": "image", "image": { "caption": "a cat" } },
        ] } });
        let body = changes(WABA, &[echo, past, file]).to_string();
        assert_eq!(deliver(&app, SHARED, SECRET, body.as_bytes()).await.status, 200);
        app.meta.drive().await.unwrap();
        let all = messages(&app).await;
        assert_eq!(each(&all, "waId"), ["e", "h1", "h2"]);
        let of = |id: &str| all.iter().find(|it| it["waId"] == id).unwrap();
        assert!(all.iter().all(|it| it["history"] == true && it["chat"] == "16505551234@c.us"));
        assert_eq!((&of("e")["fromMe"], &of("e")["status"]), (&json!(true), &json!("sent")));
        assert_eq!((&of("h1")["ack"], &of("h1")["timestamp"]), (&json!(3), &json!("2025-02-10T23:42:35.000Z")));
        assert_eq!((&of("h2")["type"], &of("h2")["body"]), (&json!("image"), &json!("a cat")));
        assert_eq!(database.count("SELECT count(*) FROM event").await, 0);
        let all = log(&app, &app.token).await;
        assert!(all.iter().all(|it| it["state"] == "processed"), "{all:#?}");
        app.close().await;
    })
    .await;
}

#[tokio::test]
async fn a_message_that_the_past_has_brought_first_is_told_when_it_comes_live() {
    on_each(async |database| {
        let app = App::start(database).await;
        set_up(&app, &app.token, complete(NUMBER, WABA, SECRET)).await;
        let past = json!({ "history": [{ "threads": [{ "id": "16505551234", "messages": [
            { "from": "16505551234", "id": "h", "timestamp": "1799999000", "type": "text", "text": { "body": "hi" } },
        ] }] }] });
        let mut value = past;
        value["metadata"] = json!({ "phone_number_id": NUMBER, "display_phone_number": "15550783881" });
        let body = changes(WABA, &[json!({ "field": "history", "value": value })]).to_string();
        assert_eq!(deliver(&app, SHARED, SECRET, body.as_bytes()).await.status, 200);
        app.meta.drive().await.unwrap();
        let before = messages(&app).await;
        assert_eq!((before.len(), &before[0]["history"]), (1, &json!(true)));
        tell(&app, &[hello("16505551234", "h", "hi")]).await;
        let after = messages(&app).await;
        assert_eq!((after.len(), &after[0]["history"]), (1, &json!(false)));
        let feed = async || {
            let page = app.get("/api/whatsapp/events/page?limit=500").await.json();
            let is_message = |it: &&Value| it["event"] == "message";
            page["data"].as_array().unwrap().iter().filter(is_message).cloned().collect::<Vec<_>>()
        };
        let told = feed().await;
        assert_eq!(told.len(), 1, "{told:#?}");
        assert_eq!(told[0]["data"]["message"]["messageId"], before[0]["id"]);
        // Once.
        app.post("/api/meta/events/reprocess", json!({ "state": "processed" })).await;
        app.meta.drive().await.unwrap();
        assert_eq!((feed().await.len(), messages(&app).await.len()), (1, 1));
        app.close().await;
    })
    .await;
}

/// It is sealed for what its row was found by, and somebody has changed that.
#[tokio::test]
async fn what_does_not_open_of_a_message_is_kept_when_it_comes_to_be_found_by_another_name() {
    on_each(async |database| {
        let app = App::start(database).await;
        set_up(&app, &app.token, complete(NUMBER, WABA, SECRET)).await;
        let mut value = json!({ "history": [{ "threads": [{ "id": "16505551234", "messages": [
            { "from": "16505551234", "id": "h", "timestamp": "1799999000", "type": "text", "text": { "body": "hi" } },
        ] }] }] });
        value["metadata"] = json!({ "phone_number_id": NUMBER, "display_phone_number": "15550783881" });
        let body = changes(WABA, &[json!({ "field": "history", "value": value })]).to_string();
        assert_eq!(deliver(&app, SHARED, SECRET, body.as_bytes()).await.status, 200);
        app.meta.drive().await.unwrap();
        let raw = async || -> Vec<u8> {
            database.query("SELECT raw FROM message").await[0].try_get_by_index(0).unwrap()
        };
        let sealed = raw().await;
        database.execute("UPDATE message SET dedupe_key = 'm:x:y:h', chat = 'x', sender = 'y'").await;
        tell(&app, &[hello("16505551234", "h", "hi")]).await;
        let after = messages(&app).await;
        assert_eq!((after.len(), &after[0]["history"]), (1, &json!(false)));
        let key = "SELECT count(*) FROM message WHERE dedupe_key LIKE 'm:16505551234@%'";
        assert_eq!(database.count(key).await, 1);
        assert!(raw().await == sealed, "it is gone");
        app.close().await;
    })
    .await;
}

#[tokio::test]
async fn somebody_without_a_number_is_the_same_when_the_number_is_known() {
    on_each(async |database| {
        let app = App::start(database).await;
        set_up(&app, &app.token, complete(NUMBER, WABA, SECRET)).await;
        let of = |contact: Value, mut item: Value, id: &str| {
            (item["id"], item["type"], item["timestamp"]) = (json!(id), json!("text"), json!("1799999000"));
            item["text"] = json!({ "body": id });
            json!({ "contacts": [contact], "messages": [item] })
        };
        let hidden = json!({ "profile": { "name": "Sheena", "username": "@s" }, "wa_id": "", "user_id": "US.1" });
        let open = json!({ "profile": { "name": "Sheena N." }, "wa_id": "16505551234", "user_id": "US.1" });
        let number = json!({ "wa_id": "16505551234" });
        tell(&app, &[of(hidden, json!({ "from": "", "from_user_id": "US.1" }), "1")]).await;
        tell(&app, &[of(number, json!({ "from": "16505551234" }), "2")]).await;
        let people = app.get("/api/contacts").await.json();
        assert_eq!(people["data"].as_array().unwrap().len(), 2);
        assert_eq!(people["data"][0]["identities"], json!([{ "kind": "user_id", "value": "US.1" }]));
        // Now it shows that they are one.
        tell(&app, &[of(open, json!({ "from": "16505551234" }), "3")]).await;
        let people = app.get("/api/contacts").await.json()["data"].clone();
        assert_eq!(people.as_array().unwrap().len(), 1, "{people:#}");
        assert_eq!((&people[0]["name"], &people[0]["username"]), (&json!("Sheena N."), &json!("@s")));
        assert_eq!(people[0]["identities"].as_array().unwrap().len(), 3);
        let found = app.get("/api/contacts?identity=16505551234").await.json();
        assert_eq!(found["data"][0]["id"], people[0]["id"]);
        let talks = app.get(&format!("/api/conversations?sessionId={SESSION}")).await.json()["data"].clone();
        assert_eq!(talks.as_array().unwrap().len(), 1, "{talks:#}");
        assert_eq!((&talks[0]["channel"], &talks[0]["contactId"]), (&json!("cloud"), &people[0]["id"]));
        let path = format!("/api/conversations/{}/messages", talks[0]["id"].as_str().unwrap());
        let said = app.get(&path).await.json()["data"].as_array().unwrap().clone();
        assert_eq!(each(&said, "body"), ["1", "2", "3"]);
        // Nobody else sees any of it.
        let (_, other) = tenant(&app, "other").await;
        assert_eq!(get(&app, &other, "/api/contacts").await.json()["data"], json!([]));
        assert_eq!(get(&app, &other, "/api/conversations").await.json()["data"], json!([]));
        get(&app, &other, &path).await.problem(404, "CONVERSATION_NOT_FOUND");
        // Another number is theirs from now on, and the old one is free for somebody else.
        let changed = json!({ "messages": [{ "from": "16505551234", "id": "4", "timestamp": "1799999001", "type": "system",
            "system": { "type": "user_changed_number", "wa_id": "12195555358", "body": "changed" } }] });
        tell(&app, &[changed, hello("12195555358", "5", "new number"), hello("16505551234", "6", "somebody else")]).await;
        let said = app.get(&path).await.json()["data"].as_array().unwrap().clone();
        assert_eq!(each(&said, "waId"), ["1", "2", "3", "4", "5"]);
        assert_eq!(app.get("/api/contacts").await.json()["data"].as_array().unwrap().len(), 2);
        app.close().await;
    })
    .await;
}

#[tokio::test]
async fn two_organizations_in_one_body_get_each_its_own_messages() {
    on_each(async |database| {
        let app = App::start(database).await;
        let (_, other) = tenant(&app, "other").await;
        set_up(&app, &app.token, complete("1", WABA, SECRET)).await;
        set_up(&app, &other, complete("2", WABA, SECRET)).await;
        let mut all = Vec::new();
        for n in 0..20 {
            let number = if n % 2 == 0 { "1" } else { "2" };
            all.push(crate::meta::message(number, &format!("wamid.{n}"), number));
        }
        let body = changes(WABA, &all).to_string().replace("\"1\"}", "\"\\u0031\"}");
        assert_eq!(deliver(&app, SHARED, SECRET, body.as_bytes()).await.status, 200);
        app.meta.drive().await.unwrap();
        for (token, number) in [(&app.token, "1"), (&other, "2")] {
            let page = get(&app, token, &format!("/api/whatsapp/session/meta_{number}/messages"))
                .await
                .json();
            let page = page["data"].as_array().unwrap().clone();
            assert_eq!(page.len(), 10);
            assert!(page.iter().all(|it| it["body"] == number));
            let people = get(&app, token, "/api/contacts").await.json();
            assert_eq!(people["data"].as_array().unwrap().len(), 1);
        }
        get(&app, &other, "/api/whatsapp/session/meta_1/messages")
            .await
            .problem(404, "SESSION_NOT_FOUND");
        app.close().await;
    })
    .await;
}
