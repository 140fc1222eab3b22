//! A session counts the messages that could not be read when they came.

use sea_orm_migration::{prelude::*, schema::big_integer};

#[derive(Debug, DeriveMigrationName)]
pub(crate) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }

    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let mut column = big_integer("undecryptable");
        column.default(0);
        let table = Table::alter().table("session").add_column(&mut column).to_owned();
        manager.alter_table(table).await
    }
}
