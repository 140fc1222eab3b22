//! Organizations, their tokens, and what their idempotency keys made.

use sea_orm_migration::{
    prelude::*,
    schema::{big_integer, big_integer_null, text},
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
                    .table("organization")
                    .col(text("id").primary_key())
                    .col(big_integer("client_id").unique_key())
                    .col(text("name"))
                    .col(big_integer("last_seq"))
                    .col(big_integer("created_at"))
                    .to_owned(),
            )
            .await?;

        manager
            .create_table(
                Table::create()
                    .table("token")
                    .col(text("id").primary_key())
                    .col(text("organization_id"))
                    .col(text("role"))
                    .col(text("secret_hash").unique_key())
                    .col(text("label"))
                    .col(big_integer("created_at"))
                    .col(big_integer_null("expires_at"))
                    .col(big_integer_null("revoked_at"))
                    .foreign_key(
                        ForeignKey::create()
                            .from("token", "organization_id")
                            .to("organization", "id")
                            .on_delete(ForeignKeyAction::Cascade),
                    )
                    .to_owned(),
            )
            .await?;

        manager
            .create_table(
                Table::create()
                    .table("idempotency")
                    .col(text("organization_id"))
                    .col(text("key"))
                    .col(text("fingerprint"))
                    .col(text("resource_id"))
                    .col(big_integer("created_at"))
                    .primary_key(Index::create().col("organization_id").col("key"))
                    .foreign_key(
                        ForeignKey::create()
                            .from("idempotency", "organization_id")
                            .to("organization", "id")
                            .on_delete(ForeignKeyAction::Cascade),
                    )
                    .to_owned(),
            )
            .await
    }
}
