//! What endpoints are told and no session's run has seen (an endpoint that fails, a session that is made) is
//! part of the feed; which daemon has run a session last; figures of endpoints.

use sea_orm_migration::{
    prelude::*,
    schema::{big_integer, boolean, integer, text, text_null},
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
                    .table("webhook_event")
                    .add_column(boolean("in_feed").default(false))
                    .to_owned(),
            )
            .await?;
        manager
            .alter_table(Table::alter().table("lease").add_column(text_null("home")).to_owned())
            .await?;
        manager
            .create_table(
                Table::create()
                    .table("webhook_stat")
                    .col(text("endpoint_id"))
                    .col(big_integer("hour"))
                    .col(text("outcome"))
                    .col(integer("bucket"))
                    .col(big_integer("number"))
                    .primary_key(
                        Index::create().col("endpoint_id").col("hour").col("outcome").col("bucket"),
                    )
                    .foreign_key(
                        ForeignKey::create()
                            .from("webhook_stat", "endpoint_id")
                            .to("webhook_endpoint", "id")
                            .on_delete(ForeignKeyAction::Cascade),
                    )
                    .to_owned(),
            )
            .await?;
        let db = manager.get_connection();
        // What is looked for by time alone says so twice: PostgreSQL took these indices for every statement
        // that wants what is pending, and read all of it.
        for index in ["idx-webhook_delivery-expiry", "idx-webhook_delivery-lease"] {
            db.execute_unprepared(&format!(r#"DROP INDEX "{index}""#)).await?;
        }
        for index in [
            r#"INDEX "idx-webhook_delivery-expiry" ON webhook_delivery (expires_at) WHERE state = 'pending' AND expires_at > 0"#,
            r#"INDEX "idx-webhook_delivery-lease" ON webhook_delivery (lease_until) WHERE state = 'claimed' AND lease_until > 0"#,
            r#"INDEX "idx-webhook_event-feed" ON webhook_event (organization_id, seq) WHERE in_feed"#,
            r#"INDEX "idx-webhook_stat-hour" ON webhook_stat (hour)"#,
        ] {
            db.execute_unprepared(&format!("CREATE {index}")).await?;
        }
        Ok(())
    }
}
