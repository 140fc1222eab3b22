//! Numbers and ids are given to other people: whoever is answered is who wrote, and nobody is taken for somebody else.

use serde_json::{Value, json};

use crate::{
    database::on_each,
    graph::{hello as text_to, shop, take, takes},
    http_app::App,
    meta::{SECRET, SHARED, changes, complete, deliver, each, set_up, tenant},
    meta_processing::{SESSION, hello, messages, tell},
    receiver::Receiver,
};

pub(crate) const OLD: &str = "16505551234";
pub(crate) const NEW: &str = "12195555358";

fn new_number(from: &Value, to: &str, id: &str) -> Value {
    let mut message = json!({ "id": id, "timestamp": "1799999001", "type": "system",
        "system": { "type": "user_changed_number", "wa_id": to, "body": "changed" } });
    for (name, value) in from.as_object().unwrap() {
        message[name] = value.clone();
    }
    json!({ "messages": [message] })
}

/// A text by somebody whom Meta calls by an id of its own, with his number or without.
pub(crate) fn by(number: &str, user: &str, id: &str) -> Value {
    json!({
        "contacts": [{ "profile": { "name": user }, "wa_id": number, "user_id": user }],
        "messages": [{ "from": number, "from_user_id": user, "id": id, "timestamp": "1799999000", "type": "text", "text": { "body": id } }],
    })
}

pub(crate) async fn people(app: &App) -> Vec<Value> {
    app.get("/api/contacts?limit=500").await.json()["data"].as_array().unwrap().clone()
}

/// Conversations as what they are called by and what was said in them.
pub(crate) async fn talks(app: &App) -> Vec<(String, Vec<String>)> {
    let page = app.get("/api/conversations?limit=500").await.json()["data"].clone();
    let mut all = Vec::new();
    for talk in page.as_array().unwrap() {
        let path = format!("/api/conversations/{}/messages", talk["id"].as_str().unwrap());
        let said = app.get(&path).await.json()["data"].as_array().unwrap().clone();
        all.push((talk["chat"].as_str().unwrap().to_owned(), each(&said, "waId")));
    }
    all.sort();
    all
}

pub(crate) async fn from(app: &App, id: &str) -> String {
    let all = messages(app).await;
    let row = all.iter().find(|it| it["waId"] == id).unwrap_or_else(|| panic!("{all:#?}"));
    row["from"].as_str().unwrap().to_owned()
}

fn talk(chat: &str, said: &[&str]) -> (String, Vec<String>) {
    (chat.to_owned(), said.iter().map(|it| (*it).to_owned()).collect())
}

#[tokio::test]
async fn who_has_another_number_is_answered_there_and_not_who_has_the_old_one_now() {
    on_each(async |database| {
        let graph = Receiver::start().await;
        let (app, path) = shop(database, &graph).await;
        tell(&app, &[hello(OLD, "1", "hi")]).await;
        // What is still to be sent goes with its conversation.
        take(&app, &path, text_to(OLD, "queued")).await;
        let notice = new_number(&json!({ "from": OLD }), NEW, "2");
        tell(&app, &[notice, hello(NEW, "3", "it is me")]).await;
        tell(&app, &[hello(OLD, "4", "I am new here")]).await;
        assert_eq!(from(&app, "3").await, format!("{NEW}@c.us"));
        assert_eq!(from(&app, "4").await, format!("{OLD}@c.us"));
        let moved = format!("SELECT count(*) FROM meta_outbox WHERE chat = '{NEW}@s.whatsapp.net'");
        assert_eq!(database.count(&moved).await, 1);
        let said = talks(&app).await;
        assert_eq!(said[0].0, format!("{NEW}@c.us"));
        assert_eq!(said[0].1[..3], ["1", "2", "3"]);
        assert_eq!(said[1], talk(&format!("{OLD}@c.us"), &["4"]));
        // Each is answered where it says that it is from.
        graph.next([takes("wamid.queued"), takes("wamid.a"), takes("wamid.b")]);
        app.sender.drive().await.unwrap();
        for (id, number) in [("3", NEW), ("4", OLD)] {
            let to = from(&app, id).await;
            take(&app, &path, text_to(&to, "an answer")).await;
            app.sender.drive().await.unwrap();
            assert_eq!(graph.requests().last().unwrap().json()["to"], number);
        }
        assert_eq!(talks(&app).await.len(), 2);
        app.close().await;
    })
    .await;
}

