//! What Meta told is carried out: how far each thing is, who has it in hand, and the session that a number's
//! messages are kept under.

use sea_orm_migration::{
    prelude::*,
    schema::{big_integer, big_integer_null, integer, text, text_null},
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
            text("state").default("waiting").take(),
            text("lane").default("").take(),
            integer("attempts").default(0).take(),
            big_integer("next_at").default(0).take(),
            big_integer_null("claim"),
            text_null("claimed_by"),
            big_integer("lease_until").default(0).take(),
            text_null("error"),
        ] {
            add(manager, "meta_event", &mut column).await?;
        }
        add(manager, "meta_account", &mut text_null("session_key")).await?;
        let db = manager.get_connection();
        for index in [
            r#"INDEX "idx-meta_event-due" ON meta_event (organization_id, id) WHERE state = 'waiting'"#,
            r#"INDEX "idx-meta_event-lane" ON meta_event (organization_id, lane, id) WHERE state = 'waiting'"#,
            r#"INDEX "idx-meta_event-age" ON meta_event (created_at) WHERE state = 'waiting'"#,
            r#"INDEX "idx-meta_event-body" ON meta_event (body_id) WHERE state = 'waiting'"#,
            r#"INDEX "idx-meta_event-state_log" ON meta_event (organization_id, state, event_ts, id)"#,
        ] {
            db.execute_unprepared(&format!("CREATE {index}")).await?;
        }
        Ok(())
    }
}

async fn add(
    manager: &SchemaManager<'_>,
    table: &'static str,
    column: &mut ColumnDef,
) -> Result<(), DbErr> {
    manager.alter_table(Table::alter().table(table).add_column(column).to_owned()).await
}
