//! Starts, finds and stops sessions.
//!
//! Each session has a slot with a lock of its own, so that what takes long for one (a client that
//! closes slowly) keeps no other waiting, and so that a device is never open twice: a run begins
//! only when the one before has ended.
//!
//! `media.rs` brings the files of messages, for which a session need not run.
//!
//! Here is what callers ask for, which is done by whichever daemon owns the session. `act.rs` does it,
//! `resume.rs` goes on with sessions that nobody asked for, `run.rs` begins a run and sees it end,
//! `leave.rs` ends them all with the process. `slot.rs` is the place that a session has here.
//!
//! A client may take its time to close, so what becomes of its session is said before that, by whoever
//! closes it; what its run still says of the status comes too late from then on.

mod act;
mod leave;
mod media;
mod resume;
mod run;
mod slot;

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use entity::{
    id::{MessageId, SessionKey},
    state::DesiredState,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::Instrument as _;

pub(super) use self::leave::LEAVING;
use self::slot::Slot;
use super::{
    Error, HistoryStats, LoggedOut, Options, PairingCode, SendStats,
    client::Factory,
    media::Depot,
    ownership::{Answer, Ask, Asked, Keeper, Ownership},
    pace::{DialStats, Pace},
    runner::Shared,
};
use crate::{clock::Clock, store::Store};

/// How often one looks for the owner of a session that changes owners.
const TRIES: u32 = 3;

/// How long a session that is more than our share is left for others to take, and how often one looks
/// whether somebody has.
const FOR_OTHERS: Duration = Duration::from_secs(3);
const FOLLOW: Duration = Duration::from_millis(100);

/// All embedded sessions of this process. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Sessions {
    shared: Shared,
    ownership: Ownership,
    slots: Arc<Mutex<HashMap<SessionKey, Slot>>>,
    stopping: CancellationToken,
    /// Nobody needs to know any more that we live.
    left: CancellationToken,
}

impl Sessions {
    /// Sessions that reach WhatsApp as `options` say. Their tasks run on `tracker`.
    pub fn new(
        store: Store,
        clock: Clock,
        options: Options,
        ownership: Ownership,
        tracker: TaskTracker,
    ) -> Self {
        let options = Arc::new(options);
        let shared = Shared {
            store,
            factory: Factory::new(Arc::clone(&options), clock.clone(), tracker.clone()),
            pace: Pace::new(clock.clone(), options.dial_concurrency, options.dial_rate_per_second),
            media: Depot::new(options.media.clone(), clock.clone(), tracker.clone()),
            options,
            tracker,
            unreadable: Arc::default(),
            sends: SendStats::default(),
            clock,
        };
        Self {
            shared,
            ownership,
            slots: Arc::default(),
            stopping: CancellationToken::new(),
            left: CancellationToken::new(),
        }
    }

    /// Until [`Sessions::shutdown`] takes up what nobody runs and somebody should; among other daemons
    /// it also says that we live, and does what they ask.
    pub fn live(&self) {
        let (ownership, stop) = (self.ownership.clone(), self.stopping.clone());
        if ownership.is_shared() {
            self.spawn(Keeper::live(ownership.clone(), self.left.clone()));
            self.spawn(Keeper::listen(self.clone(), ownership.clone(), stop.clone()));
        }
        self.spawn(Keeper::new(self.clone(), ownership).look(stop));
    }

    /// Whether the sessions that run here are surely ours.
    pub fn holds(&self) -> bool {
        self.ownership.holds()
    }

    /// How many daemons share the database, as far as we know: kept to what we see when we look.
    pub fn daemons(&self) -> Arc<AtomicU64> {
        self.ownership.nodes()
    }

