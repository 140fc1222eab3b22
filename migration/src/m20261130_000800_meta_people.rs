//! Whose Meta's ids of people are, so that another person who has somebody's number is not taken for him; and what was
//! chosen, ordered or shown in a message. What was told of nobody's number is found by the body that it came in.

use sea_orm_migration::{prelude::*, schema::text_null};

#[derive(Debug, DeriveMigrationName)]
pub(crate) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }

    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let columns = [("contact_identity", "waba_id"), ("message", "interaction")];
        for (table, name) in columns {
            let mut column = text_null(name);
            let change = Table::alter().table(table).add_column(&mut column).to_owned();
            manager.alter_table(change).await?;
        }
        // What is nobody's is looked through by whoever sets a number up.
        let strays = r#"CREATE INDEX "idx-meta_event-strays" ON meta_event (organization_id, body_id) WHERE is_unrouted"#;
        manager.get_connection().execute_unprepared(strays).await?;
        // An organization that has one business account alone was told of its people by that. Of two ids of one person, one is
        // another's: neither says anything then.
        let told = "UPDATE contact_identity SET waba_id = (SELECT MIN(a.waba_id) FROM meta_account a \
                    WHERE a.organization_id = contact_identity.organization_id) \
                    WHERE kind = 'user_id' AND organization_id IN (\
                    SELECT organization_id FROM meta_account GROUP BY organization_id \
                    HAVING COUNT(DISTINCT waba_id) = 1) \
                    AND contact_id NOT IN (SELECT contact_id FROM contact_identity \
                    WHERE kind = 'user_id' GROUP BY contact_id HAVING COUNT(*) > 1)";
        manager.get_connection().execute_unprepared(told).await?;
        Ok(())
    }
}