#[tokio::test]
async fn an_id_of_meta_s_that_is_another_now_is_the_same_person_s_in_whatever_words_it_is_told() {
    on_each(async |database| {
        let graph = Receiver::start().await;
        let (app, _) = shop(database, &graph).await;
        // The old id and the new one, as different notices name them.
        let shapes = [
            (json!({ "from_user_id": "new" }), json!({ "user_id": "new", "previous_user_id": "old" })),
            (json!({ "from_user_id": "new" }), json!({ "previous_user_id": "old" })),
            (json!({ "from_user_id": "old" }), json!({ "user_id": "new" })),
            (json!({ "from_user_id": "old" }), json!({ "user_id": "new", "previous_user_id": "old" })),
        ];
        for (n, (from_whom, system)) in shapes.iter().enumerate() {
            let named = |of: &Value| {
                let text = of.to_string();
                let text = text.replace("\"new\"", &format!("\"US.{n}new\""));
                serde_json::from_str::<Value>(&text.replace("\"old\"", &format!("\"US.{n}old\""))).unwrap()
            };
            let mut system = named(system);
            system["type"] = json!("user_changed_user_id");
            let mut notice = named(from_whom);
            (notice["id"], notice["type"]) = (json!(format!("{n}.2")), json!("system"));
            (notice["timestamp"], notice["system"]) = (json!("1799999001"), system);
            let (old, new) = (format!("US.{n}old"), format!("US.{n}new"));
            let wrote = |user: &str, id: &str| {
                json!({ "messages": [{ "from": "", "from_user_id": user, "id": id, "timestamp": "1799999000",
                    "type": "text", "text": { "body": id } }] })
            };
            tell(&app, &[wrote(&old, &format!("{n}.1"))]).await;
            // Also where he has written before it is told.
            tell(&app, &[wrote(&new, &format!("{n}.0"))]).await;
            tell(&app, &[json!({ "messages": [notice] }), wrote(&new, &format!("{n}.3"))]).await;
            let all = people(&app).await;
            assert_eq!(all.len(), n + 1, "{n}: {all:#?}");
            assert_eq!(all[n]["identities"], json!([{ "kind": "user_id", "value": new }]), "{n}");
            let address = format!("{new}@bsuid");
            assert_eq!(from(&app, &format!("{n}.3")).await, address);
            let said = talks(&app).await;
            let said: Vec<_> = said.iter().filter(|(chat, _)| *chat == address).collect();
            assert_eq!(said.len(), 1, "{n}");
            assert_eq!(said[0].1.len(), 4, "{n}");
        }
        app.close().await;
    })
    .await;
}

