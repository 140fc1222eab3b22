//! People, whatever they are called by, and the conversations with them.

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
            .create_table(
                Table::create()
                    .table("contact")
                    .col(text("id").primary_key())
                    .col(text("organization_id"))
                    .col(text_null("name"))
                    .col(text_null("username"))
                    .col(big_integer("created_at"))
                    .col(big_integer("updated_at"))
                    .foreign_key(&mut of("contact", "organization_id", "organization"))
                    .to_owned(),
            )
            .await?;
        manager
            .create_table(
                Table::create()
                    .table("contact_identity")
                    .col(text("organization_id"))
                    .col(text("kind"))
                    .col(text("value"))
                    .col(text("contact_id"))
                    .col(big_integer("created_at"))
                    .primary_key(Index::create().col("organization_id").col("kind").col("value"))
                    .foreign_key(&mut of("contact_identity", "contact_id", "contact"))
                    .to_owned(),
            )
            .await?;
        manager
            .create_table(
                Table::create()
                    .table("conversation")
                    .col(text("id").primary_key())
                    .col(text("organization_id"))
                    .col(text("session_key"))
                    .col(text("chat"))
                    .col(text_null("contact_id"))
                    .col(big_integer("last_message_at"))
                    .col(big_integer_null("last_inbound_at"))
                    .col(big_integer("created_at"))
                    .col(big_integer("updated_at"))
                    .foreign_key(&mut of("conversation", "session_key", "session"))
                    .to_owned(),
            )
            .await?;
        let db = manager.get_connection();
        for index in [
            r#"INDEX "idx-contact-list" ON contact (organization_id, created_at, id)"#,
            r#"INDEX "idx-contact_identity-contact" ON contact_identity (contact_id)"#,
            r#"UNIQUE INDEX "idx-conversation-session_chat" ON conversation (session_key, chat)"#,
            r#"INDEX "idx-conversation-contact" ON conversation (contact_id)"#,
            r#"INDEX "idx-conversation-list" ON conversation (organization_id, created_at, id)"#,
        ] {
            db.execute_unprepared(&format!("CREATE {index}")).await?;
        }
        Ok(())
    }
}

fn of(table: &'static str, column: &'static str, whose: &'static str) -> ForeignKeyCreateStatement {
    ForeignKey::create()
        .from(table, column)
        .to(whose, "id")
        .on_delete(ForeignKeyAction::Cascade)
        .to_owned()
}
