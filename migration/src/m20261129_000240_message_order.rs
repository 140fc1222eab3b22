//! Messages in the order in which they are listed.

use sea_orm_migration::prelude::*;

#[derive(Debug, DeriveMigrationName)]
pub(crate) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }

    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        // A page of a session's messages was all of them, sorted, before.
        manager
            .create_index(
                Index::create()
                    .name("idx-message-session_order")
                    .table("message")
                    .col("session_key")
                    .col("created_at")
                    .col("id")
                    .to_owned(),
            )
            .await
    }
}
