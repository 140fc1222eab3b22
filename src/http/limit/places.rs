//! Places for bodies that are read before it is known who sent them.
//!
//! A signature is over a body, so the body is read first, from whoever sends one. What that may cost is bounded in all,
//! and shared out, so that no address keeps the others out and no lane keeps the other lanes out.
//! A lane is what is posted to one of several doors: the addresses that all share, or those of one owner.
//!
//! Nobody is refused for what his address has done: he waits with those who did the like. Meta calls for everybody
//! from a few addresses, and one owner's wrong secret must not cost the others their events.
//!
//! What an address has shown is somebody's signature, so what it is known for is that organization's, and takes of what the
//! organization may have of a lane, from however many addresses it comes. An address that is known for several takes
//! of whoever has the most left. All who are known leave a part to strangers: everybody begins as one.

use std::{
    collections::HashMap,
    future::Future,
    hash::Hash,
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use entity::id::OrganizationId;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};

use super::{
    known::{Known, Owner},
    neighbourhood,
};
use crate::{
    clock::Clock,
    http::{code::Code, error::ApiError, problem::Problem},
};

/// It is looked for circles that nobody is in when there are so many more than the last time.
const SPACING: usize = 1024;

/// What is known of who posts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Standing {
    /// He has shown too much that opens nothing, and nothing that does.
    Suspect,
    Stranger,
    /// He has shown what opens something, in this lane.
    Known,
}

impl Standing {
    /// How many of a lane's places one address may have, and all of the like together.
    fn shares(self, lane: usize, share: Share) -> (usize, usize) {
        let part = |of: usize| (lane / of).max(1);
        match (self, share) {
            (Self::Suspect, _) => (1, part(8)),
            (Self::Stranger, _) => (part(8), part(2)),
            (Self::Known, Share::Most) => (part(2), lane.saturating_sub(part(8)).max(1)),
            // A lane of one owner's, which only he knows the way to.
            (Self::Known, Share::Quarter) => (part(2), lane),
        }
    }
}

/// Places, and who has them. Clones share them.
#[derive(Debug)]
pub(crate) struct Places<L> {
    inner: Arc<Inner<L>>,
}

#[derive(Debug)]
struct Inner<L> {
    most: usize,
    /// How long a request waits for its turn, before a byte of its body is read.
    turn: Duration,
    clock: Clock,
    all: Arc<Semaphore>,
    /// Lanes of which there are many share what is left to the others.
    many: Arc<Semaphore>,
    /// Who has proved nothing has half of all places, whatever lanes he finds.
    unproven: Arc<Semaphore>,
    shares: Mutex<Shares<L>>,
}

/// Who of a lane share places.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Circle {
    Lane,
    Like(Standing),
    /// An organization, from whatever addresses that are known for it.
    Owner(Owner),
    Address(Standing, Option<IpAddr>),
}

#[derive(Debug)]
struct Shares<L> {
    circles: HashMap<(L, Circle), Arc<Semaphore>>,
    sweep_at: usize,
    known: Known<L>,
}

/// A place, until it is let go of.
#[derive(Debug)]
pub(crate) struct Place<L> {
    places: Places<L>,
    lane: L,
    address: Option<IpAddr>,
    _permits: Vec<OwnedSemaphorePermit>,
}

/// No place was free in time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Crowded;

impl<L> Clone for Places<L> {
    fn clone(&self) -> Self {
        Self { inner: Arc::clone(&self.inner) }
    }
}

impl<L: Clone + Eq + Hash> Places<L> {
    /// `most` in all, one at least; each is waited for `turn` long.
    pub(crate) fn new(most: usize, turn: Duration, clock: Clock) -> Self {
        let most = most.max(1);
        let shares = Shares { circles: HashMap::new(), sweep_at: SPACING, known: Known::default() };
        let all = Arc::new(Semaphore::new(most));
        let many = Arc::new(Semaphore::new(Share::Most.of(most)));
        let unproven = Arc::new(Semaphore::new((most / 2).max(1)));
        let shares = Mutex::new(shares);
        Self { inner: Arc::new(Inner { most, turn, clock, all, many, unproven, shares }) }
    }

