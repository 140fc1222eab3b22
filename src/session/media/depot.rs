//! Media that is here, or on its way: once for everybody who asks, within limits for all together.

use std::{
    collections::HashMap,
    fs::File,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use entity::id::{MessageId, OrganizationId};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::Instrument as _;

use super::{MediaError, MediaFile, Obstacle, Settings};
use crate::clock::Clock;

/// How long a download may wait for its turn, and for room.
pub(in crate::session) const PATIENCE: Duration = Duration::from_secs(15);

/// How long a reader may stand still before others may have the room.
const IDLE: Duration = Duration::from_secs(30);

/// Files that are kept at most: each is an open descriptor.
const MOST_KEPT: usize = 256;

/// The unit in which room is counted.
const UNIT: u64 = 1024;

/// What came of a download, for everybody who waits for it.
pub(in crate::session) type Found = Result<Arc<MediaFile>, MediaError>;

/// All media of a process. Cheap to clone.
#[derive(Clone, Debug)]
pub(in crate::session) struct Depot(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    settings: Settings,
    clock: Clock,
    tracker: TaskTracker,
    state: Mutex<State>,
    room: Arc<Semaphore>,
    places: Arc<Semaphore>,
    stop: CancellationToken,
}

#[derive(Debug, Default)]
struct State {
    kept: HashMap<MessageId, Kept>,
    coming: HashMap<MessageId, watch::Receiver<Option<Found>>>,
    /// Places of each organization.
    places: HashMap<OrganizationId, Arc<Semaphore>>,
    /// All files that anybody holds.
    files: Vec<Weak<MediaFile>>,
}

#[derive(Debug)]
struct Kept {
    found: Found,
    until: Duration,
}

/// A turn to download, until this is dropped.
#[derive(Debug)]
pub(in crate::session) struct Place {
    _own: OwnedSemaphorePermit,
    _common: OwnedSemaphorePermit,
}

/// Room for a file.
#[derive(Debug)]
pub(in crate::session) struct Room(OwnedSemaphorePermit);

impl Depot {
    pub(in crate::session) fn new(settings: Settings, clock: Clock, tracker: TaskTracker) -> Self {
        let inner = Inner {
            room: Arc::new(Semaphore::new(units(settings.spool) as usize)),
            places: Arc::new(Semaphore::new(settings.concurrency as usize)),
            settings,
            clock,
            tracker,
            state: Mutex::default(),
            stop: CancellationToken::new(),
        };
        Self(Arc::new(inner))
    }

    pub(in crate::session) fn settings(&self) -> &Settings {
        &self.0.settings
    }

    /// Ends when downloads shall.
    pub(in crate::session) fn stop(&self) -> &CancellationToken {
        &self.0.stop
    }

    /// The media of a message: what is here, what is on its way, or what `begin` brings. That goes on when
    /// nobody waits for it any more, to be here when somebody asks again.
    pub(in crate::session) async fn get<F>(
        &self,
        message: &MessageId,
        patience: Duration,
        begin: impl FnOnce() -> F,
    ) -> Found
    where
        F: Future<Output = Found> + Send + 'static,
    {
        let mut coming = {
            let now = self.0.clock.monotonic();
            let mut state = self.locked();
            if let Some(kept) = state.kept.get_mut(message)
                && now < kept.until
            {
                match &kept.found {
                    Err(_) => return kept.found.clone(),
                    Ok(file) if file.is_open() => {
                        kept.until = now + self.0.settings.keep;
                        return kept.found.clone();
                    }
                    Ok(_) => {}
                }
            }
            state.kept.remove(message);
            match state.coming.get(message) {
                Some(coming) => coming.clone(),
                None => self.begin(&mut state, message, begin()),
            }
        };
        let waited = tokio::time::timeout(patience, coming.wait_for(Option::is_some)).await;
        match waited {
            Ok(Ok(found)) => {
                found.clone().unwrap_or(Err(MediaError::Unavailable(Obstacle::Failed)))
            }
            // Its task is gone without a word.
            Ok(Err(_)) => Err(MediaError::Unavailable(Obstacle::Failed)),
            Err(_) => Err(MediaError::Unavailable(Obstacle::Fetching)),
        }
    }

    fn begin(
        &self,
        state: &mut State,
        message: &MessageId,
        bring: impl Future<Output = Found> + Send + 'static,
    ) -> watch::Receiver<Option<Found>> {
        let (teller, coming) = watch::channel(None);
        state.coming.insert(message.clone(), coming.clone());
        let guard = Coming { depot: self.clone(), message: message.clone() };
        let task = async move {
            let stop = guard.depot.0.stop.clone();
            let stopped = Err(MediaError::Unavailable(Obstacle::Failed));
            let found = stop.run_until_cancelled(bring).await.unwrap_or(stopped);
            guard.keep(found.clone());
            // Before who waits is told: whoever asks next finds what is kept.
            drop(guard);
            teller.send_replace(Some(found));
        };
        self.0.tracker.spawn(task.in_current_span());
        coming
    }

    /// Waits for a turn to download for this organization: half of all there are is the most that one has.
    pub(in crate::session) async fn place(
        &self,
        organization: &OrganizationId,
    ) -> Result<Place, MediaError> {
        let own = {
            let mut state = self.locked();
            state.places.retain(|_, places| Arc::strong_count(places) > 1);
            let half = self.0.settings.concurrency.div_ceil(2) as usize;
            let new = || Arc::new(Semaphore::new(half));
            Arc::clone(state.places.entry(organization.clone()).or_insert_with(new))
        };
        let common = Arc::clone(&self.0.places);
        let waiting = async {
            // Never closed.
            let own = own.acquire_owned().await.ok()?;
            Some(Place { _own: own, _common: common.acquire_owned().await.ok()? })
        };
        let place = tokio::time::timeout(PATIENCE, waiting).await.ok().flatten();
        place.ok_or(MediaError::Unavailable(Obstacle::Busy))
    }

    /// Waits for room for so many bytes. What is only kept makes place at once, and so do readers who stand
    /// still.
    pub(in crate::session) async fn room(
        &self,
        bytes: u64,
        patience: Duration,
    ) -> Result<Room, MediaError> {
        const LOOK: Duration = Duration::from_secs(1);
        let wanted = units(bytes);
        let deadline = tokio::time::Instant::now() + patience;
        loop {
            if let Ok(room) = Arc::clone(&self.0.room).try_acquire_many_owned(wanted) {
                return Ok(Room(room));
            }
            if self.make_room() {
                continue;
            }
            let look = deadline.min(tokio::time::Instant::now() + LOOK);
            let waiting = Arc::clone(&self.0.room).acquire_many_owned(wanted);
            if let Ok(Ok(room)) = tokio::time::timeout_at(look, waiting).await {
                return Ok(Room(room));
            }
            if tokio::time::Instant::now() >= deadline {
                return Err(MediaError::Unavailable(Obstacle::Busy));
            }
        }
    }

    /// Lets go of what was longest not asked for; false when there is nothing to let go of.
    fn make_room(&self) -> bool {
        let mut state = self.locked();
        let unread = |kept: &Kept| kept.found.as_ref().is_ok_and(|it| Arc::strong_count(it) == 1);
        let oldest = state.kept.iter().filter(|(_, kept)| unread(kept)).min_by_key(|it| it.1.until);
        if let Some((message, _)) = oldest {
            let message = message.clone();
            return state.kept.remove(&message).is_some();
        }
        let count = state.files.len();
        state.files.retain(|file| file.upgrade().is_some_and(|file| !file.take_back(IDLE)));
        state.files.len() < count
    }

    /// What was verified, as a file for readers.
    pub(in crate::session) fn file(
        &self,
        verified: (File, u64, [u8; 32]),
        room: Room,
    ) -> Arc<MediaFile> {
        let mut room = room.0;
        // It may be smaller than what there had to be room for.
        let needless = room.num_permits().saturating_sub(units(verified.1) as usize);
        drop(room.split(needless));
        let file = Arc::new(MediaFile::new(verified, room, self.0.clock.clone()));
        let mut state = self.locked();
        state.files.retain(|file| file.strong_count() > 0);
        state.files.push(Arc::downgrade(&file));
        file
    }

    fn locked(&self) -> MutexGuard<'_, State> {
        // Nothing panics while it holds this lock.
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A download that others may wait for.
struct Coming {
    depot: Depot,
    message: MessageId,
}

impl Coming {
    /// Keeps what came of it, as long as that is worth it.
    fn keep(&self, found: Found) {
        let Inner { settings, clock, tracker, stop, .. } = &*self.depot.0;
        let lasts = match &found {
            Ok(_) => Some(settings.keep),
            Err(error) => error.lasts(),
        };
        let Some(lasts) = lasts.filter(|lasts| !lasts.is_zero()) else { return };
        let until = clock.monotonic() + lasts;
        let mut state = self.depot.locked();
        if state.kept.len() >= MOST_KEPT {
            let oldest = state.kept.iter().min_by_key(|(_, kept)| kept.until);
            if let Some(oldest) = oldest.map(|(message, _)| message.clone()) {
                state.kept.remove(&oldest);
            }
        }
        state.kept.insert(self.message.clone(), Kept { found, until });
        drop(state);
        // Whether or not anybody comes for it again.
        let forget = forget(self.depot.clone(), self.message.clone(), until);
        tracker.spawn(stop.clone().run_until_cancelled_owned(forget).in_current_span());
    }
}

/// Also when the task panics: the next who asks begins anew.
impl Drop for Coming {
    fn drop(&mut self) {
        self.depot.locked().coming.remove(&self.message);
    }
}

/// Lets go of what is kept when its time is over.
async fn forget(depot: Depot, message: MessageId, mut until: Duration) {
    loop {
        depot.0.clock.sleep_until_monotonic(until).await;
        let mut state = depot.locked();
        match state.kept.get(&message) {
            // Asked for again meanwhile.
            Some(kept) if kept.until > until => until = kept.until,
            Some(_) => {
                state.kept.remove(&message);
                return;
            }
            None => return,
        }
    }
}

fn units(bytes: u64) -> u32 {
    // A semaphore has room for more than that only where usize is wide.
    u32::try_from(bytes.div_ceil(UNIT)).unwrap_or(u32::MAX).max(1)
}

#[cfg(test)]
#[path = "depot_tests.rs"]
mod tests;
