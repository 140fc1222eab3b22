//! What is to be sent through Meta: a row for each message, until it is known what became of it.

use sea_orm_migration::{
    prelude::*,
    schema::{big_integer, big_integer_null, integer, text, text_null},
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
                    .table("meta_outbox")
                    // No foreign key: a message that is gone is noticed by whoever wants to send it.
                    .col(text("message_id").primary_key())
                    .col(text("organization_id"))
                    .col(text("account_id"))
                    .col(text("session_key"))
                    .col(text("chat"))
                    .col(integer("attempts").default(0))
                    .col(big_integer("next_at").default(0))
                    .col(big_integer_null("claim"))
                    .col(text_null("claimed_by"))
                    .col(big_integer("lease_until").default(0))
                    .col(big_integer("created_at"))
                    .foreign_key(
                        ForeignKey::create()
                            .from("meta_outbox", "organization_id")
                            .to("organization", "id")
                            .on_delete(ForeignKeyAction::Cascade),
                    )
                    .to_owned(),
            )
            .await?;
        let db = manager.get_connection();
        for index in [
            r#"INDEX "idx-meta_outbox-due" ON meta_outbox (organization_id, message_id)"#,
            r#"INDEX "idx-meta_outbox-lane" ON meta_outbox (session_key, chat, message_id)"#,
            // The account that a session is of.
            r#"INDEX "idx-meta_account-session_key" ON meta_account (session_key)"#,
        ] {
            db.execute_unprepared(&format!("CREATE {index}")).await?;
        }
        Ok(())
    }
}
