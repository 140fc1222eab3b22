//! Notices that are to leave the feed are found without reading what endpoints were told besides.

use sea_orm_migration::prelude::*;

#[derive(Debug, DeriveMigrationName)]
pub(crate) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }

    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager
            .get_connection()
            .execute_unprepared(
                r#"CREATE INDEX "idx-webhook_event-notice" ON webhook_event (id) WHERE in_feed"#,
            )
            .await
            .map(drop)
    }
}
