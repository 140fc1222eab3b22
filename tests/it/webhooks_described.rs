//! What receivers get is what the OpenAPI document says that they get.

use serde_json::{Value, json};

use crate::{
    contract,
    database::on_each,
    http_app::App,
    receiver::{Receiver, Request},
    webhooks_api::endpoint,
};

/// Fails unless this request is as the document's webhook of this name says.
#[track_caller]
pub(crate) fn check(webhook: &str, request: &Request) {
    let document = contract::document();
    let described = &document["webhooks"][webhook]["post"];
    let headers = described["parameters"].as_array().unwrap();
    assert_eq!(headers.len(), 3);
    for header in headers {
        let name = header["name"].as_str().unwrap();
        let value = request.headers.get(name);
        assert!(value.is_some_and(|it| !it.is_empty()), "{name}");
    }
    let schema = format!("/webhooks/{webhook}/post/requestBody/content/application~1json/schema");
    contract::check_value(&schema, &request.json());
}

#[tokio::test]
async fn deliveries_in_either_format_are_as_the_document_describes_them() {
    on_each(async |database| {
        let app = App::start(database).await;
        let (events, messages) = (Receiver::start().await, Receiver::start().await);
        app.session("shop").await;
        app.connect("shop").await;
        endpoint(&app, json!({ "url": events.url() })).await;
        let register =
            json!({ "phone_number": "+62 812-3456-7890", "webhook_url": messages.url() });
        let made = app.post("/api/webhooks/register", register).await;
        assert!(made.status.is_success(), "{}", made.text());
        app.hear("shop", "4911", "hello").await;
        app.connect("shop").await;
        app.show_qr("shop", "2@code").await;
        app.deliveries.drive().await.unwrap();

        let told = events.requests();
        assert_eq!(told.len(), 3);
        for request in &told {
            check("event", request);
        }
        let flat = messages.requests();
        assert_eq!(flat.len(), 1);
        check("message", &flat[0]);
        assert_eq!(flat[0].json()["content"], "hello");

        // The examples are of the same kind, member for member.
        let document = contract::document();
        let example = |webhook: &str, name: &str| {
            let content = &document["webhooks"][webhook]["post"]["requestBody"]["content"];
            content["application/json"]["examples"][name]["value"].clone()
        };
        let names = |value: &Value| {
            value.as_object().unwrap().keys().cloned().collect::<std::collections::BTreeSet<_>>()
        };
        assert_eq!(names(&example("message", "message.received")), names(&flat[0].json()));
        let ready = told.iter().find(|it| it.json()["type"] == "session.ready").unwrap().json();
        let shown = example("event", "session.ready");
        assert_eq!(names(&shown), names(&ready));
        assert_eq!(names(&shown["data"]), names(&ready["data"]));
        app.close().await;
    })
    .await;
}
