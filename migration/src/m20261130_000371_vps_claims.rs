//! What a session is called where it runs is one session's of an organization, and no longer of all: whoever was
//! refused the name was told that somebody else has it. Who has said it first is kept.

use sea_orm_migration::{prelude::*, schema::big_integer_null};

#[derive(Debug, DeriveMigrationName)]
pub(crate) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }

    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let table = Table::alter()
            .table("session")
            .add_column(big_integer_null("vps_claimed_at"))
            .to_owned();
        manager.alter_table(table).await?;
        let db = manager.get_connection();
        for statement in [
            // Until now each had one owner.
            "UPDATE session SET vps_claimed_at = created_at WHERE vps_session_id IS NOT NULL",
            r#"DROP INDEX "idx-session-vps_session_id""#,
            r#"CREATE UNIQUE INDEX "idx-session-organization_vps" ON session (organization_id, vps_session_id)"#,
            r#"CREATE INDEX "idx-session-vps_claimed" ON session (vps_session_id, vps_claimed_at)"#,
        ] {
            db.execute_unprepared(statement).await?;
        }
        Ok(())
    }
}
