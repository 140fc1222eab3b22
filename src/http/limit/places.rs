//! Places for bodies that are read before it is known who sent them.
//!
//! A signature is over a body, so the body is read first, from whoever sends one. What that may cost is bounded in all,
//! and shared out, so that no address keeps the others out and no lane keeps the other lanes out.
//! A lane is what is posted to one of several doors: the addresses that all share, or those of one owner.
//!
//! Nobody is refused for what his address has done: he waits with those who did the like. Meta calls for everybody
//! from a few addresses, and one owner's wrong secret must not cost the others their events.

use std::{
    collections::HashMap,
    future::Future,
    hash::Hash,
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};

use super::neighbourhood;
use crate::{
    clock::Clock,
    http::{code::Code, error::ApiError, problem::Problem},
};

/// Addresses that are remembered for what they have shown, and for how long.
const MOST_KNOWN: usize = 10_000;
const MEMORY: Duration = Duration::from_hours(24);

/// It is looked for what can be forgotten when there are so many more than the last time, or after so long.
const SPACING: usize = 1024;
const PAUSE: Duration = Duration::from_secs(10);

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
    fn shares(self, lane: usize) -> (usize, usize) {
        let part = |of: usize| (lane / of).max(1);
        match self {
            Self::Suspect => (1, part(8)),
            Self::Stranger => (part(8), part(2)),
            Self::Known => (part(2), lane),
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
    shares: Mutex<Shares<L>>,
}

/// Who of a lane share places.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Circle {
    Lane,
    Like(Standing),
    Address(Standing, Option<IpAddr>),
}

#[derive(Debug)]
struct Shares<L> {
    circles: HashMap<(L, Circle), Arc<Semaphore>>,
    sweep_at: usize,
    /// When who posted in a lane was last known for something good.
    known: HashMap<(L, IpAddr), Duration>,
    /// Until when it is not looked for those that can be forgotten.
    known_until: Duration,
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
        let shares = Shares {
            circles: HashMap::new(),
            sweep_at: SPACING,
            known: HashMap::new(),
            known_until: Duration::ZERO,
        };
        let all = Arc::new(Semaphore::new(most));
        let many = Arc::new(Semaphore::new(Share::Most.of(most)));
        Self { inner: Arc::new(Inner { most, turn, clock, all, many, shares: Mutex::new(shares) }) }
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
        let mut circles = self.circles(&lane, share.of(self.inner.most), address, has_failed);
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
        address.is_some_and(|address| self.shares().knows(lane, neighbourhood(address), now))
    }

    /// What was shown from this address has opened something.
    pub(crate) fn was_good(&self, lane: L, address: Option<IpAddr>) {
        let Some(address) = address.map(neighbourhood) else { return };
        let now = self.inner.clock.monotonic();
        let (mut shares, key) = (self.shares(), (lane, address));
        if shares.known.len() >= MOST_KNOWN && !shares.known.contains_key(&key) {
            if now >= shares.known_until {
                shares.known.retain(|_, at| now.saturating_sub(*at) < MEMORY);
                shares.known_until = now + PAUSE;
            }
            if shares.known.len() >= MOST_KNOWN {
                return;
            }
        }
        shares.known.insert(key, now);
    }

    /// Those of a lane that the address shares places with.
    fn circles(
        &self,
        lane: &L,
        most: usize,
        address: Option<IpAddr>,
        has_failed: bool,
    ) -> Vec<Arc<Semaphore>> {
        let now = self.inner.clock.monotonic();
        let mut shares = self.shares();
        let standing = if address.is_some_and(|address| shares.knows(lane, address, now)) {
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
        let (of_address, of_likes) = standing.shares(most);
        let mut circle = |circle, most| {
            let key = (lane.clone(), circle);
            let made = || Arc::new(Semaphore::new(most));
            Arc::clone(shares.circles.entry(key).or_insert_with(made))
        };
        vec![
            circle(Circle::Address(standing, address), of_address),
            circle(Circle::Like(standing), of_likes),
            circle(Circle::Lane, most),
        ]
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

impl<L: Clone + Eq + Hash> Shares<L> {
    fn knows(&self, lane: &L, address: IpAddr, now: Duration) -> bool {
        let at = self.known.get(&(lane.clone(), address));
        at.is_some_and(|at| now.saturating_sub(*at) < MEMORY)
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
            self.places.shares().known.remove(&(self.lane.clone(), address));
        }
        read
    }

    /// What was shown has opened something: the address is known for it.
    pub(crate) fn was_good(&self) {
        self.places.was_good(self.lane.clone(), self.address);
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
