//! Who changed what, when and from where; when a token was last used; how many sessions a tenant may
//! have.

use sea_orm_migration::{
    prelude::*,
    schema::{big_integer, big_integer_null, text, text_null},
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
            .alter_table(
                Table::alter()
                    .table("token")
                    .add_column(big_integer_null("last_used_at"))
                    .to_owned(),
            )
            .await?;
        manager
            .alter_table(
                Table::alter()
                    .table("organization")
                    .add_column(big_integer_null("max_sessions"))
                    .to_owned(),
            )
            .await?;
        manager
            .create_table(
                Table::create()
                    .table("audit")
                    .col(text("id").primary_key())
                    .col(text("organization_id"))
                    .col(text("action"))
                    .col(text("target"))
                    .col(text("detail"))
                    .col(text_null("token_id"))
                    .col(text_null("address"))
                    .col(big_integer("at"))
                    .foreign_key(
                        ForeignKey::create()
                            .from("audit", "organization_id")
                            .to("organization", "id")
                            .on_delete(ForeignKeyAction::Cascade),
                    )
                    .to_owned(),
            )
            .await?;
        manager
            .create_index(
                Index::create()
                    .name("audit_by_organization")
                    .table("audit")
                    .col("organization_id")
                    .col("at")
                    .col("id")
                    .to_owned(),
            )
            .await
    }
}
