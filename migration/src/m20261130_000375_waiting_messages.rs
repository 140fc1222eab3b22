//! What waits to be sent is found without reading a session's whole history.

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
                r#"CREATE INDEX "idx-message-waiting" ON message (session_key, created_at, id) WHERE status IN ('queued', 'sending')"#,
            )
            .await?;
        Ok(())
    }
}
