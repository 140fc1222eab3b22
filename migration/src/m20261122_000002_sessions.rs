//! Sessions and what happened on them.

use sea_orm_migration::{
    prelude::*,
    schema::{
        big_integer, big_integer_null, boolean, integer_null, small_integer_null, text, text_null,
    },
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
                    .table("session")
                    .col(text("id").primary_key())
                    .col(text("organization_id"))
                    .col(text("session_id"))
                    .col(text("origin"))
                    .col(text_null("user_id"))
                    .col(text_null("phone_number"))
                    .col(text_null("push_name"))
                    .col(text_null("account_jid"))
                    .col(text_null("account_lid"))
                    .col(integer_null("device_id"))
                    .col(text("desired_state"))
                    .col(text("status"))
                    .col(big_integer("status_since"))
                    .col(text_null("message"))
                    .col(boolean("reconnecting"))
                    .col(big_integer_null("next_attempt_at"))
                    .col(small_integer_null("loading_percent"))
                    .col(text_null("qr"))
                    .col(big_integer_null("qr_issued_at"))
                    .col(big_integer_null("qr_expires_at"))
                    .col(big_integer("qr_sequence"))
                    .col(big_integer_null("connected_at"))
                    .col(big_integer_null("last_active_at"))
                    .col(text_null("last_disconnect_reason"))
                    .col(integer_null("last_disconnect_code"))
                    .col(big_integer_null("last_disconnect_at"))
                    .col(big_integer_null("banned_until"))
                    .col(big_integer("generation"))
                    .col(big_integer("created_at"))
                    .col(big_integer("updated_at"))
                    .foreign_key(
                        ForeignKey::create()
                            .from("session", "organization_id")
                            .to("organization", "id")
                            .on_delete(ForeignKeyAction::Cascade),
                    )
                    .to_owned(),
            )
            .await?;
        manager
            .create_index(
                Index::create()
                    .name("idx-session-organization_session")
                    .table("session")
                    .col("organization_id")
                    .col("session_id")
                    .unique()
                    .to_owned(),
            )
            .await?;

        manager
            .create_table(
                Table::create()
                    .table("event")
                    .col(text("id").primary_key())
                    .col(text("organization_id"))
                    .col(big_integer("seq"))
                    .col(text("session_key"))
                    .col(text("dedupe_key"))
                    .col(text("kind"))
                    .col(text("payload"))
                    .col(big_integer("occurred_at"))
                    .col(big_integer("recorded_at"))
                    .foreign_key(
                        ForeignKey::create()
                            .from("event", "session_key")
                            .to("session", "id")
                            .on_delete(ForeignKeyAction::Cascade),
                    )
                    .to_owned(),
            )
            .await?;
        manager
            .create_index(
                Index::create()
                    .name("idx-event-organization_seq")
                    .table("event")
                    .col("organization_id")
                    .col("seq")
                    .unique()
                    .to_owned(),
            )
            .await?;
        manager
            .create_index(
                Index::create()
                    .name("idx-event-session_dedupe")
                    .table("event")
                    .col("session_key")
                    .col("dedupe_key")
                    .unique()
                    .to_owned(),
            )
            .await
    }
}
