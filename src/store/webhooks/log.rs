//! What was sent and what is to be sent, for its owner.

use entity::{
    UnixMillis,
    id::{AttemptId, DeliveryId, EndpointId, OrganizationId},
    webhook::{
        attempt, delivery, endpoint, event, health,
        state::{DeliveryState, EndpointState},
    },
};
use sea_orm::{
    ActiveModelTrait,
    ActiveValue::{Set, Unchanged},
    ColumnTrait, ConnectionTrait, DatabaseTransaction, DbErr, EntityTrait, QueryFilter, QueryOrder,
    QuerySelect,
};

use super::{LANE, Webhooks, candidates::BY_HAND};
use crate::{
    store::{Error, Patience},
    webhook::health::{Breaker, breaker, is_the_breakers},
};

/// Which deliveries are wanted.
#[derive(Clone, Debug, Default)]
pub struct LogFilter {
    pub state: Option<DeliveryState>,
    pub event_type: Option<String>,
    /// Only those before it, as the list goes.
    pub before: Option<DeliveryId>,
}

/// Which tries of a delivery are wanted.
#[derive(Clone, Debug, Default)]
pub struct AttemptFilter {
    pub has_failed: Option<bool>,
    /// Only those before it, as the list goes.
    pub before: Option<AttemptId>,
}

/// What became of a delivery that was to be sent again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Retried {
    /// It is the first to go; not before this, if the endpoint's receiver asked to be left alone until then.
    Due(Box<delivery::Model>, Option<UnixMillis>),
    /// It is being sent at this moment.
    InFlight,
    /// Its endpoint is not called.
    EndpointOff,
    /// What it told of was deleted by retention.
    Retired,
    NotFound,
}

impl Webhooks {
    /// Deliveries to an endpoint, the newest first.
    pub async fn deliveries(
        &self,
        organization: &OrganizationId,
        endpoint: &EndpointId,
        filter: &LogFilter,
        limit: u64,
    ) -> Result<Vec<delivery::Model>, Error> {
        let mut query = delivery::Entity::find()
            .filter(delivery::COLUMN.organization_id.eq(organization.clone()))
            .filter(delivery::COLUMN.endpoint_id.eq(endpoint.clone()))
            .order_by_desc(delivery::COLUMN.id)
            .limit(limit);
        if let Some(state) = filter.state {
            query = query.filter(delivery::Column::State.eq(state));
        }
        if let Some(kind) = &filter.event_type {
            query = query.filter(delivery::COLUMN.event_type.eq(kind.clone()));
        }
        if let Some(before) = &filter.before {
            query = query.filter(delivery::COLUMN.id.lt(before.clone()));
        }
        Ok(query.all(self.store.reader()).await?)
    }

    /// One delivery, with its event (unless that was deleted by retention) and its latest attempts, the newest first.
    pub async fn delivery(
        &self,
        organization: &OrganizationId,
        id: &DeliveryId,
        attempts: u64,
    ) -> Result<Option<(delivery::Model, Option<event::Model>, Vec<attempt::Model>)>, Error> {
        let Some(row) = self.delivery_row(organization, id).await? else { return Ok(None) };
        let mut event =
            event::Entity::find_by_id(row.event_id.clone()).one(self.store.reader()).await?;
        if let Some(event) = &mut event {
            self.open_event(event).await?;
        }
        let attempts = self.attempts_of(id, &AttemptFilter::default(), attempts).await?;
        Ok(Some((row, event, attempts)))
    }

    /// Attempts of a delivery, the newest first; none if there is no such delivery.
    pub async fn attempts(
        &self,
        organization: &OrganizationId,
        id: &DeliveryId,
        filter: &AttemptFilter,
        limit: u64,
    ) -> Result<Option<Vec<attempt::Model>>, Error> {
        if self.delivery_row(organization, id).await?.is_none() {
            return Ok(None);
        }
        self.attempts_of(id, filter, limit).await.map(Some)
    }

    async fn delivery_row(
        &self,
        organization: &OrganizationId,
        id: &DeliveryId,
    ) -> Result<Option<delivery::Model>, Error> {
        let found = delivery::Entity::find_by_id(id.clone())
            .filter(delivery::COLUMN.organization_id.eq(organization.clone()));
        Ok(found.one(self.store.reader()).await?)
    }

