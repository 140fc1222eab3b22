//! Deliveries: what was sent, what is to be sent, and sending it again.

use entity::{
    UnixMillis,
    id::{AttemptId, DeliveryId, EndpointId},
    state::Role,
    webhook::{attempt, delivery, event, health, state::DeliveryState},
};

use super::Webhooks;
use crate::{
    service::{Conflict, Error, Principal, Thing},
    store::webhooks::{AttemptFilter, Figures, LogFilter, Retried},
    webhook::EventType,
};

/// Which deliveries are wanted.
#[derive(Clone, Debug, Default)]
pub struct Query {
    pub state: Option<DeliveryState>,
    pub event_type: Option<EventType>,
    /// The last one already seen.
    pub after: Option<DeliveryId>,
}

/// A delivery in every detail.
#[derive(Clone, Debug)]
pub struct Detail {
    pub row: delivery::Model,
    /// None if retention has deleted it.
    pub event: Option<event::Model>,
    /// The latest, the oldest of them first.
    pub attempts: Vec<attempt::Model>,
    /// Whether there are older ones.
    pub has_older_attempts: bool,
}

/// Which tries of a delivery are wanted.
#[derive(Clone, Debug, Default)]
pub struct Tries {
    pub has_failed: Option<bool>,
    /// The last one already seen.
    pub after: Option<AttemptId>,
}

impl Webhooks {
    /// Deliveries to an endpoint, the newest first; one more than `limit` if there are.
    pub async fn deliveries(
        &self,
        caller: &Principal,
        id: &EndpointId,
        query: Query,
        limit: u64,
    ) -> Result<Vec<delivery::Model>, Error> {
        caller.require(Role::Viewer)?;
        self.row(caller, id).await?;
        let filter = LogFilter {
            state: query.state,
            event_type: query.event_type.map(|kind| kind.name().to_owned()),
            before: query.after,
        };
        let organization = &caller.organization_id;
        Ok(self.store.webhooks().deliveries(organization, id, &filter, limit).await?)
    }

    /// What was sent to an endpoint between two times, and how it stands.
    pub async fn stats(
        &self,
        caller: &Principal,
        id: &EndpointId,
        since: Option<UnixMillis>,
        until: Option<UnixMillis>,
    ) -> Result<(Figures, Option<health::Model>), Error> {
        caller.require(Role::Viewer)?;
        self.row(caller, id).await?;
        let until = until.unwrap_or_else(|| self.now());
        let since = since.unwrap_or_else(|| UnixMillis(until.0.saturating_sub(DAY)));
        if since > until {
            return Err(Error::invalid("since", "must not be after `until`"));
        }
        let webhooks = self.store.webhooks();
        let figures = webhooks.figures(id, since, until).await?;
        Ok((figures, webhooks.healths(std::slice::from_ref(id)).await?.pop()))
    }

    /// Looks one delivery up.
    pub async fn delivery(&self, caller: &Principal, id: &DeliveryId) -> Result<Detail, Error> {
        caller.require(Role::Viewer)?;
        let organization = &caller.organization_id;
        let most = SHOWN_ATTEMPTS + 1;
        let found = self.store.webhooks().delivery(organization, id, most as u64).await?;
        let (row, event, mut attempts) = found.ok_or(NOT_FOUND)?;
        let has_older_attempts = attempts.len() > SHOWN_ATTEMPTS;
        attempts.truncate(SHOWN_ATTEMPTS);
        attempts.reverse();
        Ok(Detail { row, event, attempts, has_older_attempts })
    }

    /// Tries of a delivery, the newest first; one more than `limit` if there are.
    pub async fn attempts(
        &self,
        caller: &Principal,
        id: &DeliveryId,
        tries: Tries,
        limit: u64,
    ) -> Result<Vec<attempt::Model>, Error> {
        caller.require(Role::Viewer)?;
        let filter = AttemptFilter { has_failed: tries.has_failed, before: tries.after };
        let organization = &caller.organization_id;
        let found = self.store.webhooks().attempts(organization, id, &filter, limit).await?;
        found.ok_or(NOT_FOUND)
    }

    /// Has a delivery sent at once, in the place of whenever it would have been. With until when it waits all the
    /// same, if the receiver has asked to be left alone.
    pub async fn retry(
        &self,
        caller: &Principal,
        id: &DeliveryId,
    ) -> Result<(delivery::Model, Option<UnixMillis>), Error> {
        caller.require(Role::Manager)?;
        match self.store.webhooks().retry(&caller.organization_id, id).await? {
            Retried::Due(row, held_until) => Ok((*row, held_until)),
            Retried::NotFound => Err(NOT_FOUND),
            Retried::InFlight => Err(Error::Conflict(Conflict::DeliveryInFlight)),
            Retried::EndpointOff => Err(Error::Conflict(Conflict::WebhookDisabled)),
            Retried::Retired => Err(Error::Conflict(Conflict::EventRetired)),
        }
    }
}

/// Tries that are shown with a delivery; the rest is a list of its own.
const SHOWN_ATTEMPTS: usize = 200;

/// What figures are about unless somebody says otherwise, in milliseconds.
const DAY: i64 = 24 * 3_600_000;

const NOT_FOUND: Error = Error::NotFound(Thing::Delivery);
