//! What callers keep with sessions is sealed, and what does not open is counted.

use entity::id::MessageId;
use serde_json::json;

use crate::{
    database::{Database, Kind, on_each},
    http_app::App,
    http_metrics::Figures,
    retention::record_in,
};

const SECRET: &str = "the-private-key-of-a-device";

async fn stored(database: &Database, session: &str) -> String {
    let ask = format!("SELECT session_data FROM session WHERE session_id = '{session}'");
    database.query(&ask).await[0].try_get_by_index(0).unwrap()
}

#[tokio::test]
async fn what_a_caller_keeps_with_a_session_is_sealed_also_what_is_there_already() {
    on_each(async |database| {
        let app = App::start(database).await;
        let data = json!({ "vps_session_id": "wa_shop", "creds": SECRET });
        let made = app.external("shop", json!({ "sessionData": data })).await;
        assert_eq!(made["sessionData"], data);
        assert!(stored(database, "shop").await.starts_with("sealed:"));
        let path = "/api/whatsapp/session/shop";
        let changed = app.patch(path, json!({ "sessionData": { "creds": SECRET } })).await.json();
        assert_eq!(changed["data"]["sessionData"], json!({ "creds": SECRET }));
        assert!(stored(database, "shop").await.starts_with("sealed:"));
        assert!(!app.store.has_clear_secrets().await.unwrap());

        // As an installation from before has it.
        let old = json!({ "creds": SECRET, "old": true });
        database.execute(&format!("UPDATE session SET session_data = '{old}'")).await;
        database.execute("UPDATE vault SET sealed_at = NULL").await;
        assert_eq!(app.get(path).await.json()["data"]["sessionData"], old, "it can be read");
        for sealed in [1, 0] {
            assert_eq!(app.store.seal_old_rows().await.unwrap(), sealed);
            assert!(stored(database, "shop").await.starts_with("sealed:"));
        }
        assert_eq!(app.get(path).await.json()["data"]["sessionData"], old);
        assert_eq!(app.store.unopened_secrets(), 0);
        app.close().await;
    })
    .await;
}

#[tokio::test]
async fn what_does_not_open_is_counted_wherever_it_is_read() {
    on_each(async |database| {
        let app = App::start(database).await;
        let unopened =
            async || Figures::of(&app).await.get("wagate_secrets_unopened_total").to_owned();
        for name in ["shop", "other"] {
            app.external(name, json!({ "sessionData": { "creds": SECRET } })).await;
        }
        assert_eq!(unopened().await, "0");
        // Moved from one row to another.
        let theirs = "(SELECT session_data FROM session WHERE session_id = 'other')";
        database
            .execute(&format!(
                "UPDATE session SET session_data = {theirs} WHERE session_id = 'shop'"
            ))
            .await;
        let before: u64 = unopened().await.parse().unwrap();
        let seen = app.get("/api/whatsapp/session/shop").await.json();
        assert!(seen["data"]["sessionData"].is_null(), "{seen}");
        let after: u64 = unopened().await.parse().unwrap();
        assert!(after > before, "{before}, then {after}");

        // A message as it came: altered, and cut off.
        let id = "shop".parse().unwrap();
        let session = app.store.sessions().find(&app.organization, &id).await.unwrap().unwrap();
        record_in(&app.store, app.clock.now(), &session, 1, "hello").await;
        let ask = "SELECT id FROM message";
        let id: String = database.query(ask).await[0].try_get_by_index(0).unwrap();
        let id: MessageId = id.parse().unwrap();
        for raw in ["01".to_owned() + &"00".repeat(60), "0100".to_owned()] {
            let raw = match database.kind {
                Kind::Sqlite => format!("x'{raw}'"),
                Kind::Postgres => format!("'\\x{raw}'::bytea"),
            };
            database.execute(&format!("UPDATE message SET raw = {raw}")).await;
            let row = app.store.messages().find_by_id(&id).await.unwrap().unwrap();
            let before = app.store.unopened_secrets();
            assert_eq!(app.store.raw(&row).await.unwrap(), None);
            assert_eq!(app.store.unopened_secrets(), before + 1);
        }
        app.close().await;
    })
    .await;
}
