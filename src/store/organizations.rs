//! Organizations: the tenants.

use entity::{id::OrganizationId, kind::AuditAction, organization};
use sea_orm::{
    ColumnTrait, Condition, DatabaseTransaction, DbErr, EntityTrait, QueryFilter, QueryOrder,
    QuerySelect, TryInsertResult,
    sea_query::{Expr, LockType},
};
use serde_json::json;

use super::{
    Error, Made, Store,
    audit::{self, By},
    idempotency::{Key, made_before},
    page::Page,
    sessions::Change,
    writer::Patience,
};

/// The `client_id` of the organization that a new installation begins with.
const FIRST_CLIENT_ID: i64 = 1;

/// An organization to be made.
#[derive(Clone, Debug)]
pub struct NewOrganization {
    pub name: String,
    /// At most so many sessions; as many as it likes when there is no number.
    pub max_sessions: Option<i64>,
}

/// Changes of an organization.
#[derive(Clone, Debug, Default)]
pub struct Changes {
    pub name: Option<String>,
    pub max_sessions: Change<i64>,
}

/// Which organizations are wanted.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// To the letter.
    pub name: Option<String>,
    pub client_id: Option<i64>,
}

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

    /// Looks one organization up by the number that payloads carry.
    pub async fn find_by_client_id(
        &self,
        client_id: i64,
    ) -> Result<Option<organization::Model>, Error> {
        let found = organization::Entity::find()
            .filter(organization::COLUMN.client_id.eq(client_id))
            .one(self.store.reader())
            .await?;
        Ok(found)
    }

    /// A page of the organizations, the oldest first.
    pub async fn list(
        &self,
        filter: &Filter,
        page: &Page<OrganizationId>,
    ) -> Result<Vec<organization::Model>, Error> {
        let mut query = organization::Entity::find()
            .order_by_asc(organization::COLUMN.created_at)
            .order_by_asc(organization::COLUMN.id)
            .limit(page.limit);
        if let Some(name) = &filter.name {
            query = query.filter(organization::COLUMN.name.eq(name.as_str()));
        }
        if let Some(client_id) = filter.client_id {
            query = query.filter(organization::COLUMN.client_id.eq(client_id));
        }
        if let Some(after) = &page.after {
            let later = organization::COLUMN.created_at.gt(after.at);
            let same_time = organization::COLUMN.created_at.eq(after.at);
            let higher_id = organization::COLUMN.id.gt(after.id.clone());
            query = query.filter(
                Condition::any().add(later).add(Condition::all().add(same_time).add(higher_id)),
            );
        }
        Ok(query.all(self.store.reader()).await?)
    }

    /// Makes an organization, once for each key of the organization `of` that asks for it. Its
    /// number is the next that is free.
    pub async fn create(
        &self,
        of: &OrganizationId,
        new: NewOrganization,
        key: Option<Key>,
        by: By,
    ) -> Result<Made<organization::Model>, Error> {
        let now = self.store.clock().now();
        let row = organization::Model {
            id: OrganizationId::new(now, rand::random()),
            client_id: FIRST_CLIENT_ID,
            name: new.name,
            last_seq: 0,
            webhook_version: 0,
            retired_seq: 0,
            created_at: now,
            max_sessions: new.max_sessions,
        };
        let work = (of.clone(), row, key, by);
        self.store
            .writer()
            .run("organizations", Patience::Fail, move |txn| {
                let (of, row, key, by) = work.clone();
                Box::pin(async move {
                    let rows =
                        |id| organization::Entity::find().filter(organization::COLUMN.id.eq(id));
                    let (key, id) = (key.as_ref(), row.id.as_str());
                    if let Some(made) = made_before(txn, &of, key, id, now, rows).await? {
                        return Ok(made);
                    }
                    let row = insert_numbered(txn, row).await?;
                    let what = (AuditAction::OrganizationCreated, row.id.as_str());
                    let detail = json!({
                        "clientId": row.client_id,
                        "name": row.name,
                        "maxSessions": row.max_sessions,
                    });
                    audit::write(txn, &row.id, &by, now, what, &detail).await?;
                    Ok(Made::New(row))
                })
            })
            .await
    }

    /// Changes an organization; what it is then, or nothing where there is none.
    pub async fn change(
        &self,
        id: &OrganizationId,
        changes: Changes,
        by: By,
    ) -> Result<Option<organization::Model>, Error> {
        let now = self.store.clock().now();
        let work = (id.clone(), changes, by);
        self.store
            .writer()
            .run(id.as_str(), Patience::Fail, move |txn| {
                let (id, changes, by) = work.clone();
                Box::pin(async move {
                    let mut update = organization::Entity::update_many()
                        .filter(organization::COLUMN.id.eq(id.clone()));
                    let mut detail = serde_json::Map::new();
                    if let Some(name) = changes.name {
                        detail.insert("name".to_owned(), json!(name));
                        update = update.col_expr(organization::Column::Name, Expr::value(name));
                    }
                    let max_sessions = match changes.max_sessions {
                        Change::Keep => None,
                        Change::Clear => Some(None),
                        Change::To(number) => Some(Some(number)),
                    };
                    if let Some(number) = max_sessions {
                        detail.insert("maxSessions".to_owned(), json!(number));
                        let column = organization::Column::MaxSessions;
                        update = update.col_expr(column, Expr::value(number));
                    }
                    if !detail.is_empty() && update.exec(txn).await?.rows_affected > 0 {
                        let what = (AuditAction::OrganizationChanged, id.as_str());
                        audit::write(txn, &id, &by, now, what, &detail.into()).await?;
                    }
                    organization::Entity::find_by_id(id).one(txn).await
                })
            })
            .await
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
            webhook_version: 0,
            created_at: now,
            max_sessions: None,
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
                    Ok(first(txn).await?.unwrap_or(row))
                })
            })
            .await
    }
}

/// Has everybody else who decides something in an organization wait until this transaction is over; answers its row, if it is
/// there. Others may refer to it meanwhile.
pub(super) async fn lock(
    txn: &DatabaseTransaction,
    id: &OrganizationId,
) -> Result<Option<organization::Model>, DbErr> {
    organization::Entity::find_by_id(id.clone()).lock(LockType::NoKeyUpdate).one(txn).await
}

/// The organization that an installation begins with, if it is there: the operator's own.
pub(super) async fn first(txn: &DatabaseTransaction) -> Result<Option<organization::Model>, DbErr> {
    organization::Entity::find()
        .filter(organization::COLUMN.client_id.eq(FIRST_CLIENT_ID))
        .one(txn)
        .await
}

/// Writes an organization under the next number that is free. Another daemon that takes it at the
/// same time is waited for, and the one after it is tried.
async fn insert_numbered(
    txn: &DatabaseTransaction,
    mut row: organization::Model,
) -> Result<organization::Model, DbErr> {
    loop {
        let highest: Option<Option<i64>> = organization::Entity::find()
            .select_only()
            .expr(organization::COLUMN.client_id.max())
            .into_tuple()
            .one(txn)
            .await?;
        row.client_id = highest.flatten().map_or(FIRST_CLIENT_ID, |highest| highest + 1);
        let inserted = organization::Entity::insert(organization::ActiveModel::from(row.clone()))
            .on_conflict_do_nothing_on([organization::Column::ClientId])
            .exec(txn)
            .await?;
        if matches!(inserted, TryInsertResult::Inserted(_)) {
            return Ok(row);
        }
    }
}
