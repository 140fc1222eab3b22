//! Messages of the past, handed over by the phone after a pairing, are told from live ones.

use sea_orm_migration::prelude::*;

#[derive(DeriveMigrationName, Debug)]
pub(crate) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }

    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let mut history = ColumnDef::new("history");
        history.boolean().not_null().default(false);
        manager
            .alter_table(Table::alter().table("message").add_column(&mut history).to_owned())
            .await
    }
}
