//! A deleted session is gone at once for all who look, and a few rows at a time on the disk.

use reqwest::StatusCode;

use crate::{
    database::{Database, Kind, on, on_each},
    retention::record,
    world::{ALICE, BOB, DEADLINE, World},
};

/// More than any bite has.
const MANY: usize = 1_000;

#[tokio::test(flavor = "multi_thread")]
async fn a_large_session_is_deleted_in_many_transactions() {
    on_each(async |database: &Database| {
        let opened = database.open().await;
        let store = &opened.store;
        let (large, other) = (opened.session("large").await, opened.session("other").await);
        record(&opened, &large, MANY, "hello").await;
        record(&opened, &other, 1, "hello").await;

        let before = store.writer().stats().groups;
        assert!(store.sessions().delete(&large.organization_id, &large.id).await.unwrap());
        // Should this machine be too slow for the time that is waited.
        assert!(store.sessions().clear(&large.id, || true).await.unwrap());
        let commits = store.writer().stats().groups - before;
        // As many messages as events, a hundred at once at most.
        assert!(commits >= MANY as u64 / 50, "{commits} transactions");
        assert_eq!(store.sessions().deleted().await.unwrap(), []);
        assert!(!store.sessions().delete(&large.organization_id, &large.id).await.unwrap());
        for (table, rows) in [("session", 1), ("message", 1), ("event", 1)] {
            let left = database.count(&format!("SELECT count(*) FROM {table}")).await;
            assert_eq!(left, rows, "{table}");
        }
        opened.close().await;
    })
    .await;
}

/// Has every attempt to delete a message fail.
fn keep_messages(kind: Kind) -> &'static str {
    match kind {
        Kind::Sqlite => {
            "CREATE TRIGGER stays BEFORE DELETE ON message BEGIN SELECT RAISE(ABORT, 'it stays'); END"
        }
        Kind::Postgres => {
            "CREATE FUNCTION stays() RETURNS trigger LANGUAGE plpgsql AS \
             $$ BEGIN RAISE EXCEPTION 'it stays'; END $$; \
             CREATE TRIGGER stays BEFORE DELETE ON message FOR EACH ROW EXECUTE FUNCTION stays()"
        }
    }
}

async fn end_of_a_deletion_that_was_interrupted(kind: Kind) {
    on(kind, async |database: &Database| {
        let mut world = World::start(database).await;
        let phone = world.connect("sales", ALICE).await;
        let bob = world.whatsapp.contact(BOB).unwrap();
        bob.send_many(ALICE, "hello", 30).await.unwrap();
        world.until_messages("sales", 30).await;
        let key: String =
            database.query("SELECT id FROM session").await[0].try_get_by_index(0).unwrap();
        let has = format!("SELECT count(*) FROM message WHERE session_key = '{key}'");

        database.execute(keep_messages(kind)).await;
        let deleted = world.delete("/api/whatsapp/session/sales").await;
        assert_eq!(deleted.status, StatusCode::OK, "{}", deleted.body);
        assert_eq!(phone.devices().len(), 0);
        assert_eq!(database.count(&has).await, 30, "they are still there, and nobody sees them");
        for path in ["sales", &key] {
            let gone = world.get(&format!("/api/whatsapp/session/status/{path}")).await;
            assert_eq!(gone.status, StatusCode::NOT_FOUND, "{}", gone.body);
        }
        let again = world.delete("/api/whatsapp/session/sales").await;
        assert_eq!(again.status, StatusCode::NOT_FOUND, "{}", again.body);
        let listed = world.get("/api/whatsapp/session/list-realtime").await;
        assert_eq!(listed.body["summary"]["total"], 0, "{}", listed.body);
        let events = world.get("/api/whatsapp/events/page?after=0&limit=1000").await;
        let told = events.body["data"].to_string();
        assert!(!told.contains("hello"), "{told}");
        // What it was called is free at once.
        world.create("sales").await;
        world.until_qr("sales").await;

        world.stop_daemon().await;
        database
            .execute(match kind {
                Kind::Sqlite => "DROP TRIGGER stays",
                Kind::Postgres => "DROP TRIGGER stays ON message",
            })
            .await;
        world.start_daemon().await;
        let gone = async {
            let left = format!("SELECT count(*) FROM session WHERE id = '{key}'");
            while database.count(&left).await > 0 {}
        };
        tokio::time::timeout(DEADLINE, gone).await.unwrap();
        assert_eq!(database.count(&has).await, 0);
        assert_eq!(database.count("SELECT count(*) FROM session").await, 1, "the new one stays");
        world.end().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deletion_that_sqlite_was_not_done_with_goes_on_at_the_next_start_and_nobody_sees_it() {
    end_of_a_deletion_that_was_interrupted(Kind::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deletion_that_postgresql_was_not_done_with_goes_on_at_the_next_start_and_nobody_sees_it()
{
    end_of_a_deletion_that_was_interrupted(Kind::Postgres).await;
}
