//! What retention needs: how far each organization's events were retired, and indices by time.

use sea_orm_migration::{prelude::*, schema::big_integer};

#[derive(Debug, DeriveMigrationName)]
pub(crate) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }

    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager
            .alter_table(
                Table::alter()
                    .table("organization")
                    .add_column(big_integer("retired_seq").default(0))
                    .to_owned(),
            )
            .await?;
        manager
            .create_index(
                Index::create()
                    .name("idx-idempotency-created_at")
                    .table("idempotency")
                    .col("created_at")
                    .to_owned(),
            )
            .await
    }
}
