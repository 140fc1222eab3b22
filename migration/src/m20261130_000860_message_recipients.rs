//! A message that was received remembers to whom: the account's address, as it was told, or known at the time.
//! And the messages of a conversation are found by it, to be another's where two turn out to be one.

use sea_orm_migration::{prelude::*, schema::text_null};

#[derive(DeriveMigrationName, Debug)]
pub(crate) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }

    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let mut column = text_null("recipient");
        let table = Table::alter().table("message").add_column(&mut column).to_owned();
        manager.alter_table(table).await?;
        let index = r#"CREATE INDEX "idx-message-session_chat" ON message (session_key, chat, created_at, id)"#;
        manager.get_connection().execute_unprepared(index).await?;
        Ok(())
    }
}
