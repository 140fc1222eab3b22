//! Meta's webhooks: accounts, what was posted, and each thing that was told in it.

use sea_orm_migration::{
    prelude::*,
    schema::{big_integer, big_integer_null, blob, blob_null, boolean, integer, text, text_null},
};

#[derive(Debug, DeriveMigrationName)]
pub(crate) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }

    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        accounts(manager).await?;
        bodies(manager).await?;
        events(manager).await?;
        indices(manager).await
    }
}

async fn accounts(manager: &SchemaManager<'_>) -> Result<(), DbErr> {
    manager
        .create_table(
            Table::create()
                .table("meta_account")
                .col(text("id").primary_key())
                .col(text("organization_id"))
                .col(text_null("label"))
                .col(text("phone_number_id"))
                .col(text_null("waba_id"))
                .col(text_null("display_phone_number"))
                .col(text_null("app_id"))
                .col(blob_null("app_secret"))
                .col(text("app_print"))
                .col(blob_null("previous_secret"))
                .col(big_integer_null("previous_until"))
                .col(blob_null("access_token"))
                .col(text("verify_hash"))
                .col(text("callback_path"))
                .col(text("callback_key"))
                .col(text("status"))
                .col(big_integer_null("last_verified_at"))
                .col(big_integer("version"))
                .col(big_integer("created_at"))
                .col(big_integer("updated_at"))
                .foreign_key(&mut of_organization("meta_account"))
                .to_owned(),
        )
        .await
}

async fn bodies(manager: &SchemaManager<'_>) -> Result<(), DbErr> {
    manager
        .create_table(
            Table::create()
                .table("meta_body")
                .col(text("id").primary_key())
                .col(text("organization_id"))
                .col(text("sha256"))
                .col(blob("body"))
                .col(integer("size"))
                .col(boolean("is_part"))
                .col(text("signature"))
                .col(big_integer("received_at"))
                .foreign_key(&mut of_organization("meta_body"))
                .to_owned(),
        )
        .await
}

async fn events(manager: &SchemaManager<'_>) -> Result<(), DbErr> {
    manager
        .create_table(
            Table::create()
                .table("meta_event")
                .col(text("id").primary_key())
                .col(text("organization_id"))
                // No foreign keys: a chunk of retention deletes what it names and nothing besides.
                .col(text_null("account_id"))
                .col(text("body_id"))
                .col(text("place"))
                .col(text_null("object_id"))
                .col(text("event_type"))
                .col(text_null("subtype"))
                .col(boolean("is_unrouted"))
                .col(big_integer("event_ts"))
                .col(text("dedup_key"))
                .col(boolean("processed"))
                .col(big_integer_null("processed_at"))
                .col(big_integer("created_at"))
                .foreign_key(&mut of_organization("meta_event"))
                .to_owned(),
        )
        .await
}

fn of_organization(table: &'static str) -> ForeignKeyCreateStatement {
    ForeignKey::create()
        .from(table, "organization_id")
        .to("organization", "id")
        .on_delete(ForeignKeyAction::Cascade)
        .to_owned()
}

async fn indices(manager: &SchemaManager<'_>) -> Result<(), DbErr> {
    let db = manager.get_connection();
    for index in [
        r#"UNIQUE INDEX "idx-meta_account-organization_number" ON meta_account (organization_id, phone_number_id)"#,
        r#"UNIQUE INDEX "idx-meta_account-app_number" ON meta_account (phone_number_id, app_print)"#,
        r#"UNIQUE INDEX "idx-meta_account-callback_key" ON meta_account (callback_key)"#,
        r#"INDEX "idx-meta_account-waba_id" ON meta_account (waba_id)"#,
        r#"INDEX "idx-meta_account-verify_hash" ON meta_account (verify_hash)"#,
        r#"UNIQUE INDEX "idx-meta_body-organization_hash" ON meta_body (organization_id, sha256)"#,
        r#"UNIQUE INDEX "idx-meta_event-organization_dedup" ON meta_event (organization_id, dedup_key)"#,
        r#"INDEX "idx-meta_event-log" ON meta_event (organization_id, event_ts, id)"#,
        r#"INDEX "idx-meta_event-account_log" ON meta_event (organization_id, account_id, event_ts, id)"#,
        r#"INDEX "idx-meta_event-type_log" ON meta_event (organization_id, event_type, event_ts, id)"#,
        r#"INDEX "idx-meta_event-waiting" ON meta_event (organization_id, event_ts, id) WHERE NOT processed"#,
    ] {
        db.execute_unprepared(&format!("CREATE {index}")).await?;
    }
    Ok(())
}
