//! Until when WhatsApp wants no dials from here: of the installation, as the session that was told so may be started anew or
//! deleted before that.

use sea_orm_migration::{prelude::*, schema::big_integer_null};

#[derive(Debug, DeriveMigrationName)]
pub(crate) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }

    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let column = big_integer_null("dials_paused_until");
        manager
            .alter_table(Table::alter().table("installation").add_column(column).to_owned())
            .await
    }
}
