//! What was sent and what is to be sent, for its owner.

use entity::{
    id::{DeliveryId, EndpointId, OrganizationId},
    webhook::{
        attempt, delivery, endpoint, event,
        state::{DeliveryState, EndpointState},
    },
};
use sea_orm::{ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect};

use super::{LANE, Webhooks};
use crate::store::{Error, Patience};

/// Which deliveries are wanted.
#[derive(Clone, Debug, Default)]
pub struct LogFilter {
    pub state: Option<DeliveryState>,
    pub event_type: Option<String>,
    /// Only those before it, as the list goes.
    pub before: Option<DeliveryId>,
}

/// What became of a delivery that was to be sent again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Retried {
    Due(Box<delivery::Model>),
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

    /// One delivery, with its event (unless that was deleted by retention) and its attempts.
    pub async fn delivery(
        &self,
        organization: &OrganizationId,
        id: &DeliveryId,
    ) -> Result<Option<(delivery::Model, Option<event::Model>, Vec<attempt::Model>)>, Error> {
        let db = self.store.reader();
        let found = delivery::Entity::find_by_id(id.clone())
            .filter(delivery::COLUMN.organization_id.eq(organization.clone()))
            .one(db)
            .await?;
        let Some(row) = found else { return Ok(None) };
        let mut event = event::Entity::find_by_id(row.event_id.clone()).one(db).await?;
        if let Some(event) = &mut event {
            self.open_event(event).await?;
        }
        let attempts = attempt::Entity::find()
            .filter(attempt::COLUMN.delivery_id.eq(id.clone()))
            .order_by_asc(attempt::COLUMN.id)
            .limit(200)
            .all(db)
            .await?;
        Ok(Some((row, event, attempts)))
    }

    /// Has a delivery sent at once, in the place of whenever it would have been, however it had ended.
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
                        "UPDATE webhook_delivery SET state = 'pending', next_at = 0, \
                         expires_at = {}, finished_at = NULL, \
                         cause = CASE cause WHEN 'event' THEN 'retry' ELSE cause END WHERE id = '{id}' \
                         AND state <> 'claimed'",
                        now.0.saturating_add(endpoint.max_age_ms)
                    );
                    if txn.execute_unprepared(&again).await?.rows_affected() == 0 {
                        return Ok(Retried::InFlight);
                    }
                    let row = delivery::Entity::find_by_id(id).one(txn).await?;
                    Ok(row.map_or(Retried::NotFound, |row| Retried::Due(Box::new(row))))
                })
            })
            .await?;
        if let Retried::Due(row) = &retried {
            self.touch([row.endpoint_id.clone()]);
        }
        Ok(retried)
    }
}
