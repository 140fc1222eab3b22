//! What is remembered of a session's pairings, and of a change of its account.

use sea_orm_migration::{
    prelude::*,
    schema::{big_integer, big_integer_null, text_null},
};

#[derive(Debug, DeriveMigrationName)]
pub(crate) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }

    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let columns = [
            big_integer("pairing_attempts").default(0).to_owned(),
            text_null("pairing_error"),
            big_integer_null("pairing_error_at"),
            big_integer_null("last_qr_at"),
            big_integer_null("account_changed_at"),
            text_null("previous_phone_number"),
        ];
        for column in columns {
            // SQLite adds one column a statement.
            let table = Table::alter().table("session").add_column(column).to_owned();
            manager.alter_table(table).await?;
        }
        Ok(())
    }
}
