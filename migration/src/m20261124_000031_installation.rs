//! The database's name and how often it was used: how a copy is told from the original.
//!
//! The row is made here and nowhere else but where a copy is adopted. A copy made by `wagate backup`
//! has the table without its row.

use sea_orm_migration::{
    prelude::*,
    schema::{big_integer, integer, text},
    sea_orm::DbBackend,
};

#[derive(Debug, DeriveMigrationName)]
pub(crate) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }

    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager
            .create_table(
                Table::create()
                    .table("installation")
                    .col(integer("id").primary_key())
                    .col(text("name"))
                    .col(big_integer("epoch"))
                    .to_owned(),
            )
            .await?;
        let random = match manager.get_database_backend() {
            DbBackend::Postgres => "gen_random_uuid()::text",
            _ => "lower(hex(randomblob(16)))",
        };
        let row = format!("INSERT INTO installation (id, name, epoch) VALUES (1, {random}, 0)");
        manager.get_connection().execute_unprepared(&row).await.map(drop)
    }
}
