//! A message that WhatsApp does not take for the moment remembers how often, since when, and when it is
//! sent again.

use sea_orm_migration::{
    prelude::*,
    schema::{big_integer_null, small_integer},
};

#[derive(DeriveMigrationName, Debug)]
pub(crate) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }

    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        for mut column in [
            small_integer("failed_attempts").default(0).to_owned(),
            big_integer_null("put_off_since"),
            big_integer_null("next_attempt_at"),
        ] {
            // SQLite adds one column at a time.
            let table = Table::alter().table("message").add_column(&mut column).to_owned();
            manager.alter_table(table).await?;
        }
        Ok(())
    }
}
