//! Sending a range of events again, or for the first time after a gap.

use entity::{
    UnixMillis,
    id::{EndpointId, ReplayId},
    state::Role,
    webhook::{
        replay,
        state::{EndpointState, ReplayState},
    },
};

use serde::Serialize;

use super::Webhooks;
use crate::{
    service::{
        Conflict, Error, Principal, Thing,
        created::{self, Created},
    },
    store::webhooks::{Cancelled, NewReplay},
};

/// Events a second, unless somebody says otherwise.
const RATE: i32 = 100;

/// Replays of an organization that go on at a time.
const MOST_RUNNING: u64 = 5;

/// Which events are wanted: by time or by sequence number; without an end, up to the newest.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Range {
    pub since: Option<UnixMillis>,
    pub until: Option<UnixMillis>,
    /// After this number, and up to that one.
    pub after: Option<i64>,
    pub through: Option<i64>,
    pub rate_per_second: Option<i64>,
    /// Only what the endpoint was not told of; unless it is said, so it is for what is exactly one of its gaps.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub undelivered_only: Option<bool>,
}

impl Webhooks {
    /// Begins to send a range of events to an endpoint, as far as it wants them. Once for each key.
    pub async fn replay(
        &self,
        caller: &Principal,
        id: &EndpointId,
        range: Range,
        key: Option<String>,
    ) -> Result<Created<replay::Model>, Error> {
        caller.require(Role::Manager)?;
        let request = serde_json::to_string(&range).unwrap_or_default();
        let key = key.map(|key| created::key(key, &["replay", id.as_str(), &request]));
        if self.row(caller, id).await?.state == EndpointState::Disabled {
            return Err(Error::Conflict(Conflict::WebhookDisabled));
        }
        if range.since.is_none() && range.after.is_none() {
            return Err(Error::invalid("since", "is missing: or `after_sequence`"));
        }
        let webhooks = self.store.webhooks();
        let organization = &caller.organization_id;
        let (after, through) = webhooks.span(organization, range.since, range.until).await?;
        let after = range.after.unwrap_or(after);
        let through = range.through.map_or(through, |it| it.min(through));
        let rate = range.rate_per_second.and_then(|it| i32::try_from(it).ok()).unwrap_or(RATE);
        let through = through.max(after);
        let undelivered_only = match range.undelivered_only {
            Some(only) => only,
            None => self.is_gap(id, &range).await?,
        };
        let new = NewReplay { after, through, rate, undelivered_only };
        let whose = (key, caller.by());
        let made = webhooks.replay(organization, id, new, MOST_RUNNING, whose).await?;
        made.ok_or(Error::Conflict(Conflict::TooManyReplays))?.try_into()
    }

    /// Whether a range is what an endpoint has missed, by the numbers that it was told with.
    async fn is_gap(&self, id: &EndpointId, range: &Range) -> Result<bool, Error> {
        let (Some(after), Some(through)) = (range.after, range.through) else { return Ok(false) };
        let gaps = self.store.webhooks().gaps(id).await?;
        Ok(gaps.iter().any(|gap| gap.after_seq == after && gap.through_seq == Some(through)))
    }

    /// Replays of an endpoint, the newest first; one more than `limit` if there are.
    pub async fn replays(
        &self,
        caller: &Principal,
        id: &EndpointId,
        state: Option<ReplayState>,
        before: Option<ReplayId>,
        limit: u64,
    ) -> Result<Vec<replay::Model>, Error> {
        caller.require(Role::Viewer)?;
        self.row(caller, id).await?;
        let (webhooks, organization) = (self.store.webhooks(), &caller.organization_id);
        Ok(webhooks.replays(organization, id, state, before.as_ref(), limit).await?)
    }

    /// How a replay stands.
    pub async fn find_replay(
        &self,
        caller: &Principal,
        id: &ReplayId,
    ) -> Result<replay::Model, Error> {
        caller.require(Role::Viewer)?;
        let found = self.store.webhooks().find_replay(&caller.organization_id, id).await?;
        found.ok_or(NOT_FOUND)
    }

    /// Stops a replay. What it has made owed is still sent.
    pub async fn cancel_replay(
        &self,
        caller: &Principal,
        id: &ReplayId,
    ) -> Result<replay::Model, Error> {
        caller.require(Role::Manager)?;
        match self.store.webhooks().cancel_replay(&caller.organization_id, id, caller.by()).await? {
            Cancelled::Now(row) => Ok(*row),
            Cancelled::NotFound => Err(NOT_FOUND),
            Cancelled::Ended => Err(Error::Conflict(Conflict::ReplayEnded)),
        }
    }
}

const NOT_FOUND: Error = Error::NotFound(Thing::Replay);
