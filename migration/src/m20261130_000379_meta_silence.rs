//! Since when an account at Meta that was told of something every day is told of nothing.

use sea_orm_migration::{prelude::*, schema::big_integer_null};

#[derive(Debug, DeriveMigrationName)]
pub(crate) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }

    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let mut column = big_integer_null("silent_since");
        let table = Table::alter().table("meta_account").add_column(&mut column).to_owned();
        manager.alter_table(table).await
    }
}
