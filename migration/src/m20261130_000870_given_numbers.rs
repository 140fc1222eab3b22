//! The number that a session which runs elsewhere was made with: seed 001's `ready` says none, and whoever made the
//! session has. Sessions of before have none here: their number is to be said.

use sea_orm_migration::{prelude::*, schema::text_null};

#[derive(Debug, DeriveMigrationName)]
pub(crate) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }

    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let column = text_null("given_phone_number");
        manager.alter_table(Table::alter().table("session").add_column(column).to_owned()).await
    }
}
