//! What was chosen, ordered, filled in or shown: in views, in events and in both forms of webhooks.

use serde_json::{Value, json};

use crate::{
    database::on_each,
    http_app::App,
    meta::{NUMBER, SECRET, SHARED, WABA, changes, complete, deliver, set_up},
    meta_processing::{SESSION, messages, tell},
    receiver::{Receiver, Request},
};

/// Messages of each kind, with what is to be found of them.
fn told() -> Vec<(Value, Value)> {
    let referral =
        json!({ "source_url": "https://fb.me/x", "source_type": "ad", "ctwa_clid": "ARAk" });
    let product = json!({ "catalog_id": "194", "product_retailer_id": "sku-1" });
    let parts = [
        (
            "interactive",
            json!({ "type": "list_reply", "list_reply": { "id": "priority_express", "title": "Express" } }),
        ),
        (
            "interactive",
            json!({ "type": "nfm_reply", "nfm_reply": { "body": "Sent", "response_json": "{\"a\":1}" } }),
        ),
        ("button", json!({ "text": "Unsubscribe", "payload": "opt-out" })),
        (
            "order",
            json!({ "catalog_id": "194", "product_items": [{ "product_retailer_id": "sku-1", "quantity": 2 }] }),
        ),
        ("location", json!({ "latitude": 44.5, "longitude": -110.8, "name": "Geyser" })),
        (
            "contacts",
            json!([{ "name": { "formatted_name": "Ada" }, "phones": [{ "phone": "+1 650" }] }]),
        ),
    ];
    let mut all: Vec<_> = parts
        .into_iter()
        .map(|(word, part)| (json!({ "type": word, word: part }), json!({ word: part })))
        .collect();
    all.push((
        json!({ "type": "text", "text": { "body": "hi" }, "referral": referral, "context": { "referred_product": product } }),
        json!({ "referral": referral, "referred_product": product }),
    ));
    all.push((json!({ "type": "text", "text": { "body": "plain" } }), Value::Null));
    // What there is no word for, yet.
    all.push((
        json!({ "type": "hologram", "hologram": { "depth": 12.5, "of": ["cat"] } }),
        Value::Null,
    ));
    // What is beyond measure is named and not kept here: it is in the log as Meta has told it.
    let large = json!([{ "name": { "formatted_name": "x".repeat(40_000) } }]);
    all.push((
        json!({ "type": "contacts", "contacts": large }),
        json!({ "omitted": ["contacts"] }),
    ));
    all
}

#[tokio::test]
async fn what_was_chosen_or_ordered_is_told_in_meta_s_words_everywhere() {
    on_each(async |database| {
        let app = App::start(database).await;
        set_up(&app, &app.token, complete(NUMBER, WABA, SECRET)).await;
        let receiver = Receiver::start().await;
        app.post("/api/webhooks", json!({ "url": receiver.url() })).await;
        let flat = Receiver::start().await;
        let register =
            json!({ "phone_number": "15550783881", "webhook_url": flat.url(), "max_retries": 3 });
        let made = app.post("/api/webhooks/register", register).await;
        assert!(made.status.is_success(), "{}", made.text());
        let all = told();
        let mut written = Vec::new();
        for (n, (message, _)) in all.iter().enumerate() {
            let mut message = message.clone();
            (message["from"], message["id"]) = (json!("16505551234"), json!(format!("wamid.{n}")));
            message["timestamp"] = json!("1799999000");
            tell(&app, &[json!({ "messages": [message] })]).await;
            written.push(message);
        }
        app.deliveries.drive().await.unwrap();
        let find = |list: &[Value], n: usize, path: &str| {
            let id = json!(format!("wamid.{n}"));
            list.iter()
                .find(|it| *it.pointer(path).unwrap_or(&Value::Null) == id)
                .cloned()
                .unwrap_or_else(|| panic!("{n}: {list:#?}"))
        };
        let shown = messages(&app).await;
        let feed =
            app.get(&format!("/api/whatsapp/session/{SESSION}/events/page?limit=500")).await.json();
        let feed = feed["data"].as_array().unwrap().clone();
        let count = all.len();
        let is_message = |it: &Value| !it["data"]["message"]["id"].is_null();
        let bodies = receiver
            .until(move |got| got.iter().filter(|it| is_message(&it.json())).count() == count)
            .await;
        let bodies: Vec<_> = bodies.iter().map(Request::json).collect();
        let flats = flat.until(move |got| got.len() == count).await;
        let flats: Vec<_> = flats.iter().map(Request::json).collect();
        for (n, (_, expected)) in all.iter().enumerate() {
            assert_eq!(find(&shown, n, "/waId")["interaction"], *expected, "{n}");
            assert_eq!(
                find(&feed, n, "/data/message/id")["data"]["message"]["interaction"],
                *expected,
                "{n}"
            );
            assert_eq!(
                find(&bodies, n, "/data/message/id")["data"]["message"]["interaction"],
                *expected,
                "{n}"
            );
            let flat = find(&flats, n, "/message_id");
            assert_eq!(flat["metadata"]["interaction"], *expected, "{n}");
            assert_eq!(flat["metadata"]["channel"], "cloud", "{n}");
            // All of it is there as Meta wrote it, of one that is asked for by its id.
            let row = find(&shown, n, "/waId");
            assert_eq!(row["raw"], Value::Null);
            let id = row["id"].as_str().unwrap();
            let one = app.get(&format!("/api/whatsapp/session/{SESSION}/messages/{id}")).await;
            assert_eq!(one.json()["data"]["raw"], written[n], "{n}");
        }
        // What an earlier version has kept without is read anew.
        database.execute("UPDATE message SET interaction = NULL").await;
        app.post("/api/meta/events/reprocess", json!({})).await;
        app.meta.drive().await.unwrap();
        let shown = messages(&app).await;
        for (n, (_, expected)) in all.iter().enumerate() {
            assert_eq!(find(&shown, n, "/waId")["interaction"], *expected, "{n}");
        }
        app.close().await;
    })
    .await;
}

