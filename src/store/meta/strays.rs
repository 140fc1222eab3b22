//! What was told of numbers that nobody had set up.

use std::collections::BTreeSet;

use entity::{
    id::{MetaBodyId, OrganizationId},
    meta::{account, body},
};
use sea_orm::{
    ColumnTrait, ConnectionTrait, DatabaseBackend, EntityTrait, QueryFilter, QueryOrder,
    QuerySelect, Statement, Value,
};

use super::Meta;
use crate::store::{Error, Patience};

/// Lets go of what is told in a body ($2) of an organization's ($1) as of nobody's number, and is kept by another ($3).
///
/// It is looked for once for each of the body's few things, and not through all that the other was ever told.
pub const LET_GO_STRAY: &str = "DELETE FROM meta_event WHERE organization_id = $1 AND body_id = $2 \
                                AND is_unrouted AND EXISTS (SELECT 1 FROM meta_event AS o \
                                WHERE o.organization_id = $3 AND o.dedup_key = meta_event.dedup_key)";

impl Meta {
    /// Meta's ids of an organization's numbers and business accounts.
    pub async fn own_names(
        &self,
        organization: &OrganizationId,
    ) -> Result<BTreeSet<String>, Error> {
        let rows: Vec<(String, Option<String>)> = account::Entity::find()
            .select_only()
            .column(account::Column::PhoneNumberId)
            .column(account::Column::WabaId)
            .filter(account::COLUMN.organization_id.eq(organization.clone()))
            .into_tuple()
            .all(self.store.reader())
            .await?;
        Ok(rows.into_iter().flat_map(|(number, waba)| [Some(number), waba]).flatten().collect())
    }

    /// Bodies in which something is of nobody's number and is about one of these ids, or does not say in its key what it is
    /// about. The newest first: those before `before`. They are sealed.
    pub async fn strays(
        &self,
        organization: &OrganizationId,
        names: &BTreeSet<String>,
        before: Option<&MetaBodyId>,
        limit: u64,
    ) -> Result<Vec<body::Model>, Error> {
        if names.is_empty() {
            return Ok(Vec::new());
        }
        let db = self.store.reader();
        // The number in the key of a message or a status (`meta/items.rs`).
        let number = match db.get_database_backend() {
            DatabaseBackend::Postgres => "split_part(dedup_key, ':', 2)",
            _ => "substr(dedup_key, 3, instr(substr(dedup_key, 3), ':') - 1)",
        };
        let mut values: Vec<Value> = vec![organization.as_str().into()];
        values.extend(names.iter().map(|name| Value::from(name.as_str())));
        let places: Vec<_> = (2..=values.len()).map(|n| format!("${n}")).collect();
        let places = places.join(", ");
        values.extend(before.map(|id| Value::from(id.as_str())));
        let older = before.map(|_| format!("AND body_id < ${}", values.len())).unwrap_or_default();
        // Keys of calls have no number, nor have those that are hashes.
        let ask = format!(
            "SELECT DISTINCT body_id FROM meta_event WHERE organization_id = $1 AND is_unrouted {older} \
             AND ({number} IN ({places}) OR object_id IN ({places}) \
             OR dedup_key LIKE 'c:%' OR dedup_key LIKE '_:#%') \
             ORDER BY body_id DESC LIMIT {limit}"
        );
        let ask = Statement::from_sql_and_values(db.get_database_backend(), ask, values);
        let rows = db.query_all_raw(ask).await?;
        let ids = rows.iter().map(|row| row.try_get_by_index::<String>(0));
        let ids = ids.collect::<Result<Vec<_>, _>>()?;
        let bodies = body::Entity::find()
            .filter(body::COLUMN.organization_id.eq(organization.clone()))
            .filter(body::Column::Id.is_in(ids))
            .order_by_desc(body::COLUMN.id)
            .all(db)
            .await?;
        Ok(bodies)
    }

    /// Lets go of what is told in a body and is another organization's by now: it is kept there. The body goes with its time.
    /// How much it was.
    pub async fn let_go_stray(
        &self,
        body: &body::Model,
        owner: &OrganizationId,
    ) -> Result<u64, Error> {
        let lane = body.organization_id.to_string();
        let all = (lane.clone(), body.id.to_string(), owner.to_string());
        let unit = self.store.writer().run(&lane, Patience::Fail, move |txn| {
            let (home, id, owner) = all.clone();
            Box::pin(async move {
                let database = txn.get_database_backend();
                let values: [Value; 3] = [home.into(), id.into(), owner.into()];
                let events = Statement::from_sql_and_values(database, LET_GO_STRAY, values);
                Ok(txn.execute_raw(events).await?.rows_affected())
            })
        });
        unit.await
    }
}
