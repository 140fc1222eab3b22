//! Replays: ranges of events that an endpoint is to be told of again.

use sea_orm_migration::{
    prelude::*,
    schema::{big_integer, big_integer_null, integer, text},
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
                    .table("webhook_replay")
                    .col(text("id").primary_key())
                    .col(text("organization_id"))
                    .col(text("endpoint_id"))
                    .col(text("state"))
                    .col(big_integer("after_seq"))
                    .col(big_integer("through_seq"))
                    .col(big_integer("cursor_seq"))
                    .col(big_integer("owed"))
                    .col(integer("rate_per_second"))
                    .col(big_integer("stepped_at"))
                    .col(big_integer("created_at"))
                    .col(big_integer_null("finished_at"))
                    .foreign_key(
                        ForeignKey::create()
                            .from("webhook_replay", "endpoint_id")
                            .to("webhook_endpoint", "id")
                            .on_delete(ForeignKeyAction::Cascade),
                    )
                    .to_owned(),
            )
            .await?;
        let running = r#"CREATE INDEX "idx-webhook_replay-running" ON webhook_replay (id) WHERE state = 'running'"#;
        manager.get_connection().execute_unprepared(running).await.map(drop)
    }
}