    pub(super) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.shared.tracker.spawn(task.in_current_span());
    }

    /// Ends the run of a session that shall not run: somebody has said so to another daemon.
    pub(super) fn stop_unwanted(&self, key: SessionKey) {
        let this = self.clone();
        self.spawn(async move {
            let row = this.shared.store.sessions().find_by_key(&key).await;
            let unwanted =
                matches!(&row, Ok(Some(row)) if row.desired_state == DesiredState::Stopped);
            if unwanted && let Err(error) = this.do_stop(&key).await {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    session.key = %key,
                    "A session that is not wanted any more could not be stopped"
                );
            }
        });
    }

    /// Has something done to a session by its owner: here, if it is ours or nobody's.
    async fn by_its_owner(&self, key: &SessionKey, ask: Ask) -> Result<Answer, Error> {
        let mut node = String::new();
        for _ in 0..TRIES {
            match self.obey(key, ask.clone()).await {
                Err(Error::Elsewhere { node: owner }) => node.clone_from(&owner),
                done => return done,
            }
            match self.ownership.ask(key, node.clone(), &ask).await? {
                Asked::Answered(answer) => return Ok(answer),
                Asked::Vacant => {}
            }
        }
        Err(Error::Elsewhere { node })
    }

    async fn ask_owner(&self, key: &SessionKey, ask: Ask) -> Result<Answer, Error> {
        let (this, key) = (self.clone(), key.clone());
        self.to_the_end(async move { this.by_its_owner(&key, ask).await }).await
    }

    /// Makes a session run that is wanted running. Returns when that is recorded, not when it is
    /// connected.
    ///
    /// Safe to repeat. A session that waits before its next try, or for its turn, dials at once; one
    /// that is connected is left alone. One that was logged out is dialled once more with the
    /// credentials that it has; if WhatsApp still refuses them, it gets a new device, to be paired
    /// anew.
    pub async fn start(&self, key: &SessionKey) -> Result<(), Error> {
        self.leave_to_others(key).await?;
        self.ask_owner(key, Ask::Start).await.map(drop)
    }

    /// Gives the others a moment to take a session that would be more than our share.
    async fn leave_to_others(&self, key: &SessionKey) -> Result<(), Error> {
        if !self.ownership.is_full().await? {
            return Ok(());
        }
        let deadline = self.shared.clock.monotonic() + FOR_OTHERS;
        while self.shared.clock.monotonic() < deadline
            && self.shared.store.leases().owner(key).await?.is_none()
        {
            tokio::time::sleep(FOLLOW).await;
        }
        Ok(())
    }

    /// Ends the run of a session that is wanted stopped. Returns when its client has closed.
    pub async fn stop(&self, key: &SessionKey) -> Result<(), Error> {
        self.ask_owner(key, Ask::Stop).await.map(drop)
    }

    /// Ends the run of a session that is wanted running and begins another one: it dials at once, from any state. Who does
    /// not answer is waited for as long as a sign of life may take.
    pub async fn restart(&self, key: &SessionKey) -> Result<(), Error> {
        self.ask_owner(key, Ask::Restart).await.map(drop)
    }

    /// Unlinks the device at WhatsApp as far as it can be reached, ends the run and forgets the
    /// credentials.
    pub async fn logout(&self, key: &SessionKey) -> Result<LoggedOut, Error> {
        Ok(self.ask_owner(key, Ask::Logout).await?.logged_out())
    }

    /// Ends the run of a session and deletes it, with its credentials and everything that is its.
    ///
    /// `logout`: try to unlink the device at WhatsApp first.
    pub async fn erase(&self, key: &SessionKey, logout: bool) -> Result<LoggedOut, Error> {
        Ok(self.ask_owner(key, Ask::Erase { logout }).await?.logged_out())
    }

    /// Asks for an 8-character pairing code, for the phone with this number. Starts the session when
    /// it is not running.
    pub async fn pair(&self, key: &SessionKey, phone_number: &str) -> Result<PairingCode, Error> {
        self.ask_owner(key, Ask::Pair { phone_number: phone_number.to_owned() }).await?.code()
    }

    /// Sends a message that is stored as queued. Returns when it has been written to the socket.
    ///
    /// Not connected: the row stays queued, and is sent by the next connection unless it is withdrawn.
    pub async fn send(&self, key: &SessionKey, message: MessageId) -> Result<(), Error> {
        self.by_its_owner(key, Ask::send(&message)).await.map(drop)
    }

    /// What was done with the past of newly paired accounts, since the start.
    pub fn history_stats(&self) -> HistoryStats {
        self.shared.factory.history_stats()
    }

    /// How many sessions were asked for something here since the process began, and are still there. What is
    /// remembered of each is small, and goes with it.
    pub fn known(&self) -> usize {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// How often the task of a session has panicked since the process began.
    pub fn panics(&self) -> u64 {
        self.shared.factory.panics().total()
    }

    /// How often a message could not be decrypted when it came, since the process began.
    pub fn unreadable(&self) -> u64 {
        self.shared.unreadable.load(Ordering::Relaxed)
    }

    /// How much is dialled, and was since the process began.
    pub fn dial_stats(&self) -> DialStats {
        self.shared.pace.stats()
    }

    /// What WhatsApp did not take, since the process began.
    pub fn send_stats(&self) -> &SendStats {
        &self.shared.sends
    }

    /// Does something to its end, whether or not whoever asked for it is still there.
    ///
    /// A request that is given up halfway must not leave a client that nobody knows of, or a status
    /// that nobody corrects.
    async fn to_the_end<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, Error>> + Send + 'static,
    ) -> Result<T, Error> {
        let task = self.shared.tracker.spawn(work.in_current_span());
        // Cancelled with the runtime, or panicked, which was reported.
        task.await.unwrap_or(Err(Error::Stopping))
    }

    fn slot(&self, key: &SessionKey) -> Slot {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(slots.entry(key.clone()).or_default())
    }
}
