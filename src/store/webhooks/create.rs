//! Making endpoints: once for each idempotency key, however often it is asked.

use std::{collections::BTreeMap, time::Duration};

use entity::{
    id::{EndpointId, OrganizationId, SecretId},
    kind::AuditAction,
    webhook::{
        endpoint, health, secret,
        state::{EndpointState, Format, Ordering},
    },
};
use sea_orm::{
    ColumnTrait, DatabaseTransaction, DbErr, EntityTrait, IntoActiveModel, PaginatorTrait as _,
    QueryFilter, QueryOrder,
};

use super::{
    Webhooks,
    changes::{bump, healthy, words},
    sealed,
    traced::{of_new, trace},
};
use crate::{
    store::{
        Error, Made, Patience,
        audit::By,
        idempotency::{Key, made_before, reassign, release},
    },
    vault::Sealer,
    webhook::SigningSecret,
};

/// An endpoint to be made, or what it is to be like.
#[derive(Clone, Debug)]
pub struct NewEndpoint {
    pub url: String,
    pub description: Option<String>,
    pub format: Format,
    pub event_types: Vec<String>,
    pub session_ids: Vec<String>,
    pub phone_numbers: Vec<String>,
    pub headers: BTreeMap<String, String>,
    pub ordering: Ordering,
    pub max_in_flight: i32,
    pub rate_per_second: Option<i32>,
    pub timeout: Duration,
    pub max_retries: Option<i32>,
    pub max_age: Duration,
}

/// What came of making an endpoint.
#[derive(Clone, Debug)]
pub enum Making {
    Made(Made<endpoint::Model>),
    /// One that was the same was there, and is as it was. The key, if there is one, stands for it.
    There(endpoint::Model),
    /// There are as many as there may be.
    Full,
}

impl Webhooks {
    /// Makes an endpoint with its first secret, once for each key; where it is `once`, not beside one that is told of
    /// the same in the same way at the same URL.
    pub async fn create(
        &self,
        organization: &OrganizationId,
        new: NewEndpoint,
        secret: &SigningSecret,
        most: u64,
        once: bool,
        (key, by): (Option<Key>, By),
    ) -> Result<Making, Error> {
        let now = self.store.clock().now();
        let detail = of_new(&new);
        let sealer = self.store.sealer(organization, Patience::Fail).await?;
        let id = EndpointId::new(now, entity::id::in_order(rand::random()));
        let secret_id = SecretId::new(now, rand::random());
        let first = secret::Model {
            secret: sealed::seal_secret(&sealer, &secret_id, secret),
            id: secret_id,
            endpoint_id: id.clone(),
            created_at: now,
            expires_at: None,
        };
        let url = once.then(|| new.url.clone());
        let row = endpoint::Model {
            organization_id: organization.clone(),
            url: sealed::seal_url(&sealer, &id, &new.url),
            description: new.description,
            format: new.format,
            event_types: words(&new.event_types),
            session_ids: words(&new.session_ids),
            phone_numbers: words(&new.phone_numbers),
            headers: sealed::seal_headers(&sealer, &id, &new.headers),
            id,
            ordering: new.ordering,
            max_in_flight: new.max_in_flight,
            rate_per_second: new.rate_per_second,
            timeout_ms: i32::try_from(new.timeout.as_millis()).unwrap_or(i32::MAX),
            max_retries: new.max_retries,
            max_age_ms: i64::try_from(new.max_age.as_millis()).unwrap_or(i64::MAX),
            state: EndpointState::Active,
            disabled_reason: None,
            disabled_at: None,
            version: 1,
            created_at: now,
            updated_at: now,
        };
        let made = self
            .store
            .writer()
            .run(organization.as_str(), Patience::Fail, move |txn| {
                let (row, first) = (row.clone(), first.clone());
                let (key, by, detail) = (key.clone(), by.clone(), detail.clone());
                let (url, sealer) = (url.clone(), sealer.clone());
                Box::pin(async move {
                    // First: it makes changes of one organization's endpoints wait for each other.
                    bump(txn, &row.organization_id).await?;
                    let owner = &row.organization_id;
                    let of = |id| {
                        endpoint::Entity::find()
                            .filter(endpoint::COLUMN.organization_id.eq(owner.clone()))
                            .filter(endpoint::COLUMN.id.eq(id))
                            .filter(endpoint::Column::State.ne(EndpointState::Deleted))
                    };
                    let (key, id) = (key.as_ref(), row.id.as_str());
                    if let Some(before) = made_before(txn, owner, key, id, now, of).await? {
                        return Ok(Making::Made(before));
                    }
                    if let Some(url) = url
                        && let Some(there) = same(txn, &sealer, &row, &url).await?
                    {
                        if let Some(key) = key {
                            reassign(txn, owner, key, there.id.as_str()).await?;
                        }
                        return Ok(Making::There(there));
                    }
                    let there = endpoint::Entity::find()
                        .filter(endpoint::COLUMN.organization_id.eq(row.organization_id.clone()))
                        .filter(endpoint::Column::State.ne(EndpointState::Deleted))
                        .count(txn)
                        .await?;
                    if there >= most {
                        release(txn, owner, id).await?;
                        return Ok(Making::Full);
                    }
                    endpoint::Entity::insert(row.clone().into_active_model())
                        .exec_without_returning(txn)
                        .await?;
                    secret::Entity::insert(first.into_active_model())
                        .exec_without_returning(txn)
                        .await?;
                    let health = health::Entity::insert(healthy(row.id.clone()));
                    health.exec_without_returning(txn).await?;
                    let whose = (&row.organization_id, &row.id);
                    trace(txn, whose, &by, now, AuditAction::WebhookCreated, &detail).await?;
                    Ok(Making::Made(Made::New(row)))
                })
            })
            .await?;
        Ok(match made {
            Making::Made(Made::New(row)) => Making::Made(Made::New(self.opened(row).await?)),
            Making::Made(Made::Before(row)) => Making::Made(Made::Before(self.opened(row).await?)),
            Making::There(row) => Making::There(self.opened(row).await?),
            other => other,
        })
    }
}

/// The oldest endpoint that is told of the same as `new` in the same way, at `url`.
async fn same(
    txn: &DatabaseTransaction,
    sealer: &Sealer,
    new: &endpoint::Model,
    url: &str,
) -> Result<Option<endpoint::Model>, DbErr> {
    let rows = endpoint::Entity::find()
        .filter(endpoint::COLUMN.organization_id.eq(new.organization_id.clone()))
        .filter(endpoint::Column::State.ne(EndpointState::Deleted))
        .filter(endpoint::Column::Format.eq(new.format))
        .filter(endpoint::Column::Ordering.eq(new.ordering))
        .filter(endpoint::COLUMN.event_types.eq(new.event_types.as_str()))
        .filter(endpoint::COLUMN.phone_numbers.eq(new.phone_numbers.as_str()))
        .order_by_asc(endpoint::COLUMN.id)
        .all(txn)
        .await?;
    // Sealed, no two are alike.
    Ok(rows.into_iter().find(|row| sealed::open_url(sealer, &row.id, &row.url) == url))
}
