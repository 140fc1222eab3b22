//! Taking deliveries, to send them.
//!
//! What could be taken is looked for by a reader, which holds nobody up however long it looks. Taking is
//! one statement for all endpoints of a round, which decides again what may have changed in between:
//! that each is still pending, its endpoint still active, and nothing before it still open where order
//! matters. Whoever takes one leaves a token, and a result without that token counts for nothing.

use std::{collections::HashMap, sync::Arc, time::Duration};

use entity::{
    UnixMillis,
    id::{DeliveryId, EndpointId, OrganizationId},
    webhook::{event, state::Ordering},
};
use sea_orm::{ConnectionTrait, DbBackend, Statement};

use super::{
    LANE, PATIENCE, Webhooks, among,
    candidates::{Candidate, FIRST, candidates},
    elsewhere::elsewhere,
    joined, sealed,
};
use crate::{
    store::{Error, Patience, secrets},
    webhook::EventType,
};

/// What is to be taken for one endpoint.
#[derive(Clone, Debug)]
pub struct Claiming {
    pub endpoint: EndpointId,
    pub ordering: Ordering,
    /// At most so many.
    pub limit: usize,
    /// Less what other daemons have under way to it, at most so many; none where there are no others.
    pub shared: Option<usize>,
    /// The breaker is half open: this is the one probe.
    pub probe: bool,
}

/// What could be taken when it was looked for.
#[derive(Debug)]
pub struct Found {
    candidates: Vec<Candidate>,
    /// Endpoints of which the one delivery is a probe.
    probes: Vec<EndpointId>,
    /// What may be taken for endpoints to which other daemons send, too, with what they have.
    shared: HashMap<EndpointId, usize>,
    at: UnixMillis,
}

/// A delivery that is ours to send.
#[derive(Clone, Debug)]
pub struct Claimed {
    pub id: DeliveryId,
    pub organization_id: OrganizationId,
    pub endpoint_id: EndpointId,
    pub order_key: Option<String>,
    pub attempts: i32,
    pub created_at: UnixMillis,
    pub expires_at: UnixMillis,
    pub claim: i64,
    pub probe: bool,
    /// None if retention has taken it.
    pub event: Option<event::Model>,
}

/// How long nobody else sends a probe; longer than one may take.
const PROBE: Duration = Duration::from_secs(90);

impl Webhooks {
    /// Takes what is due for these endpoints, for the daemon called `me`, until `lease` is over.
    pub async fn claim(
        &self,
        me: &str,
        wanted: &[Claiming],
        lease: Duration,
    ) -> Result<Vec<Claimed>, Error> {
        let found = self.find_due(wanted).await?;
        self.take(me, found, lease).await
    }

    /// Looks for what is due for these endpoints.
    pub async fn find_due(&self, wanted: &[Claiming]) -> Result<Found, Error> {
        let at = self.store.clock().now();
        let candidates = candidates(self.store.reader(), wanted, at).await?;
        let is_found = |it: &&Claiming| candidates.iter().any(|at| at.endpoint_id == it.endpoint);
        let probes = wanted.iter().filter(|it| it.probe).filter(is_found);
        let probes = probes.map(|it| it.endpoint.clone()).collect();
        let shared = wanted.iter().filter(is_found);
        let shared = shared.filter_map(|it| Some((it.endpoint.clone(), it.shared?))).collect();
        Ok(Found { candidates, probes, shared, at })
    }

    /// Takes what was found, as far as it can still be taken.
    pub async fn take(
        &self,
        me: &str,
        found: Found,
        lease: Duration,
    ) -> Result<Vec<Claimed>, Error> {
        let at = found.at;
        if found.candidates.is_empty() {
            return Ok(Vec::new());
        }
        let claim: i64 = rand::random();
        let taken = self.mark(me, claim, &found, at + lease).await?;
        let Found { candidates, probes, .. } = found;

        let mut claimed = Vec::with_capacity(taken.len());
        for candidate in candidates {
            if taken.binary_search(&candidate.id).is_ok() {
                let probe = probes.contains(&candidate.endpoint_id);
                let organization = candidate.organization_id.clone();
                match self.open(candidate, claim, probe).await {
                    Ok(opened) => claimed.push(opened),
                    // One organization's key keeps nobody else's waiting; this one is let go of, as
                    // nobody has it under way.
                    Err(error) => tracing::warn!(
                        error = &error as &dyn std::error::Error,
                        organization.id = %organization,
                        "A webhook delivery cannot be opened"
                    ),
                }
            }
        }
        Ok(claimed)
    }

