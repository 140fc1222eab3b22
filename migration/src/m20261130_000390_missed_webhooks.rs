//! Replays of what an endpoint was not told of; events that are owed again are found, and what was given up.

use sea_orm_migration::{prelude::*, schema::boolean};

#[derive(Debug, DeriveMigrationName)]
pub(crate) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }

    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let mut column = boolean("undelivered_only");
        column.default(false);
        let table = Table::alter().table("webhook_replay").add_column(&mut column).to_owned();
        manager.alter_table(table).await?;
        // Partial: what happens and is sent costs them nothing.
        for index in [
            r#"INDEX "idx-webhook_delivery-again" ON webhook_delivery (event_id) WHERE state IN ('pending', 'claimed') AND cause <> 'event'"#,
            r#"INDEX "idx-webhook_delivery-exhausted" ON webhook_delivery (endpoint_id, finished_at, seq) WHERE state = 'exhausted'"#,
        ] {
            manager.get_connection().execute_unprepared(&format!("CREATE {index}")).await?;
        }
        Ok(())
    }
}
