//! Changing a tenant's endpoints. Every change is in force for the first event after it.

use std::{collections::BTreeMap, time::Duration};

use entity::{
    UnixMillis,
    id::{EndpointId, GapId, OrganizationId, SecretId},
    kind::AuditAction,
    organization,
    webhook::{
        endpoint, gap, health, secret,
        state::{DisabledReason, EndpointState, Format, Ordering},
    },
};
use sea_orm::{
    ActiveModelTrait,
    ActiveValue::{Set, Unchanged},
    ColumnTrait, DatabaseTransaction, DbErr, EntityTrait, ExprTrait, IntoActiveModel, QueryFilter,
    sea_query::Expr,
};
use serde_json::{Value, json};

use super::{
    Webhooks, missed, sealed,
    traced::{of_change, trace},
};
use crate::{
    store::{
        Error, Made, Patience,
        audit::By,
        idempotency::{Key, moment, said_before},
    },
    webhook::SigningSecret,
};

/// What is to be changed of an endpoint; none to leave it as it is.
#[derive(Clone, Debug, Default)]
pub struct EndpointChange {
    pub url: Option<String>,
    pub description: Option<Option<String>>,
    pub format: Option<Format>,
    pub event_types: Option<Vec<String>>,
    pub session_ids: Option<Vec<String>>,
    pub phone_numbers: Option<Vec<String>>,
    pub headers: Option<BTreeMap<String, String>>,
    pub ordering: Option<Ordering>,
    pub max_in_flight: Option<i32>,
    pub rate_per_second: Option<Option<i32>>,
    pub timeout: Option<Duration>,
    pub max_retries: Option<Option<i32>>,
    pub max_age: Option<Duration>,
}

/// What became of an endpoint that was to be called again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Resumed {
    /// It is called from now on; with what it was not owed meanwhile.
    Resumed { gap: Option<gap::Model> },
    /// It was being called.
    Unchanged,
    /// It is not there.
    NotFound,
}

