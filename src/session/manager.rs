//! Starts, finds and stops sessions.
//!
//! Each session has a slot with a lock of its own, so that what takes long for one (a client that
//! closes slowly) keeps no other waiting, and so that a device is never open twice: a run begins
//! only when the one before has ended.

use std::{
    collections::HashMap,
    panic::AssertUnwindSafe,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use entity::{
    UnixMillis,
    id::{MessageId, SessionKey},
    session,
    state::Origin,
};
use futures_util::{FutureExt as _, StreamExt as _, future::BoxFuture, stream};
use tokio::{
    sync::{
        Mutex as AsyncMutex,
        mpsc::{self, error::TrySendError},
        oneshot,
    },
    task::JoinHandle,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{Instrument as _, info_span};

use super::{
    Error, HistoryStats, LoggedOut, Options, PairingCode,
    client::Factory,
    ingest::Ingest,
    pace::Pace,
    policy::{self, Next, Resume},
    runner::{Command, Line, Runner, Shared, Start},
    standing::{credentials_are_dead, is_ended},
};
use crate::{
    clock::Clock,
    device,
    event::{Care, Change, Disconnect, Event, Loss},
    fault::moment,
    store::Store,
};

/// Requests that a session may have waiting before callers are told that it is busy.
const COMMAND_QUEUE: usize = 64;

/// Sessions that are started side by side after a restart of the process. None of them waits for a
/// connection: this is about the database.
const STARTS_AT_ONCE: usize = 64;

/// How long a caller waits for a session's answer. Longer than anything a session waits for itself.
const ANSWER_DEADLINE: Duration = Duration::from_secs(45);

/// All embedded sessions of this process. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Sessions {
    shared: Shared,
    slots: Arc<Mutex<HashMap<SessionKey, Slot>>>,
    stopping: CancellationToken,
}

/// One session's place: locked while it is started or stopped.
type Slot = Arc<AsyncMutex<Option<Run>>>;

/// A run, as those see it who do not run it.
#[derive(Debug)]
struct Run {
    commands: mpsc::Sender<Command>,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

/// Why a run begins.
#[derive(Clone, Copy, Debug)]
enum Why {
    /// An operator asked for it: at once, with all troubles forgotten.
    Operator,
    /// It goes on where it was.
    Resume(Resume),
}

impl Sessions {
    /// Sessions that reach WhatsApp as `options` say. Their tasks run on `tracker`.
    pub fn new(store: Store, clock: Clock, options: Options, tracker: TaskTracker) -> Self {
        let options = Arc::new(options);
        let shared = Shared {
            store,
            factory: Factory::new(Arc::clone(&options), clock.clone(), tracker.clone()),
            pace: Pace::new(clock.clone(), options.dial_concurrency, options.dial_rate_per_second),
            options,
            tracker,
            panics: Arc::new(AtomicU64::new(0)),
            clock,
        };
        Self { shared, slots: Arc::default(), stopping: CancellationToken::new() }
    }

    /// Goes on with every session that should be running, after a restart of the process.
    ///
    /// Returns how many have a run; they connect in the background, at the pace configured, those
    /// first that were active last. A session that ended for good stays ended; one that was waiting
    /// goes on waiting, be it for the end of a ban or for its next try.
    pub async fn resume(&self) -> Result<usize, Error> {
        let rows = self.shared.store.sessions().resumable().await?;
        let now = self.shared.clock.now();
        let throttled = rows.iter().filter_map(|row| row.throttled_until).max();
        if let Some(until) = throttled.filter(|until| *until > now) {
            self.shared.pace.slow_down(until);
        }
        let resumed = stream::iter(rows)
            .map(async |row| self.resume_one(&row).await)
            .buffered(STARTS_AT_ONCE)
            .filter(|resumed| std::future::ready(*resumed))
            .count()
            .await;
        Ok(resumed)
    }

    /// Whether the session has a run.
    async fn resume_one(&self, row: &session::Model) -> bool {
        let now = self.shared.clock.now();
        let resume = policy::resume(row, now, rand::random());
        if resume == Resume::Not {
            return false;
        }
        let (this, key) = (self.clone(), row.id.clone());
        let begun = self.to_the_end(async move {
            let slot = this.slot(&key);
            let mut slot = slot.lock().await;
            if slot.is_none() {
                *slot = Some(this.begin(&key, Why::Resume(resume)).await?);
            }
            Ok(())
        });
        match begun.await {
            Ok(()) => true,
            Err(Error::Stopping) => false,
            Err(error) => {
                tracing::error!(
                    session.key = %row.id,
                    error = &error as &dyn std::error::Error,
                    "A session could not be resumed"
                );
                false
            }
        }
    }

    /// Makes a session run. Returns when that is recorded, not when it is connected.
    ///
    /// Safe to repeat. A session that waits before its next try, or for its turn, dials at once; one
    /// that is connected is left alone. One that was logged out is dialled once more with the
    /// credentials that it has; if WhatsApp still refuses them, it gets a new device, to be paired
    /// anew.
    pub async fn start(&self, key: &SessionKey) -> Result<(), Error> {
        let (this, key) = (self.clone(), key.clone());
        self.to_the_end(async move { this.do_start(&key).await }).await
    }

    async fn do_start(&self, key: &SessionKey) -> Result<(), Error> {
        let slot = self.slot(key);
        let mut slot = slot.lock().await;
        if let Some(run) = slot.as_ref()
            && !matches!(run.commands.try_send(Command::Dial), Err(TrySendError::Closed(_)))
        {
            return Ok(());
        }
        // It has ended by itself, or is about to.
        if let Some(run) = slot.take() {
            run.task.await.ok();
            // Also what it left to be done later.
            run.stop.cancel();
        }
        *slot = Some(self.begin(key, Why::Operator).await?);
        Ok(())
    }

    /// Ends the run of a session. Returns when its client has closed.
    pub async fn stop(&self, key: &SessionKey) -> Result<(), Error> {
        let (this, key) = (self.clone(), key.clone());
        self.to_the_end(async move { this.do_stop(&key).await }).await
    }

    async fn do_stop(&self, key: &SessionKey) -> Result<(), Error> {
        let slot = self.slot(key);
        let mut slot = slot.lock().await;
        end(slot.take()).await;
        self.conclude(key, Disconnect::Stopped).await
    }

    /// Ends the run of a session and begins another one: it dials at once, from any state.
    pub async fn restart(&self, key: &SessionKey) -> Result<(), Error> {
        let (this, key) = (self.clone(), key.clone());
        self.to_the_end(async move { this.do_restart(&key).await }).await
    }

    async fn do_restart(&self, key: &SessionKey) -> Result<(), Error> {
        let slot = self.slot(key);
        let mut slot = slot.lock().await;
        end(slot.take()).await;
        *slot = Some(self.begin(key, Why::Operator).await?);
        Ok(())
    }

    /// Unlinks the device at WhatsApp as far as it can be reached, ends the run and forgets the
    /// credentials.
    pub async fn logout(&self, key: &SessionKey) -> Result<LoggedOut, Error> {
        let (this, key) = (self.clone(), key.clone());
        self.to_the_end(async move { this.do_logout(&key).await }).await
    }

    async fn do_logout(&self, key: &SessionKey) -> Result<LoggedOut, Error> {
        let slot = self.slot(key);
        let mut slot = slot.lock().await;
        let logged_out = self.unlink(slot.take()).await;
        self.forget_device(key).await?;
        self.conclude(key, Disconnect::LoggedOutHere).await?;
        Ok(logged_out)
    }

    /// Ends the run of a session and deletes it, with its credentials and everything that is its.
    ///
    /// `logout`: try to unlink the device at WhatsApp first.
    pub async fn erase(&self, key: &SessionKey, logout: bool) -> Result<LoggedOut, Error> {
        let (this, key) = (self.clone(), key.clone());
        self.to_the_end(async move { this.do_erase(&key, logout).await }).await
    }

    async fn do_erase(&self, key: &SessionKey, logout: bool) -> Result<LoggedOut, Error> {
        let slot = self.slot(key);
        let mut guard = slot.lock().await;
        let run = guard.take();
        let logged_out = if logout {
            self.unlink(run).await
        } else {
            end(run).await;
            LoggedOut { unlinked: false }
        };
        let sessions = self.shared.store.sessions();
        let row = sessions.find_by_key(key).await?.ok_or(Error::NotFound)?;
        self.forget_device(key).await?;
        // While the slot is held: whoever waits for it finds nothing to start.
        sessions.delete(&row.organization_id, key).await?;
        self.slots.lock().unwrap_or_else(PoisonError::into_inner).remove(key);
        Ok(logged_out)
    }

    /// Asks for an 8-character pairing code, for the phone with this number. Starts the session when
    /// it is not running.
    pub async fn pair(&self, key: &SessionKey, phone_number: &str) -> Result<PairingCode, Error> {
        self.start(key).await?;
        let phone_number = phone_number.to_owned();
        self.ask(key, |answer| Command::Pair { phone_number, answer }).await?
    }

    /// Sends a message that is stored as queued. Returns when it has been written to the socket.
    ///
    /// Not connected: the row stays queued, and is sent by the next connection unless it is withdrawn.
    pub async fn send(&self, key: &SessionKey, message: MessageId) -> Result<(), Error> {
        match self.ask(key, |answer| Command::Send { message, answer }).await {
            Err(Error::NotRunning) | Ok(Err(Error::NotConnected { .. })) => {
                Err(self.not_connected(key).await)
            }
            Ok(sent) => sent,
            Err(error) => Err(error),
        }
    }

    /// What was done with the past of newly paired accounts, since the start.
    pub fn history_stats(&self) -> HistoryStats {
        self.shared.factory.history_stats()
    }

    /// How often the task of a session has panicked since the process began.
    pub fn panics(&self) -> u64 {
        self.shared.panics.load(Ordering::Relaxed)
    }

    /// Lets no session dial any more. What is connected stays so.
    pub fn stop_dialling(&self) {
        self.shared.pace.close();
    }

    /// Ends all runs, in parallel, and lets none begin. True when all clients closed within `grace`.
    ///
    /// What the sessions were is left in the database: it is what they shall be after a restart.
    pub async fn shutdown(&self, grace: Duration) -> bool {
        self.stopping.cancel();
        let slots: Vec<Slot> =
            self.slots.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect();
        let ending =
            slots.into_iter().map(|slot| async move { end(slot.lock().await.take()).await });
        tokio::time::timeout(grace, futures_util::future::join_all(ending)).await.is_ok()
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

    /// Begins a run. The caller holds the slot, and no other run is left.
    async fn begin(&self, key: &SessionKey, why: Why) -> Result<Run, Error> {
        if self.stopping.is_cancelled() {
            return Err(Error::Stopping);
        }
        let sessions = self.shared.store.sessions();
        let row = sessions.find_by_key(key).await?.ok_or(Error::NotFound)?;
        if row.origin != Origin::Embedded {
            return Err(Error::NotFound);
        }
        let device_id = match row.device_id {
            Some(device_id) => device_id,
            None => device::create(&self.shared.store, key).await?,
        };
        moment!("session.device_made");
        let generation = sessions.next_generation(key).await?.ok_or(Error::NotFound)?;
        let ingest = self.ingest(&row, generation);
        let start = match why {
            Why::Operator => Start {
                care: Care::default(),
                operator: true,
                may_renew: credentials_are_dead(&row),
            },
            Why::Resume(Resume::Now(care) | Resume::Wait(care) | Resume::WaitAnew(care)) => {
                Start { care, ..Start::default() }
            }
            Why::Resume(Resume::Not) => return Err(Error::NotRunning),
        };
        let event = match why {
            // It says so already, and why.
            Why::Resume(Resume::Wait(_)) => None,
            Why::Resume(Resume::WaitAnew(care)) => Some(Change::Reconnecting {
                reason: Loss::Restarted,
                next_attempt_at: care.next_attempt_at,
            }),
            Why::Operator | Why::Resume(_) => Some(Change::Connecting),
        };
        if let Some(change) = event {
            let care = match change {
                Change::Connecting => Care { next_attempt_at: None, ..start.care },
                Change::Reconnecting { .. } => start.care,
            };
            ingest.record_with(Event::ChangeState(change), care).await?;
        }

        moment!("session.started");
        let (commands, receiver) = mpsc::channel(COMMAND_QUEUE);
        let stop = self.stopping.child_token();
        // A root of its own: a run outlives the request that began it.
        let span = info_span!(
            parent: None, "session", session.key = %key, session.generation = generation
        );
        let runner = Runner::new(
            self.shared.clone(),
            ingest.clone(),
            row,
            device_id,
            start,
            Line { commands: receiver, stop: stop.clone() },
        );
        let task = self.shared.tracker.spawn(
            self.clone().contained(key.clone(), runner, ingest, stop.clone()).instrument(span),
        );
        Ok(Run { commands, stop, task })
    }

    /// A run whose panic harms no other session: it is reported, and the session begins anew.
    async fn contained(
        self,
        key: SessionKey,
        runner: Runner,
        ingest: Ingest,
        stop: CancellationToken,
    ) {
        if AssertUnwindSafe(runner.run()).catch_unwind().await.is_ok() {
            return;
        }
        self.shared.panics.fetch_add(1, Ordering::Relaxed);
        let Ok(Some(row)) = self.shared.store.sessions().find_by_key(&key).await else {
            tracing::error!("A session's task panicked, and the session is gone");
            return;
        };
        match policy::after_panic(&row, self.shared.clock.now(), rand::random()) {
            Next::Again(event, care) => {
                tracing::error!("A session's task panicked; the session begins anew in a while");
                ingest.say_with(event, care).await;
                if let Some(at) = care.next_attempt_at {
                    // From a task of its own: a run begins only when the one before has ended, and
                    // that is us.
                    let tracker = self.shared.tracker.clone();
                    tracker.spawn(self.begin_anew(key, at, stop).in_current_span());
                }
            }
            Next::End(event, care) => {
                tracing::error!("A session's task panicked again and again; it is left alone");
                if let Some(event) = event {
                    ingest.say_with(event, care).await;
                }
            }
            Next::Dial => {}
        }
    }

    /// Goes on with a session at `at`. Boxed: what it starts may come to call it.
    fn begin_anew(
        self,
        key: SessionKey,
        at: UnixMillis,
        stop: CancellationToken,
    ) -> BoxFuture<'static, ()> {
        Box::pin(async move {
            if stop.run_until_cancelled(self.shared.clock.sleep_until(at)).await.is_none() {
                return;
            }
            let slot = self.slot(&key);
            let mut slot = slot.lock().await;
            // Started or stopped by somebody meanwhile: then a run has taken this one's place.
            if stop.is_cancelled() || slot.as_ref().is_some_and(|run| !run.task.is_finished()) {
                return;
            }
            let row = self.shared.store.sessions().find_by_key(&key).await.ok().flatten();
            let Some(row) = row else { return };
            let resume = policy::resume(&row, self.shared.clock.now(), rand::random());
            if resume == Resume::Not {
                return;
            }
            match self.begin(&key, Why::Resume(resume)).await {
                Ok(run) => *slot = Some(run),
                Err(error) => tracing::error!(
                    error = &error as &dyn std::error::Error,
                    "A session could not begin anew after a panic"
                ),
            }
        })
    }

    /// Asks the run of a session for something.
    async fn ask<T>(
        &self,
        key: &SessionKey,
        command: impl FnOnce(oneshot::Sender<T>) -> Command,
    ) -> Result<T, Error> {
        let (answer, answered) = oneshot::channel();
        let commands = {
            let slot = self.slot(key);
            let slot = slot.lock().await;
            slot.as_ref().map(|run| run.commands.clone()).ok_or(Error::NotRunning)?
        };
        commands.try_send(command(answer)).map_err(|refused| match refused {
            TrySendError::Full(_) => Error::Busy,
            TrySendError::Closed(_) => Error::NotRunning,
        })?;
        tokio::time::timeout(ANSWER_DEADLINE, answered)
            .await
            .map_err(|_elapsed| Error::Timeout)?
            // The run ended before it came to this command.
            .map_err(|_dropped| Error::NotRunning)
    }

    async fn unlink(&self, run: Option<Run>) -> LoggedOut {
        let mut logged_out = LoggedOut { unlinked: false };
        if let Some(run) = run {
            let (answer, answered) = oneshot::channel();
            if run.commands.try_send(Command::Logout { answer }).is_ok()
                && let Ok(Ok(answer)) = tokio::time::timeout(ANSWER_DEADLINE, answered).await
            {
                logged_out = answer;
            }
            end(Some(run)).await;
        }
        logged_out
    }

    async fn forget_device(&self, key: &SessionKey) -> Result<(), Error> {
        let sessions = self.shared.store.sessions();
        let row = sessions.find_by_key(key).await?.ok_or(Error::NotFound)?;
        if let Some(device_id) = row.device_id {
            device::erase(&self.shared.store, device_id).await?;
        }
        Ok(())
    }

    /// Records the end of a session that no run will record any more.
    async fn conclude(&self, key: &SessionKey, reason: Disconnect) -> Result<(), Error> {
        let sessions = self.shared.store.sessions();
        let row = sessions.find_by_key(key).await?.ok_or(Error::NotFound)?;
        // Stopping what has ended says nothing new, and must not hide why it ended.
        if reason == Disconnect::Stopped && is_ended(row.status) && row.next_attempt_at.is_none() {
            return Ok(());
        }
        // A number of its own: whatever an earlier run still says comes too late.
        let generation = sessions.next_generation(key).await?.ok_or(Error::NotFound)?;
        let care = Care { next_attempt_at: None, ..Care::of(&row) };
        self.ingest(&row, generation).record_with(Event::Disconnected(reason), care).await?;
        Ok(())
    }

    fn ingest(&self, row: &session::Model, generation: i64) -> Ingest {
        Ingest::new(
            self.shared.store.clone(),
            self.shared.clock.clone(),
            row.organization_id.clone(),
            row.id.clone(),
            generation,
        )
    }

    async fn not_connected(&self, key: &SessionKey) -> Error {
        match self.shared.store.sessions().find_by_key(key).await {
            Ok(Some(row)) => Error::NotConnected { status: row.status },
            Ok(None) => Error::NotFound,
            Err(error) => Error::Store(error),
        }
    }
}

/// Ends a run: its client is closed, and its task has ended, when this returns.
async fn end(run: Option<Run>) {
    if let Some(run) = run {
        run.stop.cancel();
        // A panic was reported where it happened.
        run.task.await.ok();
    }
}
