//! The secret that a session had before its present one opens it for a while yet.

use sea_orm_migration::{
    prelude::*,
    schema::{big_integer_null, blob_null},
};

#[derive(Debug, DeriveMigrationName)]
pub(crate) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }

    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let columns =
            [blob_null("previous_receiver_secret"), big_integer_null("previous_receiver_until")];
        for column in columns {
            // SQLite adds one column a statement.
            let table = Table::alter().table("session").add_column(column).to_owned();
            manager.alter_table(table).await?;
        }
        Ok(())
    }
}
