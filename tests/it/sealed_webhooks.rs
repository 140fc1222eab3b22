//! What a thief of the database finds of webhooks: nothing to call, to sign or to log in with.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use reqwest::Method;
use serde_json::{Value, json};

use crate::{
    database::on_each,
    http_app::{Answer, App, json as with_json},
    receiver::Receiver,
    secrets::{Secret, dump, found_in},
};

/// A signing secret in each form in which somebody could have written it down.
fn forms(name: &str, secret: &str) -> Vec<Secret> {
    let key = secret.strip_prefix("whsec_").unwrap();
    vec![
        (format!("{name} as text"), secret.as_bytes().to_vec()),
        (format!("{name} without its prefix"), key.as_bytes().to_vec()),
        (format!("{name} as a key"), STANDARD.decode(key).unwrap()),
    ]
}

#[tokio::test]
async fn no_secret_of_an_endpoint_can_be_read_off_the_database() {
    on_each(async |database| {
        let app = App::start(database).await;
        let receiver = Receiver::start().await;
        app.session("shop").await;
        let keyed = async |path: &str, key: &str, body: &Value| {
            let request = with_json(app.request(Method::POST, path), body);
            Answer::to(request.header("idempotency-key", key)).await.json()["data"].clone()
        };
        let header = "Bearer of-the-receiver-alone";
        let body = json!({
            "url": format!("http://{}/services/a-path-like-a-secret", receiver.address),
            "event_types": ["message.*"], "headers": { "authorization": header },
            "description": "a description in clear",
        });
        let made = keyed("/api/webhooks", "make-it", &body).await;
        let path = format!("/api/webhooks/{}", made["id"].as_str().unwrap());
        let flat = json!({
            "phone_number": "6281234567890", "webhook_url": receiver.url(), "max_retries": 3,
        });
        let registered = app.post("/api/webhooks/register", flat).await.json();
        let rotated = app.post(&format!("{path}/secret/rotate"), json!({})).await.json();
        let again = app.post(&format!("{path}/secret/rotate"), json!({})).await.json();
        let mut secrets = vec![
            ("a header".to_owned(), header.as_bytes().to_vec()),
            ("an address".to_owned(), b"a-path-like-a-secret".to_vec()),
            ("a pairing code".to_owned(), b"ABCD-1234".to_vec()),
            ("the operator's token".to_owned(), app.token.clone().into_bytes()),
        ];
        for (name, secret) in [
            ("the first secret", &made["secret"]),
            ("the second secret", &rotated["data"]["secret"]),
            ("the third secret", &again["data"]["secret"]),
            ("what is registered", &registered["data"]["secret"]),
        ] {
            let secret = secret.as_str().unwrap_or_else(|| panic!("{name}: {registered}"));
            secrets.extend(forms(name, secret));
        }
        assert!(made["url"].as_str().unwrap().ends_with("/a-path-like-a-secret"));
        app.external("elsewhere", json!({})).await;
        let told = app.tell("elsewhere", "code", json!({ "code": "ABCD-1234" })).await;
        assert_eq!(told.status, 202, "{}", told.text());
        let feed = app.get("/api/whatsapp/session/elsewhere/events/page?after=0").await;
        assert!(feed.text().contains("ABCD-1234"), "{}", feed.text());
        // All of them are in use.
        app.hear("shop", "4911", "a body in clear").await;
        app.post(&format!("{path}/test"), json!({})).await;
        app.deliveries.drive().await.unwrap();
        let request = receiver.requests().remove(0);
        for secret in [&made["secret"], &rotated["data"]["secret"], &again["data"]["secret"]] {
            assert!(request.is_signed_with(secret.as_str().unwrap()));
        }
        assert_eq!(request.headers["authorization"], header);

        // What is not sealed shows that the rest would be found.
        let clear = ["a description in clear", "a body in clear"]
            .map(|text| (text.to_owned(), text.as_bytes().to_vec()));
        let look = || {
            let bytes = dump(database);
            assert_eq!(found_in(&bytes, &clear), clear.clone().map(|(name, _)| name));
            assert_eq!(found_in(&bytes, &secrets), Vec::<String>::new(), "{database:?}");
        };
        look();
        app.close().await;
        look();
    })
    .await;
}
