//! What is kept of a session that runs elsewhere: what its users know it by, and how its events are let in.

use sea_orm_migration::{
    prelude::*,
    schema::{big_integer_null, blob_null, text_null},
};

#[derive(Debug, DeriveMigrationName)]
pub(crate) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }

    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let columns = [
            text_null("session_data"),
            text_null("vps_session_id"),
            text_null("receiver_auth"),
            blob_null("receiver_secret"),
            big_integer_null("observed_at"),
            text_null("observed_mark"),
        ];
        for column in columns {
            // SQLite adds one column a statement.
            let table = Table::alter().table("session").add_column(column).to_owned();
            manager.alter_table(table).await?;
        }
        // Whoever reports a status by this id names no organization: it means one session, or none.
        manager
            .create_index(
                Index::create()
                    .name("idx-session-vps_session_id")
                    .table("session")
                    .col("vps_session_id")
                    .unique()
                    .to_owned(),
            )
            .await?;
        // Whoever posts events with a session's own secret names no organization either.
        manager
            .create_index(
                Index::create()
                    .name("idx-session-session_id")
                    .table("session")
                    .col("session_id")
                    .to_owned(),
            )
            .await?;
        // A user's sessions are found without reading all of an organization's.
        manager
            .create_index(
                Index::create()
                    .name("idx-session-organization_user")
                    .table("session")
                    .col("organization_id")
                    .col("user_id")
                    .to_owned(),
            )
            .await
    }
}
