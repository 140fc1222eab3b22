//! Which deliveries wait without an order: looked for again and again at endpoints that ask for one, where there are none.

use sea_orm_migration::prelude::*;

#[derive(Debug, DeriveMigrationName)]
pub(crate) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }

    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        // With the key, which all of these lack: by what is given of two columns no planner takes another index.
        let index = r#"CREATE INDEX "idx-webhook_delivery-keyless" ON webhook_delivery (endpoint_id, order_key, seq) WHERE state = 'pending' AND order_key IS NULL"#;
        manager.get_connection().execute_unprepared(index).await.map(drop)
    }
}
