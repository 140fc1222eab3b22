//! What Meta posts when it is large, slow or many, and when the database is away: taken whole or not at all.

use std::time::Duration;

use reqwest::Method;
use serde_json::json;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use wagate::{http::Limits, service::meta::Options};

use crate::{
    database::on_each,
    http_app::{Answer, App},
    meta::{
        NUMBER, SECRET, SHARED, SHORT, WABA, changes, complete, deliver, log, set_up, tenant, text,
    },
    meta_ingest::rows,
};

#[tokio::test]
async fn a_body_of_meta_s_greatest_size_is_taken_and_a_greater_one_is_not() {
    on_each(async |database| {
        let app = App::start(database).await;
        set_up(&app, &app.token, complete(NUMBER, WABA, SECRET)).await;
        let long = text(WABA, NUMBER, "long", &"x".repeat(3 << 20)).to_string();
        assert_eq!(deliver(&app, SHARED, SECRET, long.as_bytes()).await.status, 200);
        let longer = text(WABA, NUMBER, "longer", &"x".repeat(4 << 20)).to_string();
        let refused = deliver(&app, SHARED, SECRET, longer.as_bytes()).await;
        refused.problem(413, "BODY_TOO_LARGE");
        assert_eq!(rows(database, "meta_body").await, 1);
        app.close().await;
    })
    .await;
}

#[tokio::test]
async fn who_sends_slowly_is_cut_off_and_keeps_nobody_else_out_for_longer() {
    on_each(async |database| {
        let limits = Limits {
            meta_posts: 1,
            body_time: Duration::from_millis(300),
            ..Limits::default()
        };
        let app = App::with_meta(database, limits, Options::default()).await;
        set_up(&app, &app.token, complete(NUMBER, WABA, SECRET)).await;
        let mut slow = TcpStream::connect(app.base.trim_start_matches("http://")).await.unwrap();
        let head = format!(
            "POST {SHARED} HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\nx-hub-signature-256: sha256={}\r\n\r\n{{",
            "0".repeat(64)
        );
        slow.write_all(head.as_bytes()).await.unwrap();
        let body = text(WABA, NUMBER, "1", "hi").to_string();
        assert_eq!(deliver(&app, SHARED, SECRET, body.as_bytes()).await.status, 200);
        let mut answer = vec![0; 12];
        slow.read_exact(&mut answer).await.unwrap();
        assert_eq!(answer, b"HTTP/1.1 408");
        app.close().await;
    })
    .await;
}

#[tokio::test]
async fn without_a_database_nothing_is_taken() {
    on_each(async |database| {
        let app = App::start(database).await;
        let account = set_up(&app, &app.token, complete(NUMBER, WABA, SECRET)).await;
        let body = text(WABA, NUMBER, "1", "hi").to_string();
        assert_eq!(deliver(&app, SHARED, SECRET, body.as_bytes()).await.status, 200);
        let next = text(WABA, NUMBER, "2", "hi").to_string();
        app.store.close().await;
        for path in [SHARED, SHORT, account["ownPath"].as_str().unwrap()] {
            let answer = deliver(&app, path, SECRET, next.as_bytes()).await;
            answer.problem(503, "DATABASE_UNAVAILABLE");
            assert_eq!(answer.header("retry-after"), "5");
        }
        let query = format!("hub.mode=subscribe&hub.challenge=1&hub.verify_token=verify-{NUMBER}");
        let challenge = Answer::to(app.anonymous(Method::GET, &format!("{SHARED}?{query}"))).await;
        challenge.problem(503, "DATABASE_UNAVAILABLE");
        app.close().await;
        assert_eq!(rows(database, "meta_event").await, 1);
    })
    .await;
}

#[tokio::test]
async fn a_database_that_takes_no_writes_is_503_and_what_was_posted_is_taken_when_it_does() {
    on_each(async |database| {
        let app = App::start(database).await;
        set_up(&app, &app.token, complete(NUMBER, WABA, SECRET)).await;
        // Its rows are there to be read, and nothing can be added.
        database.execute("ALTER TABLE meta_event RENAME TO gone").await;
        let body = text(WABA, NUMBER, "1", "hi").to_string();
        let answer = deliver(&app, SHARED, SECRET, body.as_bytes()).await;
        answer.problem(503, "DATABASE_UNAVAILABLE");
        assert_eq!(answer.header("retry-after"), "5");
        assert_eq!(rows(database, "meta_body").await, 0, "all of it, or nothing");
        database.execute("ALTER TABLE gone RENAME TO meta_event").await;
        assert_eq!(deliver(&app, SHARED, SECRET, body.as_bytes()).await.status, 200);
        assert_eq!(rows(database, "meta_event").await, 1);
        // Nor is it 500 where it cannot be read.
        database.execute("ALTER TABLE meta_account RENAME TO gone").await;
        for path in [SHARED, SHORT, "/api/webhooks/whatsapp/some-key"] {
            let answer = deliver(&app, path, SECRET, body.as_bytes()).await;
            answer.problem(503, "DATABASE_UNAVAILABLE");
            let query = "hub.mode=subscribe&hub.challenge=1&hub.verify_token=verify-it";
            let challenge =
                Answer::to(app.anonymous(Method::GET, &format!("{path}?{query}"))).await;
            challenge.problem(503, "DATABASE_UNAVAILABLE");
        }
        database.execute("ALTER TABLE gone RENAME TO meta_account").await;
        app.close().await;
    })
    .await;
}

#[tokio::test]
async fn no_organization_keeps_another_s_secret_from_being_tried() {
    on_each(async |database| {
        let app = App::start(database).await;
        let (_, theirs) = tenant(&app, "theirs").await;
        for number in 0..70 {
            let secret = format!("their_app_secret_{number}");
            set_up(&app, &theirs, complete(&format!("7{number}"), WABA, &secret)).await;
        }
        // More than are looked at in one go, and older than ours.
        let (id, _) = tenant(&app, "many").await;
        let rows: Vec<_> = (0..500)
            .map(|number| {
                format!(
                    "('mac_{number:026}', '{id}', '8{number}', '{WABA}', '', 'x', '/x', 'key-{number}', 'verified', 1, 0, 0)"
                )
            })
            .collect();
        let columns = "id, organization_id, phone_number_id, waba_id, app_print, verify_hash, callback_path, callback_key, status, version, created_at, updated_at";
        let insert = format!("INSERT INTO meta_account ({columns}) VALUES {}", rows.join(", "));
        database.execute(&insert).await;
        set_up(&app, &app.token, complete(NUMBER, WABA, SECRET)).await;
        let ours = text(WABA, NUMBER, "1", "hi").to_string();
        assert_eq!(deliver(&app, SHARED, SECRET, ours.as_bytes()).await.status, 200);
        // What names the business account alone.
        let about = json!({ "field": "account_update", "value": { "event": "VERIFIED_ACCOUNT" } });
        let about = changes(WABA, &[about]).to_string();
        assert_eq!(deliver(&app, SHORT, SECRET, about.as_bytes()).await.status, 200);
        assert_eq!(log(&app, &app.token).await.len(), 2);
        assert_eq!(log(&app, &theirs).await.len(), 0);
        app.close().await;
    })
    .await;
}
