//! What endpoints were told of endpoints before their addresses were sealed is sealed as well: there may be some in clear.
//!
//! The program seals it at its next start, as it did with what was there before there were keys.

use sea_orm_migration::prelude::*;

#[derive(Debug, DeriveMigrationName)]
pub(crate) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }

    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        // All are looked at only where there is one: the file is written anew afterwards.
        let again = "UPDATE vault SET sealed_at = NULL WHERE EXISTS (SELECT 1 FROM webhook_event \
             WHERE event_type LIKE 'webhook.%' OR event_type = 'unknown')";
        manager.get_connection().execute_unprepared(again).await.map(drop)
    }
}
