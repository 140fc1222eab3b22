//! To whom a campaign goes, how far each message of it has come, and the sums of that.

use sea_orm_migration::{
    prelude::*,
    schema::{big_integer, big_integer_null, boolean, small_integer, text, text_null},
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
                    .table("campaign_audience")
                    .col(text("id").primary_key())
                    .col(text("organization_id"))
                    .col(text("campaign_id"))
                    .col(text("phone_number"))
                    .col(text_null("name"))
                    .col(text_null("session_key"))
                    .col(text_null("wa_id"))
                    .col(text("state"))
                    .col(small_integer("reached"))
                    .col(boolean("is_failed"))
                    .col(text_null("error"))
                    .col(big_integer_null("sent_at"))
                    .col(big_integer_null("delivered_at"))
                    .col(big_integer_null("read_at"))
                    .col(big_integer_null("played_at"))
                    .col(big_integer_null("failed_at"))
                    .col(big_integer("created_at"))
                    .col(big_integer("updated_at"))
                    .foreign_key(&mut of_campaign("campaign_audience"))
                    .to_owned(),
            )
            .await?;
        let mut statistics = Table::create();
        statistics.table("campaign_statistics").col(text("campaign_id").primary_key());
        statistics.col(text("organization_id"));
        for count in ["audience", "attached", "sent", "delivered", "read", "played", "failed"] {
            statistics.col(big_integer(count));
        }
        statistics.col(big_integer("updated_at"));
        statistics.foreign_key(&mut of_campaign("campaign_statistics"));
        manager.create_table(statistics).await?;
        let db = manager.get_connection();
        for index in [
            r#"UNIQUE INDEX "idx-campaign_audience-campaign_number" ON campaign_audience (campaign_id, phone_number)"#,
            r#"UNIQUE INDEX "idx-campaign_audience-session_wa" ON campaign_audience (session_key, wa_id)"#,
            r#"INDEX "idx-campaign_audience-list" ON campaign_audience (campaign_id, id)"#,
            r#"INDEX "idx-campaign_audience-state" ON campaign_audience (campaign_id, state, id)"#,
        ] {
            db.execute_unprepared(&format!("CREATE {index}")).await?;
        }
        Ok(())
    }
}

fn of_campaign(table: &'static str) -> ForeignKeyCreateStatement {
    ForeignKey::create()
        .from(table, "campaign_id")
        .to("campaign", "id")
        .on_delete(ForeignKeyAction::Cascade)
        .to_owned()
}
