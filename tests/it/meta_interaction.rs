//! What was chosen, ordered, filled in or shown: in views, in events and in both forms of webhooks.

use serde_json::{Value, json};

use crate::{
    database::on_each,
    http_app::App,
    meta::{NUMBER, SECRET, WABA, complete, set_up},
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
        for (n, (message, _)) in all.iter().enumerate() {
            let mut message = message.clone();
            (message["from"], message["id"]) = (json!("16505551234"), json!(format!("wamid.{n}")));
            message["timestamp"] = json!("1799999000");
            tell(&app, &[json!({ "messages": [message] })]).await;
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
            assert_eq!(find(&flats, n, "/message_id")["metadata"]["interaction"], *expected, "{n}");
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
