//! What clients elsewhere acknowledge before they tell of the message waits for it.

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
                    .table("early_ack")
                    .col(text("session_key"))
                    .col(text("wa_id"))
                    .col(small_integer("level"))
                    .col(text("chat"))
                    .col(text("acknowledged_by"))
                    .col(text_null("error"))
                    .col(big_integer("occurred_at"))
                    .col(big_integer("created_at"))
                    .primary_key(Index::create().col("session_key").col("wa_id"))
                    .foreign_key(
                        ForeignKey::create()
                            .from("early_ack", "session_key")
                            .to("session", "id")
                            .on_delete(ForeignKeyAction::Cascade),
                    )
                    .to_owned(),
            )
            .await?;
        // Those whose message never comes are deleted by age.
        manager
            .get_connection()
            .execute_unprepared(r#"CREATE INDEX "idx-early_ack-age" ON early_ack (created_at)"#)
            .await?;
        Ok(())
    }
}
