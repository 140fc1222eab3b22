//! Settings of sessions, sessions that have handed over to another one, and campaigns.

use sea_orm_migration::{
    prelude::*,
    schema::{big_integer, big_integer_null, boolean_null, text, text_null},
};

#[derive(Debug, DeriveMigrationName)]
pub(crate) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }

    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        for mut column in [
            boolean_null("is_notification"),
            text_null("ai_config"),
            big_integer_null("migrated_at"),
        ] {
            manager
                .alter_table(Table::alter().table("session").add_column(&mut column).to_owned())
                .await?;
        }
        // By hand: a foreign key of a new column is no statement of its own on SQLite. When the session
        // that has taken over is deleted, the others are what they were before.
        manager
            .get_connection()
            .execute_unprepared(
                "ALTER TABLE session ADD COLUMN migrated_to text REFERENCES session (id) \
                 ON DELETE SET NULL",
            )
            .await?;
        index(manager, "session", "idx-session-migrated_to", &["migrated_to"]).await?;
        index(
            manager,
            "session",
            "idx-session-organization_number",
            &["organization_id", "phone_number"],
        )
        .await?;
        campaigns(manager).await
    }
}

async fn campaigns(manager: &SchemaManager<'_>) -> Result<(), DbErr> {
    manager
        .create_table(
            Table::create()
                .table("campaign")
                .col(text("id").primary_key())
                .col(text("organization_id"))
                .col(text("name"))
                .col(text_null("session_key"))
                .col(big_integer("created_at"))
                .col(big_integer("updated_at"))
                .foreign_key(
                    ForeignKey::create()
                        .from("campaign", "organization_id")
                        .to("organization", "id")
                        .on_delete(ForeignKeyAction::Cascade),
                )
                .foreign_key(
                    ForeignKey::create()
                        .from("campaign", "session_key")
                        .to("session", "id")
                        .on_delete(ForeignKeyAction::SetNull),
                )
                .to_owned(),
        )
        .await?;
    let order = &["organization_id", "created_at", "id"];
    index(manager, "campaign", "campaign_by_organization", order).await?;
    index(manager, "campaign", "campaign_by_session", &["session_key"]).await
}

async fn index(
    manager: &SchemaManager<'_>,
    table: &'static str,
    name: &'static str,
    columns: &[&'static str],
) -> Result<(), DbErr> {
    let mut index = Index::create().name(name).table(table).to_owned();
    for column in columns {
        index.col(*column);
    }
    manager.create_index(index).await
}
