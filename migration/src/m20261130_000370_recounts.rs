//! How often the sums of a campaign were counted anew, so that none of two who do so at once adds what the other has added.

use sea_orm_migration::{prelude::*, schema::big_integer};

#[derive(Debug, DeriveMigrationName)]
pub(crate) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }

    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let mut column = big_integer("recounts");
        column.default(0);
        let table = Table::alter().table("campaign_statistics").add_column(&mut column).to_owned();
        manager.alter_table(table).await
    }
}