#[tokio::test]
async fn what_is_changed_taken_back_or_reacted_to_says_so_everywhere_and_written_on_the_phone_nowhere()
 {
    on_each(async |database| {
        let app = App::start(database).await;
        set_up(&app, &app.token, complete(NUMBER, WABA, SECRET)).await;
        let receiver = Receiver::start().await;
        app.post("/api/webhooks", json!({ "url": receiver.url() })).await;
        let new = json!({ "type": "text", "text": { "body": "new" } });
        let parts = [
            ("edit", json!({ "original_message_id": "wamid.0", "message": new }), json!("new")),
            ("revoke", json!({ "original_message_id": "wamid.0" }), Value::Null),
            ("reaction", json!({ "message_id": "wamid.0", "emoji": "\u{1f44d}" }), json!("\u{1f44d}")),
        ];
        let message = |word: &str, part: &Value, id: String| json!({
            "from": "16505551234", "id": id, "timestamp": "1799999000", "type": word, word: part,
        });
        let all = parts.iter().map(|(word, part, _)| {
            json!({ "messages": [message(word, part, format!("wamid.{word}"))] })
        });
        tell(&app, &all.collect::<Vec<_>>()).await;
        app.deliveries.drive().await.unwrap();
        let shown = messages(&app).await;
        let path = format!("/api/whatsapp/session/{SESSION}/events/page?limit=500");
        let feed = async || {
            let page = app.get(&path).await.json();
            let all = page["data"].as_array().unwrap().iter();
            all.filter(|it| it["event"] == "message").cloned().collect::<Vec<_>>()
        };
        let told = feed().await;
        let is_message = |it: &Value| it["type"] == "message.received";
        let bodies = receiver
            .until(move |got| got.iter().filter(|it| is_message(&it.json())).count() == 3)
            .await;
        let bodies: Vec<_> = bodies.iter().map(Request::json).filter(is_message).collect();
        for (word, _, body) in &parts {
            let id = json!(format!("wamid.{word}"));
            let row = shown.iter().find(|it| it["waId"] == id).unwrap();
            let of = |all: &[Value]| {
                let mut all = all.iter().map(|it| it["data"]["message"].clone());
                all.find(|it| it["id"] == id).unwrap()
            };
            for message in [row.clone(), of(&told), of(&bodies)] {
                assert_eq!(
                    (&message["type"], &message["targetId"], &message["body"]),
                    (&json!(word), &json!("wamid.0"), body),
                    "{message:#}"
                );
            }
        }
        // The same, written on the phone.
        let echoes: Vec<_> = parts
            .iter()
            .map(|(word, part, _)| {
                let mut echo = message(word, part, format!("wamid.own.{word}"));
                (echo["from"], echo["to"]) = (json!("15550783881"), json!("16505551234"));
                let metadata = json!({ "phone_number_id": NUMBER, "display_phone_number": "15550783881" });
                json!({ "field": "smb_message_echoes", "value": { "metadata": metadata, "message_echoes": [echo] } })
            })
            .collect();
        let body = changes(WABA, &echoes).to_string();
        assert_eq!(deliver(&app, SHARED, SECRET, body.as_bytes()).await.status, 200);
        app.meta.drive().await.unwrap();
        let shown = messages(&app).await;
        let own = shown.iter().filter(|it| it["fromMe"] == true && it["history"] == true);
        let own: Vec<_> = own.map(|it| it["targetId"].clone()).collect();
        assert_eq!(own, vec![json!("wamid.0"); 3]);
        assert_eq!(feed().await.len(), 3);
        app.close().await;
    })
    .await;
}
