//! Several daemons on one database: who lives, who runs which session, and what they ask of each
//! other.

use sea_orm_migration::{
    prelude::*,
    schema::{big_integer, text, text_null},
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
                    .table("node")
                    .col(text("id").primary_key())
                    .col(text("home"))
                    .col(text("name"))
                    .col(big_integer("joined_at"))
                    .col(big_integer("expires_at"))
                    .to_owned(),
            )
            .await?;
        manager
            .create_index(
                Index::create().name("idx-node-home").table("node").col("home").to_owned(),
            )
            .await?;

        manager
            .create_table(
                Table::create()
                    .table("lease")
                    .col(text("session_key").primary_key())
                    // No foreign key: an owner that has died leaves its name here, so that burying
                    // it never waits for a transaction that it has left open.
                    .col(text_null("node_id"))
                    .col(big_integer("epoch"))
                    .col(big_integer("taken_at"))
                    .foreign_key(
                        ForeignKey::create()
                            .from("lease", "session_key")
                            .to("session", "id")
                            .on_delete(ForeignKeyAction::Cascade),
                    )
                    .to_owned(),
            )
            .await?;
        manager
            .create_index(
                Index::create().name("idx-lease-node_id").table("lease").col("node_id").to_owned(),
            )
            .await?;

        manager
            .create_table(
                Table::create()
                    .table("command")
                    .col(text("id").primary_key())
                    // No foreign key: the answer to a deletion outlives the session.
                    .col(text("session_key"))
                    .col(text("request"))
                    .col(text_null("taken_by"))
                    .col(text_null("answer"))
                    .col(big_integer("expires_at"))
                    .to_owned(),
            )
            .await
    }
}