    async fn attempts_of(
        &self,
        id: &DeliveryId,
        filter: &AttemptFilter,
        limit: u64,
    ) -> Result<Vec<attempt::Model>, Error> {
        let mut query = attempt::Entity::find()
            .filter(attempt::COLUMN.delivery_id.eq(id.clone()))
            .order_by_desc(attempt::COLUMN.id)
            .limit(limit);
        query = match filter.has_failed {
            Some(true) => query.filter(attempt::COLUMN.error.is_not_null()),
            Some(false) => query.filter(attempt::COLUMN.error.is_null()),
            None => query,
        };
        if let Some(before) = &filter.before {
            query = query.filter(attempt::COLUMN.id.lt(before.clone()));
        }
        Ok(query.all(self.store.reader()).await?)
    }

    /// Has a delivery sent at once, in the place of whenever it would have been, however it had ended. It goes before all
    /// else that its endpoint is owed, as far as their order allows it, and is the probe of a breaker that is open.
    pub async fn retry(
        &self,
        organization: &OrganizationId,
        id: &DeliveryId,
    ) -> Result<Retried, Error> {
        let now = self.store.clock().now();
        let (organization, id) = (organization.clone(), id.clone());
        let retried = self
            .store
            .writer()
            .run(LANE, Patience::Fail, move |txn| {
                let (organization, id) = (organization.clone(), id.clone());
                Box::pin(async move {
                    let found = delivery::Entity::find_by_id(id.clone())
                        .filter(delivery::COLUMN.organization_id.eq(organization))
                        .one(txn)
                        .await?;
                    let Some(row) = found else { return Ok(Retried::NotFound) };
                    let endpoint =
                        endpoint::Entity::find_by_id(row.endpoint_id.clone()).one(txn).await?;
                    let Some(endpoint) = endpoint else { return Ok(Retried::NotFound) };
                    match endpoint.state {
                        EndpointState::Deleted => return Ok(Retried::NotFound),
                        EndpointState::Disabled => return Ok(Retried::EndpointOff),
                        EndpointState::Active | EndpointState::Paused => {}
                    }
                    if row.state == DeliveryState::Claimed {
                        return Ok(Retried::InFlight);
                    }
                    if event::Entity::find_by_id(row.event_id.clone()).one(txn).await?.is_none() {
                        return Ok(Retried::Retired);
                    }
                    // The state is asked once more: on PostgreSQL somebody may take it just now.
                    let again = format!(
                        "UPDATE webhook_delivery SET state = 'pending', next_at = {BY_HAND}, \
                         expires_at = {}, finished_at = NULL, \
                         cause = CASE cause WHEN 'event' THEN 'retry' ELSE cause END WHERE id = '{id}' \
                         AND state <> 'claimed'",
                        now.0.saturating_add(endpoint.max_age_ms)
                    );
                    if txn.execute_unprepared(&again).await?.rows_affected() == 0 {
                        return Ok(Retried::InFlight);
                    }
                    let held_until = let_through(txn, &endpoint.id, now).await?;
                    let row = delivery::Entity::find_by_id(id).one(txn).await?;
                    let due = |row| Retried::Due(Box::new(row), held_until);
                    Ok(row.map_or(Retried::NotFound, due))
                })
            })
            .await?;
        if let Retried::Due(row, _) = &retried {
            self.touch([row.endpoint_id.clone()]);
        }
        Ok(retried)
    }
}

/// Has a breaker that is open let one request through now. Returns until when nothing is sent all the same: the
/// receiver has asked to be left alone.
async fn let_through(
    txn: &DatabaseTransaction,
    endpoint: &EndpointId,
    now: UnixMillis,
) -> Result<Option<UnixMillis>, DbErr> {
    let found = health::Entity::find_by_id(endpoint.clone()).one(txn).await?;
    let Some(row) = found else { return Ok(None) };
    if breaker(row.consecutive_failures, row.hold_until, now) != Breaker::Open {
        return Ok(None);
    }
    if !is_the_breakers(&row) {
        return Ok(row.hold_until);
    }
    health::ActiveModel {
        endpoint_id: Unchanged(endpoint.clone()),
        hold_until: Set(Some(now)),
        ..Default::default()
    }
    .update(txn)
    .await?;
    Ok(None)
}