impl Webhooks {
    /// Changes an endpoint. None if it is not there.
    pub async fn update(
        &self,
        organization: &OrganizationId,
        id: &EndpointId,
        change: EndpointChange,
        by: By,
    ) -> Result<Option<endpoint::Model>, Error> {
        let what = (AuditAction::WebhookChanged, of_change(&change));
        let sealer = self.store.sealer(organization, Patience::Fail).await?;
        let headers = change.headers.map(|headers| sealed::seal_headers(&sealer, id, &headers));
        let columns = endpoint::ActiveModel {
            url: set(change.url.map(|url| sealed::seal_url(&sealer, id, &url))),
            description: set(change.description),
            format: set(change.format),
            event_types: set(change.event_types.as_deref().map(words)),
            session_ids: set(change.session_ids.as_deref().map(words)),
            phone_numbers: set(change.phone_numbers.as_deref().map(words)),
            headers: set(headers),
            ordering: set(change.ordering),
            max_in_flight: set(change.max_in_flight),
            rate_per_second: set(change.rate_per_second),
            timeout_ms: set(change
                .timeout
                .map(|it| i32::try_from(it.as_millis()).unwrap_or(i32::MAX))),
            max_retries: set(change.max_retries),
            max_age_ms: set(change
                .max_age
                .map(|it| i64::try_from(it.as_millis()).unwrap_or(i64::MAX))),
            ..Default::default()
        };
        let moves = columns.url.is_set();
        let row = self.change(organization, id, columns, what, by).await?;
        if moves && row.is_some() {
            self.touch([id.clone()]);
        }
        if let (Some(row), Some(ordering)) = (&row, change.ordering) {
            // It is changed whatever comes of this, which upkeep does as well.
            if let Err(error) = self.reorder(&row.id, ordering).await {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    webhook.endpoint = %row.id,
                    "What a webhook endpoint is owed is not in its new order yet"
                );
            }
        }
        Ok(row)
    }

    /// Stops calling an endpoint; what happens meanwhile waits for it. None if it is not there.
    pub async fn pause(
        &self,
        organization: &OrganizationId,
        id: &EndpointId,
        by: By,
    ) -> Result<Option<endpoint::Model>, Error> {
        let columns =
            endpoint::ActiveModel { state: Set(EndpointState::Paused), ..Default::default() };
        let what = (AuditAction::WebhookPaused, json!({}));
        self.change(organization, id, columns, what, by).await
    }

    async fn change(
        &self,
        organization: &OrganizationId,
        id: &EndpointId,
        columns: endpoint::ActiveModel,
        what: (AuditAction, Value),
        by: By,
    ) -> Result<Option<endpoint::Model>, Error> {
        let now = self.store.clock().now();
        let (lane, organization, id) = (organization.to_string(), organization.clone(), id.clone());
        let changed = self
            .store
            .writer()
            .run(&lane, Patience::Fail, move |txn| {
                let (organization, id, columns) =
                    (organization.clone(), id.clone(), columns.clone());
                let ((action, detail), by) = (what.clone(), by.clone());
                Box::pin(async move {
                    bump(txn, &organization).await?;
                    let Some(row) = present(txn, &organization, &id).await? else {
                        return Ok(None);
                    };
                    // Pausing one that is disabled would make it owed again.
                    let keeps = row.state == EndpointState::Disabled && columns.state.is_set();
                    if keeps {
                        return Ok(Some(row));
                    }
                    trace(txn, (&organization, &id), &by, now, action, &detail).await?;
                    let moves = columns.url.is_set();
                    let columns = endpoint::ActiveModel {
                        id: Unchanged(id.clone()),
                        version: Set(row.version + 1),
                        updated_at: Set(now),
                        ..columns
                    };
                    let row = columns.update(txn).await?;
                    if moves {
                        // How it answered where it was says nothing of where it is.
                        health::Entity::update(forgiven(id)).exec(txn).await?;
                    }
                    Ok(Some(row))
                })
            })
            .await?;
        self.opened_if(changed).await
    }

    /// Has an endpoint called again, whatever it was not called for, with a clean slate.
    pub async fn resume(
        &self,
        organization: &OrganizationId,
        id: &EndpointId,
        by: By,
    ) -> Result<Resumed, Error> {
        let now = self.store.clock().now();
        let (lane, organization, about) =
            (organization.to_string(), organization.clone(), id.clone());
        let resumed = self
            .store
            .writer()
            .run(&lane, Patience::Fail, move |txn| {
                let (organization, id, by) = (organization.clone(), about.clone(), by.clone());
                Box::pin(async move { resume(txn, &organization, &id, &by, now).await })
            })
            .await?;
        self.touch([id.clone()]);
        Ok(resumed)
    }

    /// Deletes an endpoint: from now on it is owed nothing. What was owed to it is cancelled in the
    /// background. False if it is not there.
    pub async fn delete(
        &self,
        organization: &OrganizationId,
        id: &EndpointId,
        by: By,
    ) -> Result<bool, Error> {
        let now = self.store.clock().now();
        let (lane, organization, id) = (organization.to_string(), organization.clone(), id.clone());
        self.store
            .writer()
            .run(&lane, Patience::Fail, move |txn| {
                let (organization, id, by) = (organization.clone(), id.clone(), by.clone());
                Box::pin(async move {
                    bump(txn, &organization).await?;
                    let Some(row) = present(txn, &organization, &id).await? else {
                        return Ok(false);
                    };
                    let action = AuditAction::WebhookDeleted;
                    trace(txn, (&organization, &id), &by, now, action, &json!({})).await?;
                    secret::Entity::delete_many()
                        .filter(secret::COLUMN.endpoint_id.eq(id.clone()))
                        .exec(txn)
                        .await?;
                    endpoint::ActiveModel {
                        id: Unchanged(id),
                        // Whatever might be secret in it.
                        url: Set(String::new()),
                        headers: Set(None),
                        description: Set(None),
                        state: Set(EndpointState::Deleted),
                        version: Set(row.version + 1),
                        updated_at: Set(now),
                        ..Default::default()
                    }
                    .update(txn)
                    .await?;
                    Ok(true)
                })
            })
            .await
    }

    /// Gives an endpoint a new secret, once for each key. The ones before it sign beside it for `overlap`, until the time
    /// that is told. None if the endpoint is not there.
    pub async fn rotate(
        &self,
        organization: &OrganizationId,
        id: &EndpointId,
        (secret, overlap): (&SigningSecret, Duration),
        key: Option<Key>,
        by: By,
    ) -> Result<Option<Made<UnixMillis>>, Error> {
        let now = self.store.clock().now();
        let sealer = self.store.sealer(organization, Patience::Fail).await?;
        let secret_id = SecretId::new(now, entity::id::in_order(rand::random()));
        let new = secret::Model {
            secret: sealed::seal_secret(&sealer, &secret_id, secret),
            id: secret_id,
            endpoint_id: id.clone(),
            created_at: now,
            expires_at: None,
        };
        let (lane, organization, id) = (organization.to_string(), organization.clone(), id.clone());
        self.store
            .writer()
            .run(&lane, Patience::Fail, move |txn| {
                let (organization, id, new) = (organization.clone(), id.clone(), new.clone());
                let (by, key) = (by.clone(), key.clone());
                Box::pin(async move {
                    let Some(row) = present(txn, &organization, &id).await? else {
                        return Ok(None);
                    };
                    let until = now + overlap;
                    let says = until.0.to_string();
                    match said_before(txn, &organization, key.as_ref(), &says, now).await? {
                        None => {}
                        Some(before) => {
                            return Ok(Some(before.map(|says| moment(&says).unwrap_or(until))));
                        }
                    }
                    let detail = json!({ "secretId": new.id, "overlapSeconds": overlap.as_secs() });
                    let action = AuditAction::WebhookSecretRotated;
                    trace(txn, (&organization, &id), &by, now, action, &detail).await?;
                    secret::Entity::update_many()
                        .col_expr(secret::Column::ExpiresAt, Expr::value(until))
                        .filter(secret::COLUMN.endpoint_id.eq(id.clone()))
                        .filter(secret::COLUMN.expires_at.is_null())
                        .exec(txn)
                        .await?;
                    secret::Entity::delete_many()
                        .filter(secret::COLUMN.endpoint_id.eq(id.clone()))
                        .filter(Expr::col(secret::Column::ExpiresAt).lte(now))
                        .exec(txn)
                        .await?;
                    secret::Entity::insert(new.into_active_model())
                        .exec_without_returning(txn)
                        .await?;
                    endpoint::ActiveModel {
                        id: Unchanged(id),
                        version: Set(row.version + 1),
                        updated_at: Set(now),
                        ..Default::default()
                    }
                    .update(txn)
                    .await?;
                    Ok(Some(Made::New(until)))
                })
            })
            .await
    }
}

