//! What is large is carried out in steps: how far one has come.

use sea_orm_migration::{prelude::*, schema::integer};

#[derive(Debug, DeriveMigrationName)]
pub(crate) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }

    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let mut progress = integer("progress").default(0).take();
        let table = Table::alter().table("meta_event").add_column(&mut progress).to_owned();
        manager.alter_table(table).await
    }
}
