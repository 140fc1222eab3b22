//! Registering a number's messages, and the flat object that comes of each.

use futures_util::future::join_all;
use serde_json::{Value, json};
use wagate::event::{Ciphertext, Event};

use crate::{database::on_each, http_app::App, receiver::Receiver, webhooks_api::endpoint};

const REGISTER: &str = "/api/webhooks/register";

fn registration(receiver: &Receiver) -> Value {
    json!({ "phone_number": "6281234567890", "webhook_url": receiver.url(), "max_retries": 3 })
}

#[tokio::test]
async fn registered_by_many_at_one_time_it_is_one_endpoint() {
    on_each(async |database| {
        let app = App::start(database).await;
        let receiver = Receiver::start().await;
        let body = registration(&receiver);
        let answers = join_all((0..6).map(|_| app.post(REGISTER, body.clone()))).await;
        let mut statuses: Vec<_> = answers.iter().map(|it| it.status.as_u16()).collect();
        statuses.sort_unstable();
        assert_eq!(statuses, [200, 200, 200, 200, 200, 201]);
        let ids: Vec<_> = answers.iter().map(|it| it.json()["data"]["id"].clone()).collect();
        assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
        let secrets = answers.iter().filter(|it| it.json()["data"]["secret"].is_string());
        assert_eq!(secrets.count(), 1);
        app.session("shop").await;
        app.connect("shop").await;
        app.hear("shop", "4911", "once").await;
        app.deliveries.drive().await.unwrap();
        assert_eq!(receiver.count(), 1);
        app.close().await;
    })
    .await;
}

#[tokio::test]
async fn registered_again_it_keeps_what_is_not_said_anew() {
    on_each(async |database| {
        let app = App::start(database).await;
        let receiver = Receiver::start().await;
        let mut body = registration(&receiver);
        let retries = async |body: &Value| {
            app.post(REGISTER, body.clone()).await.json()["data"]["max_retries"].clone()
        };
        assert_eq!(retries(&body).await, 3);
        body.as_object_mut().unwrap().remove("max_retries");
        assert_eq!(retries(&body).await, 3);
        body["max_retries"] = json!(5);
        assert_eq!(retries(&body).await, 5);
        body["max_retries"] = Value::Null;
        assert_eq!(retries(&body).await, Value::Null);
        app.close().await;
    })
    .await;
}

#[tokio::test]
async fn a_flat_message_has_whatsapps_id_and_comes_when_it_can_be_read() {
    on_each(async |database| {
        let app = App::start(database).await;
        let (flat, envelope) = (Receiver::start().await, Receiver::start().await);
        let made = app.post(REGISTER, registration(&flat)).await;
        let id = made.json()["data"]["id"].as_str().unwrap().to_owned();
        endpoint(&app, json!({ "url": envelope.url(), "event_types": ["message.received"] })).await;
        app.session("shop").await;
        app.connect("shop").await;
        let message = app.message("4911", "readable at last");
        let unreadable = Ciphertext {
            wa_id: message.wa_id.clone(),
            chat: message.chat.clone(),
            sender: message.sender.clone(),
            direction: message.direction,
            sent_at: message.sent_at,
            is_group: false,
            offline: false,
            unavailable: false,
        };
        app.happen("shop", Event::Ciphertext(unreadable)).await;
        app.deliveries.drive().await.unwrap();
        assert_eq!((flat.count(), envelope.count()), (0, 1));
        app.happen("shop", Event::Message(Box::new(message.clone()))).await;
        app.deliveries.drive().await.unwrap();
        assert_eq!((flat.count(), envelope.count()), (1, 2));
        let body = flat.requests()[0].json();
        assert_eq!(body["content"], "readable at last");
        assert_eq!(body["message_id"], message.wa_id);
        assert_eq!(body["metadata"]["wa_message_id"], message.wa_id);
        assert_eq!(body["metadata"]["gateway_message_id"], message.id.to_string());

        // Nor is what could not be read sent again.
        let replay = json!({ "after_sequence": 0 });
        assert_eq!(app.post(&format!("/api/webhooks/{id}/replay"), replay).await.status, 202);
        app.store.webhooks().step_replays().await.unwrap();
        app.deliveries.drive().await.unwrap();
        assert_eq!(flat.count(), 2);
        assert!(flat.requests().iter().all(|it| it.json()["type"] == "text"));
        app.close().await;
    })
    .await;
}
