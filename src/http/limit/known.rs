//! Whose events have come from an address, signed well, in memory that is bounded.
//!
//! One organization's addresses push out no other's: where there are too many, the oldest of whoever has the most are
//! forgotten. Who is forgotten is a stranger again, until he has signed well once more.

use std::{collections::HashMap, hash::Hash, net::IpAddr, time::Duration};

use entity::id::OrganizationId;

/// Whose an event is; none for what the operator's own key opens.
pub(super) type Owner = Option<OrganizationId>;

/// What is remembered in all: an owner of an address counts as one. And for how long.
pub(super) const MOST: usize = 10_000;
const MEMORY: Duration = Duration::from_hours(24);

/// Owners that are remembered of one address, the latest ones. Meta calls for everybody from a few.
const OWNERS: usize = 16;

#[derive(Debug)]
pub(super) struct Known<L> {
    addresses: HashMap<(L, IpAddr), Vec<(Owner, Duration)>>,
    /// Owners of all addresses together.
    count: usize,
}

impl<L> Default for Known<L> {
    fn default() -> Self {
        Self { addresses: HashMap::new(), count: 0 }
    }
}

impl<L: Clone + Eq + Hash> Known<L> {
    /// Whose events have come from this address to this lane.
    pub(super) fn owners(&self, lane: &L, address: IpAddr, now: Duration) -> Vec<Owner> {
        let found = self.addresses.get(&(lane.clone(), address));
        let fresh = |at: Duration| now.saturating_sub(at) < MEMORY;
        let owners = found.into_iter().flatten().filter(|(_, at)| fresh(*at));
        owners.map(|(owner, _)| owner.clone()).collect()
    }

    pub(super) fn learn(&mut self, lane: L, address: IpAddr, owner: Owner, now: Duration) {
        let key = (lane, address);
        if let Some(owners) = self.addresses.get_mut(&key) {
            if let Some((_, at)) = owners.iter_mut().find(|(it, _)| *it == owner) {
                *at = now;
                return;
            }
            if owners.len() >= OWNERS
                && let Some(oldest) = owners.iter_mut().min_by_key(|(_, at)| *at)
            {
                *oldest = (owner, now);
                return;
            }
        }
        if self.count >= MOST {
            self.make_room(now);
        }
        self.addresses.entry(key).or_default().push((owner, now));
        self.count += 1;
    }

    pub(super) fn forget(&mut self, lane: &L, address: IpAddr) {
        let forgotten = self.addresses.remove(&(lane.clone(), address));
        self.count -= forgotten.map_or(0, |owners| owners.len());
    }

    /// Forgets what is over, or else the oldest eighth of what whoever has the most is known by. Where many have a
    /// little each, the oldest eighth of all.
    fn make_room(&mut self, now: Duration) {
        self.retain(|_, at| now.saturating_sub(at) < MEMORY);
        if self.count < MOST {
            return;
        }
        let mut by_owner = HashMap::<Owner, Vec<Duration>>::new();
        for (owner, at) in self.addresses.values().flatten() {
            by_owner.entry(owner.clone()).or_default().push(*at);
        }
        let most = by_owner.iter().max_by_key(|(_, times)| times.len());
        let most = most.filter(|(_, times)| times.len() >= MOST / 100);
        let (whose, mut times) = match most {
            Some((owner, times)) => (Some(owner.clone()), times.clone()),
            None => (None, by_owner.into_values().flatten().collect()),
        };
        let eighth = times.len() / 8;
        let (_, last, _) = times.select_nth_unstable(eighth);
        let last = *last;
        self.retain(|owner, at| at > last || whose.as_ref().is_some_and(|it| it != owner));
    }

    fn retain(&mut self, stays: impl Fn(&Owner, Duration) -> bool) {
        self.addresses.retain(|_, owners| {
            owners.retain(|(owner, at)| stays(owner, *at));
            !owners.is_empty()
        });
        self.count = self.addresses.values().map(Vec::len).sum();
    }

    #[cfg(test)]
    pub(super) fn count(&self) -> usize {
        self.count
    }
}

#[cfg(test)]
mod tests {
    use entity::UnixMillis;

    use super::*;

    #[expect(clippy::unnecessary_wraps, reason = "as what is known by has it")]
    fn owner(n: u128) -> Owner {
        Some(OrganizationId::new(UnixMillis(0), n))
    }

    fn address(n: u32) -> IpAddr {
        IpAddr::from(n.to_be_bytes())
    }

    #[test]
    fn who_has_many_addresses_pushes_out_his_own_oldest_and_nobody_else_s() {
        let mut known = Known::default();
        let at = |n: u32| Duration::from_secs(n.into());
        known.learn("lane", address(1), owner(1), at(0));
        for n in 0..30_000 {
            known.learn("lane", address(n + 10), owner(2), at(n / 10));
            assert!(known.count() <= MOST);
        }
        assert_eq!(known.owners(&"lane", address(1), at(3000)), [owner(1)]);
        assert_eq!(known.owners(&"lane", address(30_009), at(3000)), [owner(2)]);
        assert!(known.owners(&"lane", address(10), at(3000)).is_empty());
        assert!(known.count() > MOST * 8 / 10);
    }

    #[test]
    fn what_many_are_known_by_goes_by_age() {
        let mut known = Known::default();
        for n in 0..20_000 {
            let at = Duration::from_millis(n.into());
            known.learn("lane", address(n), owner(n.into()), at);
        }
        let now = Duration::from_secs(20);
        assert!(known.owners(&"lane", address(0), now).is_empty());
        assert_eq!(known.owners(&"lane", address(19_999), now), [owner(19_999)]);
        assert!((MOST * 8 / 10..=MOST).contains(&known.count()));
    }

    #[test]
    fn an_address_is_known_for_the_latest_and_forgotten_as_a_whole() {
        let mut known = Known::default();
        for n in 0..100_u32 {
            let at = Duration::from_secs(1 + u64::from(n));
            known.learn("lane", address(1), owner(n.into()), at);
        }
        let owners = known.owners(&"lane", address(1), Duration::from_secs(200));
        assert_eq!((owners.len(), known.count()), (OWNERS, OWNERS));
        assert!(owners.contains(&owner(99)) && !owners.contains(&owner(0)));
        assert!(known.owners(&"other", address(1), Duration::ZERO).is_empty());
        let later = Duration::from_hours(25);
        assert!(known.owners(&"lane", address(1), later).is_empty());
        known.forget(&"lane", address(1));
        assert_eq!(known.count(), 0);
    }
}
