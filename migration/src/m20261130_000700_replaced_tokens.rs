//! When a token would end had no other taken its place stands in its row: before, it was looked for in the audit log, which
//! may be kept for an hour.

use sea_orm_migration::{prelude::*, schema::big_integer_null, sea_orm::DbBackend};

#[derive(Debug, DeriveMigrationName)]
pub(crate) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }

    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        for column in ["replaced_at", "own_expires_at"] {
            let table =
                Table::alter().table("token").add_column(big_integer_null(column)).to_owned();
            manager.alter_table(table).await?;
        }
        let db = manager.get_connection();
        let own_end = match db.get_database_backend() {
            DbBackend::Sqlite => "json_extract(detail, '$.wouldHaveExpiredAt')",
            _ => "CAST(CAST(detail AS jsonb) ->> 'wouldHaveExpiredAt' AS BIGINT)",
        };
        // Which ones the log tells of is read once; there are few, and the last entry of each counts.
        let of = "FROM audit WHERE action = 'token_rotated' AND detail LIKE '%wouldHaveExpiredAt%'";
        let last = format!(
            "{of} AND organization_id = token.organization_id AND target = token.id \
             ORDER BY at DESC, id DESC LIMIT 1"
        );
        let know = format!(
            "UPDATE token SET replaced_at = (SELECT at {last}), own_expires_at = (SELECT {own_end} {last}) \
             WHERE revoked_at IS NULL AND id IN (SELECT target {of})"
        );
        db.execute_unprepared(&know).await.map(drop)
    }
}
