//! What is under way, and what is known of the endpoints it goes to.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use entity::{
    UnixMillis,
    id::{DeliveryId, EndpointId, OrganizationId},
    webhook::health,
};

use crate::store::webhooks::Target;

/// A success is written down for the endpoint once in so long while nothing is wrong with it.
const GRAIN: Duration = Duration::from_secs(1);

/// The least time in which a bucket that nobody takes from is full: what it holds is what comes in a second, and
/// one at least.
const FULL: Duration = Duration::from_secs(1);

/// All endpoints that this process has had to do with lately.
#[derive(Debug, Default)]
pub(super) struct Lanes {
    of: HashMap<EndpointId, Lane>,
    by_organization: HashMap<OrganizationId, usize>,
    /// Endpoints that are to be looked at, whatever woke us.
    pub(super) dirty: BTreeSet<EndpointId>,
    in_flight: HashSet<DeliveryId>,
    /// Counts the times at which places were given out.
    pub(super) round: usize,
}

#[derive(Debug)]
struct Lane {
    organization: OrganizationId,
    in_flight: usize,
    bucket: Bucket,
    target: Option<Arc<Target>>,
    healthy: bool,
    success_at: Option<UnixMillis>,
}

/// Requests that may still be begun now, at so many a second.
#[derive(Clone, Copy, Debug, Default)]
struct Bucket {
    tokens: f64,
    rate: f64,
    filled_at: Option<Duration>,
}

impl Bucket {
    /// Fills up for the time that has passed; how many there are, and when there will be one.
    fn fill(&mut self, rate: f64, now: Duration) -> (usize, Duration) {
        let burst = rate.max(1.0);
        self.rate = rate;
        let passed = self.filled_at.map(|at| now.saturating_sub(at));
        self.tokens =
            passed.map_or(burst, |passed| (self.tokens + passed.as_secs_f64() * rate).min(burst));
        self.filled_at = Some(now);
        let mut whole = 0;
        // Counted, as numbers of this kind do not become whole ones without loss.
        while f64::from(whole) + 1.0 <= self.tokens {
            whole += 1;
        }
        let missing = (1.0 - self.tokens).max(0.0) / rate;
        (usize::try_from(whole).unwrap_or(0), Duration::from_secs_f64(missing))
    }
}

impl Lanes {
    pub(super) fn in_flight(&self) -> usize {
        self.in_flight.len()
    }

    pub(super) fn deliveries(&self) -> Vec<DeliveryId> {
        self.in_flight.iter().cloned().collect()
    }

    pub(super) const fn held(&self) -> &HashMap<OrganizationId, usize> {
        &self.by_organization
    }

    pub(super) fn in_flight_of(&self, endpoint: &EndpointId) -> usize {
        self.of.get(endpoint).map_or(0, |lane| lane.in_flight)
    }

    fn lane(&mut self, endpoint: &EndpointId, organization: &OrganizationId) -> &mut Lane {
        self.of.entry(endpoint.clone()).or_insert_with(|| Lane {
            organization: organization.clone(),
            in_flight: 0,
            bucket: Bucket::default(),
            target: None,
            healthy: false,
            success_at: None,
        })
    }

    /// How many requests an endpoint's rate allows now, as far as it is ours; and if none, when one.
    pub(super) fn allowance(
        &mut self,
        endpoint: &EndpointId,
        organization: &OrganizationId,
        rate: Option<f64>,
        now: Duration,
    ) -> (usize, Duration) {
        let Some(rate) = rate else { return (usize::MAX, Duration::ZERO) };
        self.lane(endpoint, organization).bucket.fill(rate, now)
    }

    /// Notes that a request begins.
    pub(super) fn begin(
        &mut self,
        delivery: &DeliveryId,
        endpoint: &EndpointId,
        organization: &OrganizationId,
    ) {
        let lane = self.lane(endpoint, organization);
        lane.in_flight += 1;
        lane.bucket.tokens -= 1.0;
        self.in_flight.insert(delivery.clone());
        *self.by_organization.entry(organization.clone()).or_default() += 1;
    }

    /// Notes that a request has ended and is written down: there may be more for the endpoint.
    pub(super) fn end(&mut self, delivery: &DeliveryId, endpoint: &EndpointId) {
        self.in_flight.remove(delivery);
        self.dirty.insert(endpoint.clone());
        let Some(lane) = self.of.get_mut(endpoint) else { return };
        lane.in_flight = lane.in_flight.saturating_sub(1);
        if let Some(held) = self.by_organization.get_mut(&lane.organization) {
            *held = held.saturating_sub(1);
            if *held == 0 {
                self.by_organization.remove(&lane.organization);
            }
        }
    }

