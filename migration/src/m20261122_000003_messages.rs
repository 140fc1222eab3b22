//! Messages of embedded sessions, in and out.

use sea_orm_migration::{
    prelude::*,
    schema::{big_integer, blob_null, boolean, small_integer, text, text_null},
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
                    .table("message")
                    .col(text("id").primary_key())
                    .col(text("organization_id"))
                    .col(text("session_key"))
                    .col(text("dedupe_key"))
                    .col(text("wa_id"))
                    .col(text("chat"))
                    .col(text("sender"))
                    .col(text("direction"))
                    .col(text("kind"))
                    .col(text_null("body"))
                    .col(text_null("target_wa_id"))
                    .col(blob_null("raw"))
                    .col(text_null("push_name"))
                    .col(big_integer("sent_at"))
                    .col(boolean("offline"))
                    .col(text("status"))
                    .col(small_integer("ack"))
                    .col(text_null("error"))
                    .col(big_integer("created_at"))
                    .col(big_integer("updated_at"))
                    .foreign_key(
                        ForeignKey::create()
                            .from("message", "session_key")
                            .to("session", "id")
                            .on_delete(ForeignKeyAction::Cascade),
                    )
                    .to_owned(),
            )
            .await?;
        manager
            .create_index(
                Index::create()
                    .name("idx-message-session_dedupe")
                    .table("message")
                    .col("session_key")
                    .col("dedupe_key")
                    .unique()
                    .to_owned(),
            )
            .await?;
        // Acknowledgements name a message by WhatsApp's id alone.
        manager
            .create_index(
                Index::create()
                    .name("idx-message-session_wa")
                    .table("message")
                    .col("session_key")
                    .col("wa_id")
                    .to_owned(),
            )
            .await
    }
}