#[tokio::test]
async fn who_has_a_number_after_somebody_else_is_somebody_else() {
    on_each(async |database| {
        let graph = Receiver::start().await;
        let (app, path) = shop(database, &graph).await;
        set_up(&app, &app.token, complete("77", "another", SECRET)).await;
        tell(&app, &[by(OLD, "US.1", "1")]).await;
        tell(&app, &[by(OLD, "US.2", "2")]).await;
        assert_eq!(people(&app).await.len(), 2);
        let said = talks(&app).await;
        let (first, second) = ("US.1@bsuid".to_owned(), format!("{OLD}@c.us"));
        assert_eq!(said, [talk(&second, &["2"]), talk(&first, &["1"])]);
        // Another business has other ids of the same people.
        let mut other = by(OLD, "US.9", "9");
        other["metadata"] = json!({ "phone_number_id": "77" });
        let body = changes("another", &[json!({ "field": "messages", "value": other })]);
        assert_eq!(deliver(&app, SHARED, SECRET, body.to_string().as_bytes()).await.status, 200);
        app.meta.drive().await.unwrap();
        tell(&app, &[by(OLD, "US.2", "3")]).await;
        assert_eq!(people(&app).await.len(), 2);
        // The first has a new number, and shows it.
        tell(&app, &[by(NEW, "US.1", "4")]).await;
        assert_eq!(people(&app).await.len(), 2);
        assert_eq!(from(&app, "4").await, format!("{NEW}@c.us"));
        take(&app, &path, text_to(&from(&app, "3").await, "an answer")).await;
        graph.next([takes("wamid.a")]);
        app.sender.drive().await.unwrap();
        assert_eq!(graph.requests()[0].json()["to"], OLD);
        // Told of it by Meta, he has another id with it: he is who he was.
        tell(
            &app,
            &[
                new_number(&json!({ "from": NEW }), "12195550000", "5"),
                by("12195550000", "US.7", "6"),
            ],
        )
        .await;
        assert_eq!(people(&app).await.len(), 2);
        app.close().await;
    })
    .await;
}

#[tokio::test]
async fn a_contact_is_written_to_by_our_own_id_wherever_they_are_now() {
    on_each(async |database| {
        let graph = Receiver::start().await;
        let (app, path) = shop(database, &graph).await;
        tell(&app, &[by(OLD, "US.1", "1")]).await;
        let to = format!("{}@contact", people(&app).await[0]["id"].as_str().unwrap());
        let send = async |key: &str| {
            let request = app.request(reqwest::Method::POST, &path).header("idempotency-key", key);
            crate::http_app::Answer::to(crate::http_app::json(request, &text_to(&to, "hi"))).await
        };
        let first = send("a").await;
        assert_eq!(first.status, 202, "{}", first.text());
        tell(&app, &[new_number(&json!({ "from": OLD }), NEW, "2")]).await;
        let again = send("a").await;
        assert_eq!(
            (again.status.as_u16(), &again.json()["data"]["id"]),
            (200, &first.json()["data"]["id"])
        );
        assert_eq!(send("b").await.status, 202);
        graph.next([takes("wamid.a"), takes("wamid.b")]);
        app.sender.drive().await.unwrap();
        let asked: Vec<_> = graph.requests().iter().map(|it| it.json()["to"].clone()).collect();
        assert_eq!(asked, [json!(OLD), json!(NEW)]);
        // A conversation of an earlier version, called by it, is called by the number when it goes on.
        database.execute(&format!("UPDATE conversation SET chat = '{to}'")).await;
        database.execute(&format!("UPDATE message SET chat = '{to}'")).await;
        tell(&app, &[hello(NEW, "3", "still me")]).await;
        assert_eq!(talks(&app).await[0].0, format!("{NEW}@c.us"));
        assert_eq!(talks(&app).await[0].1.len(), 5);
        // Nobody's, and somebody else's.
        let nobody = text_to("con_01JJ2Q8ZK4XG0V3M5N7P9R1T3V@contact", "hi");
        app.post(&path, nobody).await.invalid(&["/to"]);
        let (_, other) = tenant(&app, "other").await;
        let account = set_up(&app, &other, complete("77", "7", "another_secret")).await;
        let theirs = format!("/api/meta/accounts/{}/messages", account["id"].as_str().unwrap());
        let refused =
            crate::meta::ask(&app, &other, reqwest::Method::POST, &theirs, &text_to(&to, "hi"))
                .await;
        refused.invalid(&["/to"]);
        let all = app.get(&format!("/api/whatsapp/session/{SESSION}/messages?limit=500")).await;
        assert_eq!(all.json()["data"].as_array().unwrap().len(), 5);
        app.close().await;
    })
    .await;
}