async fn resume(
    txn: &DatabaseTransaction,
    organization: &OrganizationId,
    id: &EndpointId,
    by: &By,
    now: UnixMillis,
) -> Result<Resumed, DbErr> {
    let last_seq = bump(txn, organization).await?;
    let Some(row) = present(txn, organization, id).await? else { return Ok(Resumed::NotFound) };
    health::Entity::update(forgiven(id.clone())).exec(txn).await?;
    if row.state == EndpointState::Active {
        return Ok(Resumed::Unchanged);
    }
    let (action, was) = (AuditAction::WebhookResumed, json!({ "was": row.state }));
    trace(txn, (organization, id), by, now, action, &was).await?;
    endpoint::ActiveModel {
        id: Unchanged(id.clone()),
        state: Set(EndpointState::Active),
        disabled_reason: Set(None),
        disabled_at: Set(None),
        version: Set(row.version + 1),
        updated_at: Set(now),
        ..Default::default()
    }
    .update(txn)
    .await?;
    let closed = gap::Entity::update_many()
        .col_expr(gap::Column::ThroughSeq, Expr::value(last_seq))
        .col_expr(gap::Column::Until, Expr::value(now))
        .filter(gap::COLUMN.endpoint_id.eq(id.clone()))
        .filter(gap::COLUMN.through_seq.is_null())
        .exec_with_returning(txn)
        .await?;
    Ok(Resumed::Resumed { gap: closed.into_iter().next() })
}

