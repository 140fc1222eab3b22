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
use sea_orm::{ColumnTrait, EntityTrait, IntoActiveModel, PaginatorTrait as _, QueryFilter};

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
        idempotency::{Claimed, Key, claim, made_before, release},
    },
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

impl Webhooks {
    /// Makes an endpoint with its first secret, once for each key. None if the organization has `most` of them.
    pub async fn create(
        &self,
        organization: &OrganizationId,
        new: NewEndpoint,
        secret: &SigningSecret,
        most: u64,
        (key, by): (Option<Key>, By),
    ) -> Result<Option<Made<endpoint::Model>>, Error> {
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
                        return Ok(Some(before));
                    }
                    let there = endpoint::Entity::find()
                        .filter(endpoint::COLUMN.organization_id.eq(row.organization_id.clone()))
                        .filter(endpoint::Column::State.ne(EndpointState::Deleted))
                        .count(txn)
                        .await?;
                    if there >= most {
                        release(txn, owner, id).await?;
                        return Ok(None);
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
                    Ok(Some(Made::New(row)))
                })
            })
            .await?;
        Ok(match made {
            Some(Made::New(row)) => Some(Made::New(self.opened(row).await?)),
            Some(Made::Before(row)) => Some(Made::Before(self.opened(row).await?)),
            other => other,
        })
    }

    /// Lets a key stand for an endpoint that was there before it was asked for.
    pub async fn keep_key(
        &self,
        organization: &OrganizationId,
        id: &EndpointId,
        key: Key,
    ) -> Result<Made<()>, Error> {
        let now = self.store.clock().now();
        let (lane, organization, id) = (organization.to_string(), organization.clone(), id.clone());
        self.store
            .writer()
            .run(&lane, Patience::Fail, move |txn| {
                let (organization, id, key) = (organization.clone(), id.clone(), key.clone());
                Box::pin(async move {
                    let claimed = claim(txn, &organization, &key, id.as_str(), now).await?;
                    Ok(match claimed {
                        Claimed::Free => Made::New(()),
                        Claimed::Made { resource_id } if resource_id == id.as_str() => {
                            Made::Before(())
                        }
                        Claimed::Made { .. } | Claimed::Reused => Made::KeyReused,
                    })
                })
            })
            .await
    }
}
