//! Since when an account at Meta has a number that another organization had before. Until now nobody asked.

use sea_orm_migration::{prelude::*, schema::big_integer_null};

#[derive(Debug, DeriveMigrationName)]
pub(crate) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }

    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let mut column = big_integer_null("claimed_at");
        let table = Table::alter().table("meta_account").add_column(&mut column).to_owned();
        manager.alter_table(table).await
    }
}
