//! A session is deleted: with WhatsApp's knowledge or without, and with everything that was its.

use futures_util::future::join_all;
use reqwest::{Method, StatusCode};
use serde_json::json;

use crate::{
    database::{self, Database, Kind},
    world::{self, ALICE, BOB, World},
};

#[tokio::test(flavor = "multi_thread")]
async fn a_session_can_be_deleted_while_whatsapp_is_away_and_the_answer_says_what_was_not_done() {
    world::on_each(async |world| {
        let phone = world.connect("sales", ALICE).await;
        world.whatsapp.close().await;
        world.until_status("sales", "connecting").await;
        let deleted = world.delete("/api/whatsapp/session/sales").await;
        assert_eq!(deleted.status, StatusCode::OK, "{}", deleted.body);
        assert_eq!(deleted.body["data"]["unlinked"], false, "{}", deleted.body);
        let gone = world.get("/api/whatsapp/session/status/sales").await;
        assert_eq!(gone.status, StatusCode::NOT_FOUND);

        world.whatsapp.reopen().await.unwrap();
        assert_eq!(phone.devices().len(), 1, "the phone still lists it");
        // The name is free, and nobody dials with the old credentials.
        world.create("sales").await;
        world.until_qr("sales").await;
        assert!(phone.online_devices().is_empty());
    })
    .await;
}

/// The tables that have rows, of those that hold what is a session's.
async fn remains(database: &Database) -> Vec<(String, i64)> {
    let tables = match database.kind {
        Kind::Sqlite => {
            "SELECT m.name FROM sqlite_master m JOIN pragma_table_info(m.name) c \
             WHERE m.type = 'table' AND c.name IN ('session_key', 'device_id')"
        }
        Kind::Postgres => {
            "SELECT table_name::text FROM information_schema.columns \
             WHERE table_schema = 'public' AND column_name IN ('session_key', 'device_id')"
        }
    };
    let mut left = Vec::new();
    for table in database.query(tables).await {
        let table: String = table.try_get_by_index(0).unwrap();
        // That it was made and deleted is told in the feed, which a reader may see later.
        let told = "WHERE event_type NOT IN ('session.created', 'session.deleted')";
        let which = if table == "webhook_event" { told } else { "" };
        let count = format!("SELECT count(*) FROM {table} {which}");
        left.push((table.clone(), database.count(&count).await));
    }
    for table in ["session", "device"] {
        left.push((
            table.to_owned(),
            database.count(&format!("SELECT count(*) FROM {table}")).await,
        ));
    }
    assert!(left.len() > 20, "the tables are found: {left:?}");
    left.retain(|(_, rows)| *rows > 0);
    left
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_deleted_in_the_middle_of_traffic_leaves_no_row_behind() {
    for kind in [Kind::Sqlite, Kind::Postgres] {
        database::on(kind, async |database| {
            let mut world = World::start(database).await;
            let phone = world.connect("sales", ALICE).await;
            let bob = world.whatsapp.contact(BOB).unwrap();
            let inbound = bob.send_many(ALICE, "in", 150);
            let outbound = join_all((0..40).map(|n| {
                let body = json!({ "to": BOB, "text": format!("out {n}"), "queue": true });
                let path = "/api/whatsapp/session/sales/messages";
                world.request(Method::POST, path).json(&body).send()
            }));
            let delete = async {
                phone.wait_for_receipts(20).await.unwrap();
                world.delete("/api/whatsapp/session/sales").await
            };
            let (_, answers, deleted) = tokio::join!(inbound, outbound, delete);
            assert_eq!(deleted.status, StatusCode::OK, "{}", deleted.body);
            for answer in answers {
                let status = answer.unwrap().status();
                assert!(!status.is_server_error() || status == StatusCode::SERVICE_UNAVAILABLE);
            }
            world.stop_daemon().await;
            assert_eq!(remains(database).await, []);
            world.whatsapp.take_violations();
            world.end().await;
        })
        .await;
    }
}
