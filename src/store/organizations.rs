//! Organizations: the tenants.

use entity::{id::OrganizationId, organization};
use sea_orm::{
    EntityTrait, QueryFilter, QueryOrder, QuerySelect, TryInsertResult, sea_query::Expr,
};

use super::{Error, Store, writer::Patience};

/// The `client_id` of the organization that a new installation begins with.
const FIRST_CLIENT_ID: i64 = 1;

/// Queries over organizations.
#[derive(Clone, Debug)]
pub struct Organizations {
    store: Store,
}

impl Organizations {
    pub(super) const fn new(store: Store) -> Self {
        Self { store }
    }

    /// Looks one organization up.
    pub async fn find(&self, id: &OrganizationId) -> Result<Option<organization::Model>, Error> {
        Ok(organization::Entity::find_by_id(id.clone()).one(self.store.reader()).await?)
    }

    /// All organizations, the oldest first.
    pub async fn list(&self) -> Result<Vec<organization::Model>, Error> {
        let rows = organization::Entity::find()
            .order_by_asc(organization::COLUMN.client_id)
            .all(self.store.reader())
            .await?;
        Ok(rows)
    }

    /// A number that is another whenever something was recorded, in this process or in another.
    pub async fn pulse(&self) -> Result<i64, Error> {
        let sum: Option<Option<i64>> = organization::Entity::find()
            .select_only()
            .expr(Expr::cust("CAST(SUM(last_seq) AS BIGINT)"))
            .into_tuple()
            .one(self.store.reader())
            .await?;
        Ok(sum.flatten().unwrap_or(0))
    }

    /// The organization that an installation begins with; made when it is not there.
    pub async fn ensure_default(&self) -> Result<organization::Model, Error> {
        let now = self.store.clock().now();
        let row = organization::Model {
            id: OrganizationId::new(now, rand::random()),
            client_id: FIRST_CLIENT_ID,
            name: "default".to_owned(),
            last_seq: 0,
            retired_seq: 0,
            created_at: now,
        };
        self.store
            .writer()
            .run("organizations", Patience::Fail, move |txn| {
                let row = row.clone();
                Box::pin(async move {
                    let insert =
                        organization::Entity::insert(organization::ActiveModel::from(row.clone()))
                            .on_conflict_do_nothing_on([organization::Column::ClientId])
                            .exec(txn)
                            .await?;
                    if matches!(insert, TryInsertResult::Inserted(_)) {
                        return Ok(row);
                    }
                    let there = organization::Entity::find()
                        .filter(organization::COLUMN.client_id.eq(FIRST_CLIENT_ID))
                        .one(txn)
                        .await?;
                    Ok(there.unwrap_or(row))
                })
            })
            .await
    }
}