/// Stops owing an endpoint anything, and remembers what it misses by that, with what it has not taken since it began to
/// fail. False if it is not active or paused.
pub(super) async fn disable(
    txn: &DatabaseTransaction,
    organization: &OrganizationId,
    id: &EndpointId,
    reason: DisabledReason,
    now: UnixMillis,
) -> Result<bool, DbErr> {
    let last_seq = bump(txn, organization).await?;
    let Some(row) = present(txn, organization, id).await? else { return Ok(false) };
    if row.state == EndpointState::Disabled {
        return Ok(false);
    }
    let (action, why) = (AuditAction::WebhookDisabled, json!({ "reason": reason }));
    // Nobody did it.
    trace(txn, (organization, id), &By::default(), now, action, &why).await?;
    endpoint::ActiveModel {
        id: Unchanged(id.clone()),
        state: Set(EndpointState::Disabled),
        disabled_reason: Set(Some(reason)),
        disabled_at: Set(Some(now)),
        version: Set(row.version + 1),
        updated_at: Set(now),
        ..Default::default()
    }
    .update(txn)
    .await?;
    let gap = gap::Model {
        id: GapId::new(now, rand::random()),
        endpoint_id: id.clone(),
        reason,
        after_seq: missed::first(txn, &row, now)
            .await?
            .map_or(last_seq, |it| std::cmp::min(it - 1, last_seq)),
        through_seq: None,
        since: now,
        until: None,
    };
    gap::Entity::insert(gap.into_active_model()).exec_without_returning(txn).await?;
    Ok(true)
}

/// Has every process read an organization's endpoints anew. Returns its newest event's number: from here
/// to the commit nothing is recorded for it.
pub(super) async fn bump(
    txn: &DatabaseTransaction,
    organization: &OrganizationId,
) -> Result<i64, DbErr> {
    // Made here, so that a unit that runs twice says another number the second time. Never 0.
    let version = rand::random::<i64>() | 1;
    let rows = organization::Entity::update_many()
        .col_expr(organization::Column::WebhookVersion, Expr::value(version))
        .filter(organization::COLUMN.id.eq(organization.clone()))
        .exec_with_returning(txn)
        .await?;
    let row = rows.first().ok_or_else(|| {
        DbErr::RecordNotFound("an endpoint's organization does not exist".to_owned())
    })?;
    Ok(row.last_seq)
}

/// The endpoint, unless it is deleted.
async fn present(
    txn: &DatabaseTransaction,
    organization: &OrganizationId,
    id: &EndpointId,
) -> Result<Option<endpoint::Model>, DbErr> {
    endpoint::Entity::find_by_id(id.clone())
        .filter(endpoint::COLUMN.organization_id.eq(organization.clone()))
        .filter(endpoint::Column::State.ne(EndpointState::Deleted))
        .one(txn)
        .await
}

/// What is remembered of an endpoint that nothing is known against.
pub(super) fn healthy(id: EndpointId) -> health::ActiveModel {
    health::ActiveModel { alerted: Set(0), ..forgiven(id) }
}

/// The same for one that was called before: whoever was told that it fails is still to be told that it is back.
fn forgiven(id: EndpointId) -> health::ActiveModel {
    health::ActiveModel {
        endpoint_id: Set(id),
        consecutive_failures: Set(0),
        first_failure_at: Set(None),
        hold_until: Set(None),
        opens: Set(0),
        ..Default::default()
    }
}

fn set<T: Into<sea_orm::Value>>(value: Option<T>) -> sea_orm::ActiveValue<T> {
    value.map_or(sea_orm::ActiveValue::NotSet, Set)
}

/// A list of words, as a row keeps it.
pub(super) fn words(words: &[String]) -> String {
    serde_json::to_string(words).unwrap_or_else(|_| "[]".to_owned())
}
