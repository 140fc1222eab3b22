//! What is remembered of a session's troubles, so that a restart neither forgets a ban nor dials
//! sooner than it would have been done without one.

use sea_orm_migration::{
    prelude::*,
    schema::{big_integer_null, integer, text_null},
};

#[derive(Debug, DeriveMigrationName)]
pub(crate) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }

    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        // SQLite adds one column a statement.
        for column in [
            big_integer_null("last_dial_at"),
            integer("dial_failures").default(0).take(),
            text_null("trouble"),
            integer("trouble_count").default(0).take(),
            big_integer_null("throttled_until"),
        ] {
            manager
                .alter_table(Table::alter().table("session").add_column(column).to_owned())
                .await?;
        }
        Ok(())
    }
}
