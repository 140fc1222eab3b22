//! What is old is found through an index, and costs nothing that is young a look.

use entity::id::ConversationId;
use sea_orm::{ConnectionTrait, Statement};
use wagate::store::retention::{Due, Table};

use crate::{
    database::{Database, Kind, on_each},
    retention::{DAY, record, rows_of_now},
};

#[tokio::test(flavor = "multi_thread")]
async fn what_is_old_is_found_through_an_index_and_takes_nothing_with_it() {
    on_each(async |database: &Database| {
        let opened = database.open().await;
        let session = opened.session("s").await;
        record(&opened, &session, 50, "old").await;
        rows_of_now(database, &opened, &session, "old").await;
        opened.clock.advance(31 * DAY);
        let retention = opened.store.retention();
        for table in Table::ALL.into_iter().filter(|table| !table.is_sparse()) {
            let due = retention.due(table, opened.clock.now()).await.unwrap();
            let name = table.rows();
            assert!(!due.is_empty(), "{name}");
            for due in &due {
                let plan = plan(database, due).await;
                let scans = plan.iter().filter(|line| match database.kind {
                    Kind::Sqlite => line.contains(&format!("SCAN {name}")),
                    Kind::Postgres => line.contains("Seq Scan"),
                });
                assert_eq!(scans.count(), 0, "{plan:#?}");
                let finds = plan.iter().filter(|line| match database.kind {
                    Kind::Sqlite => line.contains(&format!("SEARCH {name} USING")),
                    Kind::Postgres => line.contains("Index Cond"),
                });
                assert!(finds.count() > 0, "{plan:#?}");
            }
            let children = match database.kind {
                Kind::Sqlite => format!(
                    "SELECT count(*) FROM sqlite_master AS child, \
                     pragma_foreign_key_list(child.name) AS parent WHERE parent.\"table\" = '{name}'"
                ),
                Kind::Postgres => format!(
                    "SELECT count(*) FROM pg_constraint \
                     WHERE contype = 'f' AND confrelid = '{name}'::regclass"
                ),
            };
            assert_eq!(database.count(&children).await, 0, "{name}");
        }
        opened.close().await;
    })
    .await;
}

/// Of sessions with many messages, whose conversations have none left.
#[tokio::test(flavor = "multi_thread")]
async fn no_conversation_costs_a_walk_over_all_that_its_session_has_said() {
    on_each(async |database: &Database| {
        let opened = database.open().await;
        let session = opened.session("s").await;
        record(&opened, &session, 500, "said").await;
        for number in 0..50 {
            let id = ConversationId::new(opened.clock.now(), number);
            database
                .execute(&format!(
                    "INSERT INTO conversation (id, organization_id, session_key, chat, \
                     last_message_at, created_at, updated_at) VALUES \
                     ('{id}', '{}', '{}', '{number}@s.whatsapp.net', 1, 1, 1)",
                    session.organization_id, session.id
                ))
                .await;
        }
        database.execute("ANALYZE").await;
        opened.clock.advance(31 * DAY);
        let retention = opened.store.retention();
        let due = retention.due(Table::Conversations, opened.clock.now()).await.unwrap();
        let [due] = &due[..] else { panic!("{due:?}") };
        let db = database.connect().await;
        let backend = db.get_database_backend();
        let explain = match database.kind {
            Kind::Sqlite => ("EXPLAIN QUERY PLAN", 3),
            Kind::Postgres => ("EXPLAIN", 0),
        };
        let ask = format!("{} {}", explain.0, due.find(backend, 50));
        let rows = db.query_all_raw(Statement::from_string(backend, ask)).await.unwrap();
        db.close().await.unwrap();
        let plan: Vec<String> =
            rows.iter().map(|row| row.try_get_by_index(explain.1).unwrap()).collect();
        let (good, bad) = match database.kind {
            // One look at all messages for all conversations, which is not asked anew for each.
            Kind::Sqlite => ("LIST SUBQUERY", "CORRELATED"),
            Kind::Postgres => ("Anti Join", "SubPlan"),
        };
        assert!(plan.iter().any(|line| line.contains(good)), "{plan:#?}");
        assert!(!plan.iter().any(|line| line.contains(bad)), "{plan:#?}");
        if database.kind == Kind::Postgres {
            assert!(!plan.iter().any(|line| line.contains("Nested Loop")), "{plan:#?}");
        }
        opened.close().await;
    })
    .await;
}

/// How the database would delete, with nothing to it that an index can do without.
async fn plan(database: &Database, due: &Due) -> Vec<String> {
    let db = database.connect().await;
    let backend = db.get_database_backend();
    let (explain, column) = match database.kind {
        Kind::Sqlite => ("EXPLAIN QUERY PLAN", 3),
        Kind::Postgres => {
            // Nobody searches a table of fifty rows, if he may read all of it.
            db.execute_unprepared("SET enable_seqscan = off").await.unwrap();
            ("EXPLAIN", 0)
        }
    };
    let ask = format!("{explain} {}", due.delete(backend, 50));
    let rows = db.query_all_raw(Statement::from_string(backend, ask)).await.unwrap();
    db.close().await.unwrap();
    rows.iter().map(|row| row.try_get_by_index(column).unwrap()).collect()
}
