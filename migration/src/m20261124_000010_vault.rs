//! Keys for secrets at rest: which master key is in force, and the data keys under it.

use sea_orm_migration::{
    prelude::*,
    schema::{big_integer, big_integer_null, blob, integer, text},
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
                Table::create()
                    .table("vault")
                    .col(integer("id").primary_key())
                    .col(text("master_key_id"))
                    .col(big_integer_null("sealed_at"))
                    .to_owned(),
            )
            .await?;
        manager
            .create_table(
                Table::create()
                    .table("data_key")
                    .col(text("organization_id"))
                    .col(integer("number"))
                    .col(blob("wrapped"))
                    .col(big_integer("created_at"))
                    .primary_key(Index::create().col("organization_id").col("number"))
                    .foreign_key(
                        ForeignKey::create()
                            .from("data_key", "organization_id")
                            .to("organization", "id")
                            .on_delete(ForeignKeyAction::Cascade),
                    )
                    .to_owned(),
            )
            .await
    }
}
