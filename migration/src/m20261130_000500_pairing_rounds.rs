//! What a restart must not forget of a pairing: how many series of QR codes nobody has scanned. And until when a
//! code can be typed after the last of them.

use sea_orm_migration::{
    prelude::*,
    schema::{big_integer_null, integer},
};

#[derive(Debug, DeriveMigrationName)]
pub(crate) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }

    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        // SQLite adds one column a statement.
        for column in
            [integer("qr_rounds").default(0).take(), big_integer_null("pairing_code_until")]
        {
            manager
                .alter_table(Table::alter().table("session").add_column(column).to_owned())
                .await?;
        }
        Ok(())
    }
}
