//! Sessions that are deleted stay as a row until everything that is theirs is gone, a few rows at a time.
//!
//! And what callers keep with their sessions is sealed: where there is any, the program seals it at its next start, as it did
//! with what was there before there were keys.

use sea_orm_migration::{prelude::*, schema::big_integer_null};

#[derive(Debug, DeriveMigrationName)]
pub(crate) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }

    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let table =
            Table::alter().table("session").add_column(big_integer_null("deleted_at")).to_owned();
        manager.alter_table(table).await?;
        // Of few rows, mostly of none: it is looked at all the time.
        let index = r#"CREATE INDEX "idx-session-deleted" ON session (deleted_at) WHERE deleted_at IS NOT NULL"#;
        let db = manager.get_connection();
        db.execute_unprepared(index).await?;
        let again = "UPDATE vault SET sealed_at = NULL WHERE EXISTS (SELECT 1 FROM session \
             WHERE session_data IS NOT NULL)";
        db.execute_unprepared(again).await.map(drop)
    }
}