    /// What calling an endpoint takes, if what is known of it is of this version.
    pub(super) fn target(&self, endpoint: &EndpointId, version: i64) -> Option<Arc<Target>> {
        let known = self.of.get(endpoint)?.target.clone()?;
        (known.row.version == version).then_some(known)
    }

    pub(super) fn learn_target(&mut self, target: &Arc<Target>) {
        let lane = self.lane(&target.row.id, &target.row.organization_id);
        lane.target = Some(target.clone());
    }

    /// Whether a success of this endpoint is worth writing down now, beside the delivery's own end.
    pub(super) fn notes_success(&mut self, endpoint: &EndpointId, now: UnixMillis) -> bool {
        let Some(lane) = self.of.get_mut(endpoint) else { return true };
        let lately = lane.success_at.is_some_and(|at| at <= now && now.since(at) < GRAIN);
        let worth = !lane.healthy || !lately;
        if worth {
            lane.success_at = Some(now);
        }
        worth
    }

    /// Takes over how an endpoint is.
    pub(super) fn learn_health(&mut self, row: &health::Model) {
        self.learn_failures(&row.endpoint_id, row.consecutive_failures);
    }

    /// Takes over whether anything is wrong with an endpoint.
    pub(super) fn learn_failures(&mut self, endpoint: &EndpointId, failures: i32) {
        if let Some(lane) = self.of.get_mut(endpoint) {
            lane.healthy = failures == 0;
        }
    }

    /// Forgets those that nothing is under way to, and that lose nothing by it.
    pub(super) fn forget_idle(&mut self, now: Duration) {
        self.of.retain(|_, lane| {
            // A bucket that is not full must be remembered, or its rate would not hold.
            let full = FULL.max(FULL.div_f64(lane.bucket.rate.max(f64::EPSILON)));
            let is_full = |at| now.saturating_sub(at) >= full;
            lane.in_flight > 0 || !lane.bucket.filled_at.is_none_or(is_full)
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_is_forgotten_once_its_rate_would_hold_without_it() {
        let (endpoint, organization) =
            (EndpointId::new(UnixMillis(1), 1), OrganizationId::new(UnixMillis(1), 1));
        let delivery = DeliveryId::new(UnixMillis(1), 1);
        let mut lanes = Lanes::default();
        let at = Duration::from_millis;
        assert_eq!(lanes.allowance(&endpoint, &organization, Some(1.0), at(0)).0, 1);
        lanes.begin(&delivery, &endpoint, &organization);
        lanes.forget_idle(at(5_000));
        lanes.end(&delivery, &endpoint);
        assert_eq!(lanes.allowance(&endpoint, &organization, Some(1.0), at(500)).0, 0);
        lanes.forget_idle(at(1_000));
        assert_eq!(lanes.allowance(&endpoint, &organization, Some(1.0), at(1_400)).0, 1);
        lanes.forget_idle(at(2_400));
        assert!(lanes.of.is_empty());
    }

    #[test]
    fn a_bucket_gives_its_rate_and_no_more() {
        let mut bucket = Bucket::default();
        let at = Duration::from_millis;
        assert_eq!(bucket.fill(10.0, at(0)).0, 10);
        bucket.tokens -= 10.0;
        let (none, wait) = bucket.fill(10.0, at(0));
        assert_eq!((none, wait), (0, at(100)));
        assert_eq!(bucket.fill(10.0, at(350)).0, 3);
        assert_eq!(bucket.fill(10.0, at(60_000)).0, 10);
    }

    #[test]
    fn what_is_less_than_one_a_second_is_remembered_until_there_is_one() {
        let (endpoint, organization) =
            (EndpointId::new(UnixMillis(1), 1), OrganizationId::new(UnixMillis(1), 1));
        let delivery = DeliveryId::new(UnixMillis(1), 1);
        let mut lanes = Lanes::default();
        let at = Duration::from_secs;
        // One a second, shared by four.
        assert_eq!(lanes.allowance(&endpoint, &organization, Some(0.25), at(0)).0, 1);
        lanes.begin(&delivery, &endpoint, &organization);
        lanes.end(&delivery, &endpoint);
        lanes.forget_idle(at(3));
        let later = lanes.allowance(&endpoint, &organization, Some(0.25), at(3));
        assert_eq!(later, (0, at(1)));
        lanes.forget_idle(at(7));
        assert!(lanes.of.is_empty());
    }
}
