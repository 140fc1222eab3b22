//! What each lane of a writer has committed last. Only PostgreSQL's lanes write it.

use sea_orm_migration::{
    prelude::*,
    schema::{big_integer, text},
};

#[derive(Debug, DeriveMigrationName)]
pub(crate) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }

    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager
            .create_table(
                // No index but the key: a row that is written with every group must be cheap to write.
                Table::create()
                    .table("writer_lane")
                    .col(text("id").primary_key())
                    .col(big_integer("last_group"))
                    .col(big_integer("written_at"))
                    .to_owned(),
            )
            .await
    }
}
