//! Messages of sessions that run elsewhere show that they have a file, and what kind of one. The file stays there.

use serde_json::{Value, json};

use crate::{database::on_each, http_app::App};

const ALICE: &str = "6281234567890@c.us";
const BOB: &str = "6289876543210@c.us";

/// Posts a message with these members, and answers it as it is shown.
async fn posted(app: &App, id: &str, more: Value) -> Value {
    let mut message = json!({ "id": id, "from": ALICE, "to": BOB, "timestamp": 1_640_995_200 });
    for (name, value) in more.as_object().unwrap() {
        message[name] = value.clone();
    }
    let told = app.tell("shop", "message", json!({ "message": message })).await;
    assert_eq!(told.status, 200, "{}", told.text());
    let page = app.get("/api/whatsapp/session/shop/messages?limit=100").await.json();
    let rows = page["data"].as_array().unwrap();
    rows.iter().find(|row| row["waId"] == id).unwrap().clone()
}

#[tokio::test]
async fn a_message_with_a_file_says_what_it_is_wherever_its_client_has_that() {
    on_each(async |database| {
        let app = App::start(database).await;
        app.external("shop", json!({})).await;
        // As whatsapp-web.js has it: the particulars in what the page has of it.
        let document = json!({
            "type": "document", "hasMedia": true, "body": "Your bill",
            "_data": {
                "mimetype": "application/pdf", "filename": "Bill März.pdf", "size": 48_213,
                "mediaKey": "c2VjcmV0", "directPath": "/v/t62.7119-24/1",
            },
        });
        let seen = posted(&app, "3EB0D", document).await;
        assert_eq!((&seen["type"], &seen["body"]), (&json!("document"), &json!("Your bill")));
        assert_eq!(
            seen["media"],
            json!({
                "mimetype": "application/pdf", "size": 48_213, "fileName": "Bill März.pdf",
                "voice": false, "viewOnce": false, "url": null,
            })
        );
        // As a download of it is called there, with the file itself, which is not kept.
        let image = json!({
            "type": "image", "hasMedia": true, "_data": { "width": 640, "height": 480 },
            "media": { "mimetype": "image/jpeg", "data": "aGVsbG8=", "filesize": 5 },
        });
        let seen = posted(&app, "3EB0I", image).await;
        assert_eq!(seen["type"], "image");
        assert_eq!(
            seen["media"],
            json!({
                "mimetype": "image/jpeg", "size": 5, "width": 640, "height": 480,
                "voice": false, "viewOnce": false, "url": null,
            })
        );
        // Beside the rest.
        let voice =
            json!({ "type": "ptt", "hasMedia": true, "mimetype": "audio/ogg", "duration": "7" });
        let media = posted(&app, "3EB0V", voice).await["media"].clone();
        assert_eq!((&media["voice"], &media["seconds"]), (&json!(true), &json!(7)));
        // What it is called says less than what it is.
        for (id, mimetype, kind) in [
            ("1", json!("image/png"), "image"),
            ("2", json!("video/mp4"), "video"),
            ("3", json!("audio/mpeg"), "audio"),
            ("4", json!("text/csv"), "document"),
            ("5", Value::Null, "document"),
        ] {
            let more = json!({ "hasMedia": true, "mimetype": mimetype });
            let seen = posted(&app, &format!("3EB0T{id}"), more).await;
            assert_eq!((&seen["type"], &seen["media"]["mimetype"]), (&json!(kind), &mimetype));
        }
        let seen = posted(&app, "3EB0N", json!({ "type": "chat", "hasMedia": false })).await;
        assert_eq!((&seen["type"], &seen["media"]), (&json!("text"), &Value::Null));
        let once = json!({ "type": "image", "_data": { "isViewOnce": true } });
        assert_eq!(posted(&app, "3EB0O", once).await["media"]["viewOnce"], true);

        // The file is not here, and nobody says that it is.
        let id = seen["id"].as_str().unwrap();
        app.get(&format!("/api/whatsapp/session/shop/messages/{id}/media"))
            .await
            .problem(409, "SESSION_EXTERNAL");
        // What it is called is for its organization alone.
        let sql = "SELECT count(*) FROM message WHERE raw IS NOT NULL";
        assert_eq!(database.count(sql).await, 9);
        for row in database.query("SELECT raw FROM message WHERE raw IS NOT NULL").await {
            let stored: Vec<u8> = row.try_get("", "raw").unwrap();
            assert!(!stored.windows(4).any(|it| it == b"Bill"));
        }
        app.close().await;
    })
    .await;
}

#[tokio::test]
async fn what_cannot_be_read_of_a_file_is_left_out_and_the_message_is_kept() {
    on_each(async |database| {
        let app = App::start(database).await;
        app.external("shop", json!({})).await;
        let odd = json!({
            "type": "image", "hasMedia": true, "media": 7,
            "_data": {
                "mimetype": ["image/png"], "filename": "x".repeat(256), "size": -1, "width": 1e300,
                "height": "tall", "duration": {}, "isViewOnce": "no",
            },
        });
        let seen = posted(&app, "3EB0X", odd).await;
        assert_eq!(
            seen["media"],
            json!({
                "mimetype": null, "size": null, "voice": false, "viewOnce": false, "url": null,
            })
        );
        let body = json!({ "message": {
            "id": "3EB0Y", "from": ALICE, "hasMedia": "yes", "type": "image",
        } });
        app.tell("shop", "message", body).await.invalid(&["/data/message/hasMedia"]);
        app.close().await;
    })
    .await;
}
