//! Outbound webhooks: endpoints and their secrets, what endpoints are told, what is owed to them and
//! what came of it.

use sea_orm_migration::{
    prelude::*,
    schema::{
        big_integer, big_integer_null, blob, blob_null, integer, integer_null, text, text_null,
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
            .alter_table(
                Table::alter()
                    .table("organization")
                    .add_column(big_integer("webhook_version").default(0))
                    .to_owned(),
            )
            .await?;
        endpoints(manager).await?;
        deliveries(manager).await?;
        indices(manager).await
    }
}

async fn endpoints(manager: &SchemaManager<'_>) -> Result<(), DbErr> {
    manager
        .create_table(
            Table::create()
                .table("webhook_endpoint")
                .col(text("id").primary_key())
                .col(text("organization_id"))
                .col(text("url"))
                .col(text_null("description"))
                .col(text("format"))
                .col(text("event_types"))
                .col(text("session_ids"))
                .col(text("phone_numbers"))
                .col(blob_null("headers"))
                .col(text("ordering"))
                .col(integer("max_in_flight"))
                .col(integer_null("rate_per_second"))
                .col(integer("timeout_ms"))
                .col(integer_null("max_retries"))
                .col(big_integer("max_age_ms"))
                .col(text("state"))
                .col(text_null("disabled_reason"))
                .col(big_integer_null("disabled_at"))
                .col(big_integer("version"))
                .col(big_integer("created_at"))
                .col(big_integer("updated_at"))
                .foreign_key(
                    ForeignKey::create()
                        .from("webhook_endpoint", "organization_id")
                        .to("organization", "id")
                        .on_delete(ForeignKeyAction::Cascade),
                )
                .to_owned(),
        )
        .await?;
    manager
        .create_table(
            Table::create()
                .table("webhook_secret")
                .col(text("id").primary_key())
                .col(text("endpoint_id"))
                .col(blob("secret"))
                .col(big_integer("created_at"))
                .col(big_integer_null("expires_at"))
                .foreign_key(&mut of_endpoint("webhook_secret"))
                .to_owned(),
        )
        .await?;
    manager
        .create_table(
            Table::create()
                .table("webhook_health")
                .col(text("endpoint_id").primary_key())
                .col(integer("consecutive_failures"))
                .col(big_integer_null("first_failure_at"))
                .col(big_integer_null("last_failure_at"))
                .col(big_integer_null("last_success_at"))
                .col(big_integer_null("hold_until"))
                .col(integer("opens"))
                .col(integer("alerted"))
                .col(big_integer_null("exhausted_alert_at"))
                .foreign_key(&mut of_endpoint("webhook_health"))
                .to_owned(),
        )
        .await?;
    manager
        .create_table(
            Table::create()
                .table("webhook_gap")
                .col(text("id").primary_key())
                .col(text("endpoint_id"))
                .col(text("reason"))
                .col(big_integer("after_seq"))
                .col(big_integer_null("through_seq"))
                .col(big_integer("since"))
                .col(big_integer_null("until"))
                .foreign_key(&mut of_endpoint("webhook_gap"))
                .to_owned(),
        )
        .await
}

async fn deliveries(manager: &SchemaManager<'_>) -> Result<(), DbErr> {
    manager
        .create_table(
            Table::create()
                .table("webhook_event")
                .col(text("id").primary_key())
                .col(text("organization_id"))
                .col(big_integer("seq"))
                .col(text("event_type"))
                // No foreign key: what is owed outlives the session it is about.
                .col(text_null("session_key"))
                .col(text_null("session_id"))
                .col(text("conversation"))
                .col(text("payload"))
                .col(big_integer("occurred_at"))
                .foreign_key(
                    ForeignKey::create()
                        .from("webhook_event", "organization_id")
                        .to("organization", "id")
                        .on_delete(ForeignKeyAction::Cascade),
                )
                .to_owned(),
        )
        .await?;
    manager
        .create_table(
            Table::create()
                .table("webhook_delivery")
                .col(text("id").primary_key())
                .col(text("organization_id"))
                .col(text("endpoint_id"))
                .col(text("event_id"))
                .col(text("event_type"))
                .col(big_integer("seq"))
                .col(text_null("order_key"))
                .col(text("replay_id"))
                .col(text("cause"))
                .col(text("state"))
                .col(integer("attempts"))
                .col(big_integer("next_at"))
                .col(big_integer("expires_at"))
                .col(big_integer_null("claim"))
                .col(text_null("claimed_by"))
                .col(big_integer_null("lease_until"))
                .col(integer_null("last_status"))
                .col(text_null("last_error"))
                .col(big_integer("created_at"))
                .col(big_integer_null("finished_at"))
                .foreign_key(&mut of_endpoint("webhook_delivery"))
                .to_owned(),
        )
        .await?;
    manager
        .create_table(
            Table::create()
                .table("webhook_attempt")
                .col(text("id").primary_key())
                // No foreign keys: a chunk of retention deletes what it names and nothing besides.
                .col(text("delivery_id"))
                .col(text("endpoint_id"))
                .col(integer("number"))
                .col(big_integer("started_at"))
                .col(integer("duration_ms"))
                .col(text_null("peer"))
                .col(integer_null("status"))
                .col(text_null("error"))
                .col(text_null("response"))
                .to_owned(),
        )
        .await
}

fn of_endpoint(table: &'static str) -> ForeignKeyCreateStatement {
    ForeignKey::create()
        .from(table, "endpoint_id")
        .to("webhook_endpoint", "id")
        .on_delete(ForeignKeyAction::Cascade)
        .to_owned()
}

/// The hot ones are partial: what has come to an end costs them nothing.
async fn indices(manager: &SchemaManager<'_>) -> Result<(), DbErr> {
    let db = manager.get_connection();
    for index in [
        r#"INDEX "idx-webhook_endpoint-organization_id" ON webhook_endpoint (organization_id, id)"#,
        r#"INDEX "idx-webhook_secret-endpoint_id" ON webhook_secret (endpoint_id)"#,
        r#"INDEX "idx-webhook_gap-endpoint_id" ON webhook_gap (endpoint_id, id)"#,
        r#"INDEX "idx-webhook_attempt-delivery_id" ON webhook_attempt (delivery_id, id)"#,
        r#"UNIQUE INDEX "idx-webhook_event-organization_seq" ON webhook_event (organization_id, seq)"#,
        r#"UNIQUE INDEX "idx-webhook_delivery-owed" ON webhook_delivery (endpoint_id, event_id, replay_id)"#,
        r#"INDEX "idx-webhook_delivery-log" ON webhook_delivery (endpoint_id, id)"#,
        r#"INDEX "idx-webhook_delivery-due" ON webhook_delivery (endpoint_id, next_at, seq) WHERE state = 'pending'"#,
        r#"INDEX "idx-webhook_delivery-order" ON webhook_delivery (endpoint_id, order_key, seq) WHERE state IN ('pending', 'claimed') AND order_key IS NOT NULL"#,
        r#"INDEX "idx-webhook_delivery-expiry" ON webhook_delivery (expires_at) WHERE state = 'pending'"#,
        r#"INDEX "idx-webhook_delivery-lease" ON webhook_delivery (lease_until) WHERE state = 'claimed'"#,
    ] {
        db.execute_unprepared(&format!("CREATE {index}")).await?;
    }
    Ok(())
}
