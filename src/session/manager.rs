//! Starts, finds and stops sessions.
//!
//! Each session has a slot with a lock of its own, so that what takes long for one (a client that
//! closes slowly) keeps no other waiting, and so that a device is never open twice: a run begins
//! only when the one before has ended.

use std::{
    collections::HashMap,
    panic::AssertUnwindSafe,
    sync::{Arc, Mutex, PoisonError, atomic::Ordering},
    time::Duration,
};

use entity::{
    UnixMillis,
    id::{MessageId, SessionKey},
    session,
    state::{DesiredState, Origin},
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
    ownership::{Answer, Ask, Asked, Hold, Keeper, Ownership},
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

/// From one try to begin the run of a session by itself to the next, when the database refuses it.
const BEGIN_AGAIN: Duration = Duration::from_secs(30);

/// How long a caller waits for a session's answer. Longer than anything a session waits for itself.
const ANSWER_DEADLINE: Duration = Duration::from_secs(45);

/// How often one looks for the owner of a session that changes owners.
const TRIES: u32 = 3;

/// How long a session that is more than our share is left for others to take, and how often one looks
/// whether somebody has.
const FOR_OTHERS: Duration = Duration::from_secs(3);
const FOLLOW: Duration = Duration::from_millis(100);

/// How long giving the sessions back may take. It is a courtesy: they are free soon anyway.
pub(super) const LEAVING: Duration = Duration::from_secs(3);

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

/// One session's place: locked while it is started or stopped.
type Slot = Arc<AsyncMutex<Option<Run>>>;

/// A run, as those see it who do not run it.
#[derive(Debug)]
struct Run {
    commands: mpsc::Sender<Command>,
    /// Cancelled also when the session is not ours any more.
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Run {
    /// It has ended, or has been told to: nothing that it does counts any more.
    fn is_over(&self) -> bool {
        self.stop.is_cancelled() || self.task.is_finished()
    }
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
            options,
            tracker,
            panics: Arc::default(),
            unreadable: Arc::default(),
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

    /// Lives among the other daemons until [`Sessions::shutdown`]: says so, takes over what nobody
    /// runs, and does what others ask.
    pub fn live(&self) {
        if !self.ownership.is_shared() {
            return;
        }
        let (ownership, stop) = (self.ownership.clone(), self.stopping.clone());
        self.spawn(Keeper::live(ownership.clone(), self.left.clone()));
        self.spawn(Keeper::listen(self.clone(), ownership.clone(), stop.clone()));
        self.spawn(Keeper::new(self.clone(), ownership).look(stop));
    }

    /// Whether the sessions that run here are surely ours.
    pub fn holds(&self) -> bool {
        self.ownership.holds()
    }

    pub(super) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.shared.tracker.spawn(task.in_current_span());
    }

    /// Goes on with every session that should be running, after a restart of the process.
    ///
    /// Returns how many have a run; they connect in the background, at the pace configured, those
    /// first that were active last. A session that ended for good stays ended; one that was waiting
    /// goes on waiting, be it for the end of a ban or for its next try.
    pub async fn resume(&self) -> Result<usize, Error> {
        let rows = self.shared.store.leases().neglected().await?;
        let now = self.shared.clock.now();
        let throttled = rows.iter().filter_map(|row| row.throttled_until).max();
        if let Some(until) = throttled.filter(|until| *until > now) {
            self.shared.pace.slow_down(until);
        }
        let keys = rows.iter().filter(|row| self.goes_on(row)).map(|row| row.id.clone());
        let mut keys: Vec<SessionKey> = keys.collect();
        keys.truncate(self.ownership.room(keys.len()).await?);
        let holds = self.ownership.own_all(keys).await?;
        let resumed = stream::iter(holds)
            .map(async |hold| self.resume_one(hold).await)
            .buffered(STARTS_AT_ONCE)
            .filter(|resumed| std::future::ready(*resumed))
            .count()
            .await;
        Ok(resumed)
    }

    /// Whether a session that nobody runs shall be run.
    pub(super) fn goes_on(&self, row: &session::Model) -> bool {
        policy::resume(row, self.shared.clock.now(), rand::random()) != Resume::Not
    }

    /// Goes on with sessions that have come to be ours.
    pub(super) fn start_held(&self, holds: Vec<Hold>) {
        for hold in holds {
            let this = self.clone();
            self.spawn(async move {
                this.resume_one(hold).await;
            });
        }
    }

    /// Whether the session has a run. One that does not is given back.
    async fn resume_one(&self, hold: Hold) -> bool {
        let (this, key) = (self.clone(), hold.session().clone());
        let begun = self.to_the_end(async move {
            let slot = this.slot(hold.session());
            let mut slot = slot.lock().await;
            if let Some(run) = slot.take_if(|run| run.is_over()) {
                run.task.await.ok();
            }
            if slot.is_some() {
                return Ok(());
            }
            // Now that it is ours, and whoever wants it otherwise waits: what is wanted?
            let row = this.shared.store.sessions().find_by_key(hold.session()).await;
            let now = this.shared.clock.now();
            let resume = match row {
                Ok(Some(row)) => Ok(policy::resume(&row, now, rand::random())),
                Ok(None) => Ok(Resume::Not),
                Err(error) => Err(Error::from(error)),
            };
            match resume {
                Ok(resume) => *slot = Some(this.begin(hold, Why::Resume(resume)).await?),
                Err(error) => {
                    this.ownership.release(&hold).await;
                    return Err(error);
                }
            }
            Ok(())
        });
        match begun.await {
            Ok(()) => true,
            // Stopped or deleted since it was looked at.
            Err(Error::Stopping | Error::NotRunning | Error::NotFound) => false,
            Err(error) => {
                tracing::error!(
                    session.key = %key,
                    error = &error as &dyn std::error::Error,
                    "A session could not be resumed; it is tried again in a while"
                );
                let at = self.shared.clock.now() + BEGIN_AGAIN;
                self.begin_later(key, at, self.stopping.child_token());
                false
            }
        }
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

    /// Does here what is asked for.
    pub(super) async fn obey(&self, key: &SessionKey, ask: Ask) -> Result<Answer, Error> {
        let logged_out =
            |logged_out: LoggedOut| Answer::LoggedOut { unlinked: logged_out.unlinked };
        match ask {
            Ask::Start => self.do_start(key).await.map(|()| Answer::Done),
            Ask::Stop => self.do_stop(key).await.map(|()| Answer::Done),
            Ask::Restart => self.do_restart(key).await.map(|()| Answer::Done),
            Ask::Logout => self.do_logout(key).await.map(logged_out),
            Ask::Erase { logout } => self.do_erase(key, logout).await.map(logged_out),
            Ask::Pair { phone_number } => {
                let PairingCode { code, expires_at } = self.do_pair(key, phone_number).await?;
                Ok(Answer::Code { code, expires_at })
            }
            Ask::Send { message } => {
                let message = message.parse().map_err(|_| Error::NotFound)?;
                self.do_send(key, message).await.map(|()| Answer::Done)
            }
        }
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

    async fn do_start(&self, key: &SessionKey) -> Result<(), Error> {
        let slot = self.slot(key);
        let mut slot = slot.lock().await;
        if self.wanted(key).await? == DesiredState::Stopped {
            return Ok(());
        }
        if let Some(run) = slot.as_ref()
            && !run.stop.is_cancelled()
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
        let hold = self.ownership.own(key).await?;
        *slot = Some(self.begin(hold, Why::Operator).await?);
        Ok(())
    }

    /// Ends the run of a session that is wanted stopped. Returns when its client has closed.
    pub async fn stop(&self, key: &SessionKey) -> Result<(), Error> {
        self.ask_owner(key, Ask::Stop).await.map(drop)
    }

    async fn do_stop(&self, key: &SessionKey) -> Result<(), Error> {
        let slot = self.slot(key);
        let mut slot = slot.lock().await;
        if matches!(self.wanted(key).await, Ok(DesiredState::Running)) {
            return Ok(());
        }
        let hold = self.ownership.own(key).await?;
        end(slot.take()).await;
        let concluded = self.conclude(&hold, Disconnect::Stopped).await;
        self.ownership.release(&hold).await;
        concluded
    }

    /// Ends the run of a session that is wanted running and begins another one: it dials at once, from any state.
    pub async fn restart(&self, key: &SessionKey) -> Result<(), Error> {
        self.ask_owner(key, Ask::Restart).await.map(drop)
    }

    async fn do_restart(&self, key: &SessionKey) -> Result<(), Error> {
        let slot = self.slot(key);
        let mut slot = slot.lock().await;
        if self.wanted(key).await? == DesiredState::Stopped {
            return Ok(());
        }
        let hold = self.ownership.own(key).await?;
        end(slot.take()).await;
        *slot = Some(self.begin(hold, Why::Operator).await?);
        Ok(())
    }

    /// Unlinks the device at WhatsApp as far as it can be reached, ends the run and forgets the
    /// credentials.
    pub async fn logout(&self, key: &SessionKey) -> Result<LoggedOut, Error> {
        Ok(self.ask_owner(key, Ask::Logout).await?.logged_out())
    }

    async fn do_logout(&self, key: &SessionKey) -> Result<LoggedOut, Error> {
        let slot = self.slot(key);
        let mut slot = slot.lock().await;
        let hold = self.ownership.own(key).await?;
        let logged_out = self.unlink(slot.take()).await;
        let forgotten = async {
            self.forget_device(&hold).await?;
            self.conclude(&hold, Disconnect::LoggedOutHere).await?;
            self.wanted(key).await
        };
        let wanted = forgotten.await;
        if matches!(wanted, Ok(DesiredState::Running)) {
            *slot = Some(self.begin(hold, Why::Operator).await?);
        } else {
            self.ownership.release(&hold).await;
        }
        wanted.map(|_| logged_out)
    }

    /// Ends the run of a session and deletes it, with its credentials and everything that is its.
    ///
    /// `logout`: try to unlink the device at WhatsApp first.
    pub async fn erase(&self, key: &SessionKey, logout: bool) -> Result<LoggedOut, Error> {
        Ok(self.ask_owner(key, Ask::Erase { logout }).await?.logged_out())
    }

    async fn do_erase(&self, key: &SessionKey, logout: bool) -> Result<LoggedOut, Error> {
        let slot = self.slot(key);
        let mut guard = slot.lock().await;
        let hold = self.ownership.own(key).await?;
        let run = guard.take();
        let logged_out = if logout {
            self.unlink(run).await
        } else {
            end(run).await;
            LoggedOut { unlinked: false }
        };
        let sessions = hold.store(&self.shared.store).sessions();
        let row = sessions.find_by_key(key).await?.ok_or(Error::NotFound)?;
        self.forget_device(&hold).await?;
        // While the slot is held: whoever waits for it finds nothing to start.
        sessions.delete(&row.organization_id, key).await?;
        self.slots.lock().unwrap_or_else(PoisonError::into_inner).remove(key);
        Ok(logged_out)
    }

    /// Asks for an 8-character pairing code, for the phone with this number. Starts the session when
    /// it is not running.
    pub async fn pair(&self, key: &SessionKey, phone_number: &str) -> Result<PairingCode, Error> {
        self.ask_owner(key, Ask::Pair { phone_number: phone_number.to_owned() }).await?.code()
    }

    async fn do_pair(&self, key: &SessionKey, phone_number: String) -> Result<PairingCode, Error> {
        self.do_start(key).await?;
        self.ask(key, |answer| Command::Pair { phone_number, answer }).await?
    }

    /// Sends a message that is stored as queued. Returns when it has been written to the socket.
    ///
    /// Not connected: the row stays queued, and is sent by the next connection unless it is withdrawn.
    pub async fn send(&self, key: &SessionKey, message: MessageId) -> Result<(), Error> {
        self.by_its_owner(key, Ask::send(&message)).await.map(drop)
    }

    async fn do_send(&self, key: &SessionKey, message: MessageId) -> Result<(), Error> {
        match self.ask(key, |answer| Command::Send { message, answer }).await {
            Err(Error::NotRunning) => match self.ownership.owner(key).await? {
                Some(node) => Err(Error::Elsewhere { node }),
                None => Err(self.not_connected(key).await),
            },
            Ok(Err(Error::NotConnected { .. })) => Err(self.not_connected(key).await),
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

    /// How often a message could not be decrypted when it came, since the process began.
    pub fn unreadable(&self) -> u64 {
        self.shared.unreadable.load(Ordering::Relaxed)
    }

    /// Lets no session dial any more. What is connected stays so.
    pub fn stop_dialling(&self) {
        self.shared.pace.close();
    }

    /// Ends all runs, in parallel, and lets none begin. True when all clients closed within `grace`.
    ///
    /// What is wanted of the sessions is left in the database: other daemons take them over at once,
    /// or they go on after a restart.
    pub async fn shutdown(&self, grace: Duration) -> bool {
        self.stopping.cancel();
        let slots: Vec<Slot> =
            self.slots.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect();
        let ending =
            slots.into_iter().map(|slot| async move { end(slot.lock().await.take()).await });
        let closed =
            tokio::time::timeout(grace, futures_util::future::join_all(ending)).await.is_ok();
        self.left.cancel();
        tokio::time::timeout(LEAVING, self.ownership.leave()).await.ok();
        closed
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

    /// What is wanted of a session. Asked while its slot is held: who wanted something else came
    /// before, or waits for the slot, and the last wish is the one that counts.
    async fn wanted(&self, key: &SessionKey) -> Result<DesiredState, Error> {
        let row = self.shared.store.sessions().find_by_key(key).await?.ok_or(Error::NotFound)?;
        Ok(row.desired_state)
    }

    fn slot(&self, key: &SessionKey) -> Slot {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(slots.entry(key.clone()).or_default())
    }

    /// Begins a run. The caller holds the slot, and no other run is left. When it does not come about,
    /// the session is given back.
    async fn begin(&self, hold: Hold, why: Why) -> Result<Run, Error> {
        let begun = self.try_to_begin(&hold, why).await;
        if begun.is_err() {
            self.ownership.release(&hold).await;
        }
        begun
    }

    async fn try_to_begin(&self, hold: &Hold, why: Why) -> Result<Run, Error> {
        if self.stopping.is_cancelled() {
            return Err(Error::Stopping);
        }
        let key = hold.session();
        let mut shared = self.shared.clone();
        shared.store = hold.store(&self.shared.store);
        let sessions = shared.store.sessions();
        let row = sessions.find_by_key(key).await?.ok_or(Error::NotFound)?;
        if row.origin != Origin::Embedded {
            return Err(Error::NotFound);
        }
        let device_id = match row.device_id {
            Some(device_id) => device_id,
            None => device::create(&shared.store, key).await?,
        };
        moment!("session.device_made");
        let generation = sessions.next_generation(key).await?.ok_or(Error::NotFound)?;
        let ingest = self.ingest(hold, &row, generation);
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
            shared,
            Arc::clone(hold.tenure()),
            ingest.clone(),
            row,
            device_id,
            start,
            Line { commands: receiver, stop: stop.clone() },
        );
        let task = self.shared.tracker.spawn(
            self.clone().contained(hold.clone(), runner, ingest, stop.clone()).instrument(span),
        );
        Ok(Run { commands, stop, task })
    }

    /// A run whose panic harms no other session: it is reported, and the session begins anew.
    async fn contained(self, hold: Hold, runner: Runner, ingest: Ingest, stop: CancellationToken) {
        let run = AssertUnwindSafe(Box::pin(runner.run())).catch_unwind();
        if hold.until_lost(run, &stop).await.is_ok() {
            self.give_back(&hold, &stop).await;
            return;
        }
        let key = hold.session().clone();
        self.shared.panics.fetch_add(1, Ordering::Relaxed);
        let row = match self.shared.store.sessions().find_by_key(&key).await {
            Ok(Some(row)) => row,
            Ok(None) => {
                tracing::error!("A session's task panicked, and the session is gone");
                return;
            }
            Err(error) => {
                tracing::error!(
                    error = &error as &dyn std::error::Error,
                    "A session's task panicked, and its row cannot be read"
                );
                self.begin_later(key, self.shared.clock.now() + BEGIN_AGAIN, stop);
                return;
            }
        };
        match policy::after_panic(&row, self.shared.clock.now(), rand::random()) {
            Next::Again(event, care) => {
                tracing::error!("A session's task panicked; the session begins anew in a while");
                ingest.say_with(event, care).await;
                if let Some(at) = care.next_attempt_at {
                    self.begin_later(key, at, stop);
                }
            }
            Next::End(event, care) => {
                tracing::error!("A session's task panicked again and again; it is left alone");
                if let Some(event) = event {
                    ingest.say_with(event, care).await;
                }
                self.give_back(&hold, &stop).await;
            }
            Next::Dial => {}
        }
    }

    /// Gives a session back whose run has ended by itself. Whoever has told it to stop has more to do.
    async fn give_back(&self, hold: &Hold, stop: &CancellationToken) {
        if !stop.is_cancelled() {
            self.ownership.release(hold).await;
        }
    }

    /// Goes on with a session at `at`, from a task of its own: a run begins only when the one before
    /// has ended, and that may be the caller.
    fn begin_later(&self, key: SessionKey, at: UnixMillis, stop: CancellationToken) {
        self.spawn(self.clone().begin_anew(key, at, stop));
    }

    /// Goes on with a session at `at`, and for as often as the database refuses it. Boxed: what it
    /// starts may come to call it.
    fn begin_anew(
        self,
        key: SessionKey,
        mut at: UnixMillis,
        stop: CancellationToken,
    ) -> BoxFuture<'static, ()> {
        Box::pin(async move {
            loop {
                if stop.run_until_cancelled(self.shared.clock.sleep_until(at)).await.is_none() {
                    return;
                }
                match self.try_begin_anew(&key, &stop).await {
                    Ok(())
                    | Err(
                        Error::Stopping
                        | Error::NotRunning
                        | Error::NotFound
                        | Error::Elsewhere { .. },
                    ) => return,
                    Err(error) => tracing::error!(
                        session.key = %key,
                        error = &error as &dyn std::error::Error,
                        "A session could not begin anew; it is tried again in a while"
                    ),
                }
                at = self.shared.clock.now() + BEGIN_AGAIN;
            }
        })
    }

    async fn try_begin_anew(
        &self,
        key: &SessionKey,
        stop: &CancellationToken,
    ) -> Result<(), Error> {
        let slot = self.slot(key);
        let mut slot = slot.lock().await;
        // Started or stopped by somebody meanwhile: then a run has taken this one's place.
        if stop.is_cancelled() || slot.as_ref().is_some_and(|run| !run.task.is_finished()) {
            return Ok(());
        }
        let row = self.shared.store.sessions().find_by_key(key).await?.ok_or(Error::NotFound)?;
        let resume = policy::resume(&row, self.shared.clock.now(), rand::random());
        if resume != Resume::Not {
            let hold = self.ownership.own(key).await?;
            *slot = Some(self.begin(hold, Why::Resume(resume)).await?);
        }
        Ok(())
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

    async fn forget_device(&self, hold: &Hold) -> Result<(), Error> {
        let store = hold.store(&self.shared.store);
        let row = store.sessions().find_by_key(hold.session()).await?.ok_or(Error::NotFound)?;
        if let Some(device_id) = row.device_id {
            device::erase(&store, device_id).await?;
        }
        Ok(())
    }

    /// Records the end of a session that no run will record any more.
    async fn conclude(&self, hold: &Hold, reason: Disconnect) -> Result<(), Error> {
        let key = hold.session();
        let sessions = hold.store(&self.shared.store).sessions();
        // Its client is closed: nobody else is left to say so.
        let row = sessions.wait_by_key(key).await?.ok_or(Error::NotFound)?;
        // Stopping what has ended says nothing new, and must not hide why it ended.
        if reason == Disconnect::Stopped && is_ended(row.status) && row.next_attempt_at.is_none() {
            return Ok(());
        }
        // A number of its own: whatever an earlier run still says comes too late.
        let generation = sessions.next_generation(key).await?.ok_or(Error::NotFound)?;
        let care = Care { next_attempt_at: None, ..Care::of(&row) };
        self.ingest(hold, &row, generation).record_with(Event::Disconnected(reason), care).await?;
        Ok(())
    }

    fn ingest(&self, hold: &Hold, row: &session::Model, generation: i64) -> Ingest {
        Ingest::new(
            hold.store(&self.shared.store),
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
