//! Ids of Meta's that an earlier version has kept without the business account that was told them.

use sea_orm_migration::MigratorTrait as _;

use crate::{database::on_each, upgrade::load};

#[tokio::test]
async fn ids_of_before_are_the_only_business_account_s_where_an_organization_has_one_alone() {
    on_each(async |database| {
        load(database, "main-2026-11").await;
        let found = database.query("SELECT organization_id, waba_id FROM meta_account").await;
        assert_eq!(found.len(), 1);
        let organization: String = found[0].try_get_by_index(0).unwrap();
        let waba: String = found[0].try_get_by_index(1).unwrap();
        // Of two ids of one contact it is not known whose they are.
        for (contact, ids) in [("con_one", &["US.1"][..]), ("con_two", &["US.2", "US.3"])] {
            let row = format!(
                "INSERT INTO contact (id, organization_id, created_at, updated_at) \
                 VALUES ('{contact}', '{organization}', 1, 1)"
            );
            database.execute(&row).await;
            for id in ids {
                let row = format!(
                    "INSERT INTO contact_identity (organization_id, kind, value, contact_id, created_at) \
                     VALUES ('{organization}', 'user_id', '{id}', '{contact}', 1)"
                );
                database.execute(&row).await;
            }
        }
        let db = database.connect().await;
        migration::Migrator::up(&db, None).await.unwrap();
        db.close().await.unwrap();
        let ask = "SELECT waba_id FROM contact_identity WHERE value LIKE 'US._' ORDER BY value";
        let rows = database.query(ask).await;
        let told: Vec<Option<String>> =
            rows.iter().map(|row| row.try_get_by_index(0).unwrap()).collect();
        assert_eq!(told, [Some(waba), None, None]);
    })
    .await;
}
