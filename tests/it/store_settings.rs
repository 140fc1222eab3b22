//! How a server is set up changes nothing of what a commit promises.

use sea_orm::{ConnectionTrait, Statement};
use wagate::store::{Patience, Store};

use crate::database::{Database, Kind, on};

/// What a unit of work finds.
async fn setting(store: &Store, name: &'static str) -> Option<String> {
    let unit = store.writer().run("key", Patience::Fail, move |txn| {
        Box::pin(async move {
            let ask = format!("SELECT current_setting('{name}', TRUE)");
            let ask = Statement::from_string(txn.get_database_backend(), ask);
            txn.query_one_raw(ask).await?.unwrap().try_get_by_index(0)
        })
    });
    unit.await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_is_on_the_disk_when_it_is_confirmed_and_no_transaction_is_too_old() {
    on(Kind::Postgres, async |database: &Database| {
        let set = async |name: &str, value: &str| {
            let set = format!("ALTER DATABASE {} SET {name} = '{value}'", database.name());
            database.execute_on_server(&set).await;
        };
        for (configured, found) in [
            ("off", "on"),
            ("local", "on"),
            ("remote_write", "on"),
            ("remote_apply", "remote_apply"),
        ] {
            set("synchronous_commit", configured).await;
            let opened = database.open().await;
            let setting = setting(&opened.store, "synchronous_commit").await;
            assert_eq!(setting.as_deref(), Some(found), "{configured}");
            opened.close().await;
        }
        // Since PostgreSQL 17.
        if database
            .count("SELECT count(*) FROM pg_settings WHERE name = 'transaction_timeout'")
            .await
            > 0
        {
            set("transaction_timeout", "10min").await;
            let opened = database.open().await;
            assert_eq!(setting(&opened.store, "transaction_timeout").await.as_deref(), Some("0"));
            opened.close().await;
        }
    })
    .await;
}