    /// A place in a lane that may have `share` of all places, for whoever posts from this address.
    /// `has_failed` is whether it has shown too much that opens nothing.
    pub(crate) async fn enter(
        &self,
        (lane, share): (L, Share),
        address: Option<IpAddr>,
        has_failed: bool,
    ) -> Result<Place<L>, Crowded> {
        let address = address.map(neighbourhood);
        // The narrowest first: who waits for it keeps nobody of another circle waiting.
        let mut circles = self.circles((&lane, share), address, has_failed);
        if share == Share::Quarter {
            circles.push(Arc::clone(&self.inner.many));
        }
        circles.push(Arc::clone(&self.inner.all));
        let turn = async {
            let mut permits = Vec::with_capacity(circles.len());
            for circle in circles {
                permits.push(circle.acquire_owned().await.map_err(|_| Crowded)?);
            }
            Ok::<_, Crowded>(permits)
        };
        let permits = timeout(self.inner.turn, turn).await.unwrap_or(Err(Crowded))?;
        Ok(Place { places: self.clone(), lane, address, _permits: permits })
    }

    /// Whether the address has shown in this lane what opens something.
    pub(crate) fn knows(&self, lane: &L, address: Option<IpAddr>) -> bool {
        let now = self.inner.clock.monotonic();
        let Some(address) = address.map(neighbourhood) else { return false };
        !self.shares().known.owners(lane, address, now).is_empty()
    }

    /// What was shown from this address has opened something of `owner`.
    pub(crate) fn was_good(&self, lane: L, address: Option<IpAddr>, owner: Owner) {
        let Some(address) = address.map(neighbourhood) else { return };
        let now = self.inner.clock.monotonic();
        self.shares().known.learn(lane, address, owner, now);
    }

    /// Those of a lane that the address shares places with.
    fn circles(
        &self,
        (lane, share): (&L, Share),
        address: Option<IpAddr>,
        has_failed: bool,
    ) -> Vec<Arc<Semaphore>> {
        let (now, most) = (self.inner.clock.monotonic(), share.of(self.inner.most));
        let mut shares = self.shares();
        let owners = address.map(|address| shares.known.owners(lane, address, now));
        let owners = owners.unwrap_or_default();
        let standing = if !owners.is_empty() {
            Standing::Known
        } else if has_failed {
            Standing::Suspect
        } else {
            Standing::Stranger
        };
        if shares.circles.len() >= shares.sweep_at {
            // Those that nobody is in, or waits for.
            shares.circles.retain(|_, circle| Arc::strong_count(circle) > 1);
            shares.sweep_at = shares.circles.len() + SPACING;
        }
        let (of_address, of_likes) = standing.shares(most, share);
        let mut circle = |circle, most| {
            let key = (lane.clone(), circle);
            let made = || Arc::new(Semaphore::new(most));
            Arc::clone(shares.circles.entry(key).or_insert_with(made))
        };
        let mut circles = vec![circle(Circle::Address(standing, address), of_address)];
        if share == Share::Most {
            let of_owner = (most / 4).max(1);
            let owners = owners.into_iter().map(|owner| circle(Circle::Owner(owner), of_owner));
            circles.extend(owners.max_by_key(|owner| owner.available_permits()));
        }
        circles.push(circle(Circle::Like(standing), of_likes));
        circles.push(circle(Circle::Lane, most));
        if standing != Standing::Known {
            circles.push(Arc::clone(&self.inner.unproven));
        }
        circles
    }

    fn shares(&self) -> MutexGuard<'_, Shares<L>> {
        self.inner.shares.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How much of all places a lane may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Share {
    /// What leaves a quarter for others.
    Most,
    Quarter,
}

impl Share {
    fn of(self, most: usize) -> usize {
        match self {
            Self::Most => most.saturating_sub(most / 4).max(1),
            Self::Quarter => (most / 4).max(1),
        }
    }
}

impl<L: Clone + Eq + Hash + Send + Sync> Place<L> {
    /// Reads a body here. Of whom it does not come in time, nothing good is known any more.
    pub(crate) async fn read<T: Send>(
        &self,
        body: impl Future<Output = Result<T, ApiError>> + Send,
    ) -> Result<T, ApiError> {
        let read = body.await;
        if let Err(ApiError::Request(problem)) = &read
            && problem.code == Code::RequestTimeout
            && let Some(address) = self.address
        {
            self.places.shares().known.forget(&self.lane, address);
        }
        read
    }

    /// What was shown has opened something of `owner`: the address is known for it.
    pub(crate) fn was_good(&self, owner: OrganizationId) {
        self.places.was_good(self.lane.clone(), self.address, Some(owner));
    }
}

impl From<Crowded> for ApiError {
    fn from(Crowded: Crowded) -> Self {
        Problem::new(Code::Unavailable, "too many bodies are being taken at once")
            .retry_after(Some(Duration::from_secs(1)))
            .into()
    }
}

#[cfg(test)]
#[path = "places_tests.rs"]
mod tests;