    /// Marks those that can still be taken; their ids, sorted.
    async fn mark(
        &self,
        me: &str,
        claim: i64,
        found: &Found,
        until: UnixMillis,
    ) -> Result<Vec<DeliveryId>, Error> {
        let now = found.at;
        let all = found.candidates.iter();
        let all: Arc<[_]> = all.map(|it| (it.endpoint_id.clone(), it.id.clone())).collect();
        let probes = found.probes.clone();
        let (me, shared) = (me.to_owned(), found.shared.clone());
        let taken = self.store.writer().run(LANE, PATIENCE, move |txn| {
            let (me, all, probes, mut shared) =
                (me.clone(), all.clone(), probes.clone(), shared.clone());
            Box::pin(async move {
                let database = txn.get_database_backend();
                if !shared.is_empty() {
                    let endpoints: Vec<_> = shared.keys().cloned().collect();
                    for (endpoint, count) in elsewhere(txn, &me, &endpoints, now).await? {
                        if let Some(places) = shared.get_mut(&endpoint) {
                            *places = places.saturating_sub(count);
                        }
                    }
                }
                let mut has_place = |endpoint: &EndpointId| match shared.get_mut(endpoint) {
                    None => true,
                    Some(0) => false,
                    Some(places) => {
                        *places -= 1;
                        true
                    }
                };
                let (mut of_probe, mut ids) = (Vec::new(), Vec::new());
                for (endpoint, id) in all.iter().filter(|(endpoint, _)| has_place(endpoint)) {
                    if probes.contains(endpoint) {
                        of_probe.push((endpoint, id.clone()));
                    } else {
                        ids.push(id.clone());
                    }
                }
                for (endpoint, id) in of_probe {
                    // Whoever moves the hold on may send the probe.
                    let hold = format!(
                        "UPDATE webhook_health SET hold_until = {} WHERE endpoint_id = '{endpoint}' \
                         AND (hold_until IS NULL OR hold_until <= {} OR hold_until > {})",
                        (now + PROBE).0,
                        now.0,
                        (now + Duration::from_hours(2)).0
                    );
                    if txn.execute_unprepared(&hold).await?.rows_affected() > 0 {
                        ids.push(id);
                    }
                }
                if ids.is_empty() {
                    return Ok(Vec::new());
                }
                let skip = match database {
                    // What another daemon is taking is left to it.
                    DbBackend::Postgres => " FOR UPDATE OF d SKIP LOCKED",
                    _ => "",
                };
                // Who is meant is known by its id. Said plainly, the state would have planners look through
                // an index of all that is pending; and asked for with EXISTS, PostgreSQL would look for
                // each endpoint's among all that are taken.
                let take = format!(
                    "UPDATE webhook_delivery SET state = 'claimed', claim = $2, \
                     claimed_by = $1, lease_until = $3 WHERE id IN (\
                     SELECT d.id FROM webhook_delivery d WHERE {} \
                     AND (d.state || '') = 'pending' AND 'active' = (SELECT e.state FROM webhook_endpoint e \
                     WHERE e.id = d.endpoint_id) \
                     AND (d.order_key IS NULL OR {FIRST}){skip}) RETURNING id",
                    among(database, "d.id", 4)
                );
                let values = [me.into(), claim.into(), until.0.into(), joined(&ids).into()];
                let take = Statement::from_sql_and_values(database, take, values);
                let rows = txn.query_all_raw(take).await?;
                let taken = rows.iter().map(|row| row.try_get_by_index::<DeliveryId>(0));
                let mut taken = taken.collect::<Result<Vec<_>, _>>()?;
                taken.sort_unstable();
                Ok(taken)
            })
        });
        taken.await
    }

    async fn open(&self, found: Candidate, claim: i64, probe: bool) -> Result<Claimed, Error> {
        let event = match (found.payload, found.occurred_at) {
            (Some(payload), Some(occurred_at)) => Some(event::Model {
                id: found.event_id,
                organization_id: found.organization_id.clone(),
                seq: found.seq,
                event_type: found.event_type,
                session_key: found.session_key,
                session_id: found.session_id,
                conversation: String::new(),
                payload,
                occurred_at,
                in_feed: false,
            }),
            _ => None,
        };
        let mut claimed = Claimed {
            id: found.id,
            organization_id: found.organization_id,
            endpoint_id: found.endpoint_id,
            order_key: found.order_key,
            attempts: found.attempts,
            created_at: found.created_at,
            expires_at: found.expires_at,
            claim,
            probe,
            event,
        };
        if let Some(event) = &mut claimed.event {
            self.open_event(event).await?;
        }
        Ok(claimed)
    }

    /// Opens what is secret in what endpoints are told.
    pub(super) async fn open_event(&self, event: &mut event::Model) -> Result<(), Error> {
        let is = |kind: EventType| event.event_type == kind.name();
        let is_notice = EventType::OF_ENDPOINTS.into_iter().any(is);
        if !(is_notice || is(EventType::SessionQr) || is(EventType::Unknown)) {
            return Ok(());
        }
        let sealer = self.store.sealer(&event.organization_id, Patience::Wait).await?;
        match &event.session_key {
            _ if is_notice => sealed::open_notice(&sealer, &mut event.payload),
            Some(session) if event.event_type == EventType::Unknown.name() => {
                secrets::open_told(&sealer, session, &mut event.payload);
            }
            Some(session) => secrets::change_qr(&mut event.payload, |stored| {
                secrets::open_qr(&sealer, session, stored).ok()
            }),
            None => {}
        }
        Ok(())
    }
}
