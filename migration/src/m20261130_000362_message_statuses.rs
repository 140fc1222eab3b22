//! What Meta told of each message that went out: every status once, also before the message is known here.

use sea_orm_migration::{
    prelude::*,
    schema::{big_integer, small_integer, text, text_null},
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
                    .table("message_status")
                    .col(text("session_key"))
                    .col(text("wa_id"))
                    .col(text("status"))
                    .col(text("participant"))
                    .col(text("organization_id"))
                    .col(small_integer("level"))
                    .col(big_integer("occurred_at"))
                    .col(text_null("error"))
                    .col(text_null("pricing"))
                    .col(big_integer("created_at"))
                    .primary_key(
                        Index::create()
                            .col("session_key")
                            .col("wa_id")
                            .col("status")
                            .col("participant"),
                    )
                    .foreign_key(
                        ForeignKey::create()
                            .from("message_status", "session_key")
                            .to("session", "id")
                            .on_delete(ForeignKeyAction::Cascade),
                    )
                    .to_owned(),
            )
            .await?;
        manager
            .get_connection()
            .execute_unprepared(
                r#"CREATE INDEX "idx-message_status-age" ON message_status (created_at)"#,
            )
            .await?;
        Ok(())
    }
}
