//! What was told of numbers that nobody had set up.

use entity::{
    id::{MetaBodyId, OrganizationId},
    meta::body,
};
use sea_orm::{
    ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter, QueryOrder, Statement, Value,
};

use super::Meta;
use crate::store::{Error, Patience};

impl Meta {
    /// Bodies in which something is of nobody's number, the newest first: those before `before`. They are sealed.
    pub async fn strays(
        &self,
        organization: &OrganizationId,
        before: Option<&MetaBodyId>,
        limit: u64,
    ) -> Result<Vec<body::Model>, Error> {
        let db = self.store.reader();
        let older = if before.is_some() { "AND body_id < $2" } else { "" };
        let ask = format!(
            "SELECT DISTINCT body_id FROM meta_event WHERE organization_id = $1 AND is_unrouted {older} \
             ORDER BY body_id DESC LIMIT {limit}"
        );
        let mut values: Vec<Value> = vec![organization.as_str().into()];
        values.extend(before.map(|id| Value::from(id.as_str())));
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
    pub async fn let_go_stray(
        &self,
        body: &body::Model,
        owner: &OrganizationId,
    ) -> Result<(), Error> {
        let lane = body.organization_id.to_string();
        let all = (lane.clone(), body.id.to_string(), owner.to_string());
        let unit = self.store.writer().run(&lane, Patience::Fail, move |txn| {
            let (home, id, owner) = all.clone();
            Box::pin(async move {
                let database = txn.get_database_backend();
                let events = "DELETE FROM meta_event WHERE organization_id = $1 AND body_id = $2 \
                              AND is_unrouted AND dedup_key IN (\
                              SELECT dedup_key FROM meta_event WHERE organization_id = $3)";
                let values: [Value; 3] = [home.into(), id.into(), owner.into()];
                let events = Statement::from_sql_and_values(database, events, values);
                txn.execute_raw(events).await?;
                Ok(())
            })
        });
        unit.await
    }
}
