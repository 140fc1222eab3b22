//! The one write path: callers hand over units of work, lanes commit them in groups.
//!
//! A commit costs a flush to disk, and a disk does a few hundred of them a second; a group costs
//! one, whatever its size. So a unit is never committed alone when others wait: each lane
//! (`lane/`) takes all that waits, up to a limit, runs it in one transaction (`group/`), and
//! answers everybody after the one commit. Nothing is delayed to make a group larger: the next
//! group is what arrived while the previous one was being committed, and what arrives in the first
//! 2 ms of a group while its statements run still joins it.
//!
//! # What a caller can rely on
//!
//! - An answer `Ok` means: committed, and on disk.
//! - A unit that fails, or panics, changes nothing and harms nobody else in its group.
//! - Units with the same key take effect in the order they were handed over, whether their callers
//!   wait for the answers or not. One key is always served by one lane.
//! - A caller may give up waiting. Its unit is then committed or not, but never in part, and the
//!   group does not notice.
//! - While the database is away, [`Patience::Wait`] waits as long as it takes, and
//!   [`Patience::Fail`] is told [`Error::Unavailable`] soon. Both queues are bounded: when they are
//!   full, callers wait before they are queued.
//! - A unit that was committed is not run again, even if the connection broke before the database
//!   could say so: `mark.rs` tells. SQLite has no such gap.
//!
//! # What a unit must keep to
//!
//! It may run several times (its group was rolled back and tried again), so it must have no effect
//! but its SQL. And on PostgreSQL it must not go on after an error of one of its statements as if
//! nothing had happened: the transaction is lost then, and the unit fails whatever it returns.

use std::{
    fmt,
    hash::{DefaultHasher, Hash, Hasher},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use entity::{UnixMillis, kind::EventKind};
use futures_util::future::BoxFuture;
use prometheus_client::metrics::histogram::Histogram;
use sea_orm::{ActiveEnum as _, DatabaseTransaction, DbErr};
use tokio::sync::{RwLock, oneshot, watch};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::Instrument;

use super::{
    Error,
    checkpoints::{Checkpoints, Commits},
    connect::Connector,
    counters::{Counters, WriterStats},
    events::{NewEvent, Recorded},
    lane::{self, Lane},
    leases::Lease,
    webhooks::Known,
};
use crate::{clock::Clock, vault::Vault};

/// More than that do not fit into one group.
const CROWD: usize = 64;

/// What to do while the database is away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Patience {
    /// Wait for it to come back. For what must not be lost: Signal state, events.
    Wait,
    /// Say so. For callers who can ask again: HTTP.
    ///
    /// Contention (busy, deadlock, serialization failure) and one broken connection are still
    /// retried: they pass by themselves.
    Fail,
}

/// Lanes beside those of sessions, where there is more than one.
const APART: usize = 2;

/// Commits what callers hand over, in groups. Cheap to clone.
#[derive(Clone)]
pub struct Writer {
    /// The last one is for what must not wait behind sessions' writes, the one before for what sessions' writes must not wait
    /// behind.
    lanes: Arc<[lane::Queue]>,
    shared: Arc<Shared>,
    /// When nobody copies SQLite's log any more; over from the beginning on PostgreSQL.
    checkpoints_ended: CancellationToken,
    /// For whom it writes: see [`super::Store::under`].
    lease: Option<Lease>,
}

/// What the lanes have in common.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) clock: Clock,
    pub(super) vault: Arc<Vault>,
    pub(super) known: Arc<Known>,
    pub(super) counters: Counters,
    pub(super) bell: watch::Sender<u64>,
    pub(super) commits: watch::Sender<Commits>,
    /// How often SQLite's log was copied, or should have been.
    pub(super) checkpoints: watch::Sender<u64>,
    /// Shared by groups; whoever has it for himself is between two of them.
    pub(super) turn: RwLock<()>,
    /// From now on nobody waits for a lost database.
    pub(super) closing: CancellationToken,
}

impl Writer {
    /// Opens the lanes' connections and starts their tasks on `tracker`.
    pub(super) async fn start(
        connector: &Connector,
        vault: Arc<Vault>,
        clock: Clock,
        tracker: &TaskTracker,
    ) -> Result<Self, DbErr> {
        let shared = Arc::new(Shared {
            clock,
            vault,
            known: Arc::default(),
            counters: Counters::default(),
            bell: watch::Sender::new(0),
            commits: watch::Sender::default(),
            checkpoints: watch::Sender::new(0),
            turn: RwLock::default(),
            closing: CancellationToken::new(),
        });
        // SQLite has one writer, whatever it writes.
        let lanes = if connector.lanes() > 1 { connector.lanes() + APART } else { 1 };
        let mut queues = Vec::with_capacity(lanes);
        for number in 0..lanes {
            let (lane, queue) = Lane::open(connector.clone(), shared.clone()).await?;
            tracker.spawn(lane.run().instrument(tracing::info_span!("store.lane", number)));
            queues.push(queue);
        }
        let checkpoints_ended = if connector.is_sqlite() {
            let written = queues.iter().map(lane::Queue::ended).collect();
            let (task, ended) = Checkpoints::new(connector.clone(), shared.clone(), written);
            tracker.spawn(task.run().instrument(tracing::info_span!("store.checkpoints")));
            ended
        } else {
            let none = CancellationToken::new();
            none.cancel();
            none
        };
        Ok(Self { lanes: queues.into(), shared, checkpoints_ended, lease: None })
    }

    /// The same writer for the owner of a session.
    pub(super) fn under(&self, lease: Lease) -> Self {
        Self { lease: Some(lease), ..self.clone() }
    }

    /// The same writer for nobody's session.
    pub(super) fn without_lease(&self) -> Self {
        Self { lease: None, ..self.clone() }
    }

    /// Runs a unit of work and returns what it returned, once that is committed.
    ///
    /// `key` names what the unit is about, a session key or an organization's id: units of one key
    /// keep their order. The unit may run more than once, so it must have no effect but its SQL.
    pub async fn run<T, F>(&self, key: &str, patience: Patience, unit: F) -> Result<T, Error>
    where
        T: Send + 'static,
        F: for<'t> Fn(&'t DatabaseTransaction) -> BoxFuture<'t, Result<T, DbErr>>
            + Send
            + Sync
            + 'static,
    {
        // What is written for a session keeps its order, whatever it is about.
        let key = self.lease.as_ref().map_or(key, |lease| lease.session.as_str());
        self.run_in(self.lane(key), key, patience, unit).await
    }

    /// The same, on PostgreSQL in a lane of its own, behind no session's writes: for what must be
    /// written in time.
    pub(super) async fn run_apart<T, F>(
        &self,
        key: &str,
        patience: Patience,
        unit: F,
    ) -> Result<T, Error>
    where
        T: Send + 'static,
        F: for<'t> Fn(&'t DatabaseTransaction) -> BoxFuture<'t, Result<T, DbErr>>
            + Send
            + Sync
            + 'static,
    {
        self.run_in(&self.lanes[self.lanes.len() - 1], key, patience, unit).await
    }

    /// The same, on PostgreSQL in a lane of its own, before no session's writes: for what may have to wait for a lock.
    pub(super) async fn run_aside<T, F>(
        &self,
        key: &str,
        patience: Patience,
        unit: F,
    ) -> Result<T, Error>
    where
        T: Send + 'static,
        F: for<'t> Fn(&'t DatabaseTransaction) -> BoxFuture<'t, Result<T, DbErr>>
            + Send
            + Sync
            + 'static,
    {
        self.run_in(self.aside(), key, patience, unit).await
    }

    async fn run_in<T, F>(
        &self,
        lane: &lane::Queue,
        key: &str,
        patience: Patience,
        unit: F,
    ) -> Result<T, Error>
    where
        T: Send + 'static,
        F: for<'t> Fn(&'t DatabaseTransaction) -> BoxFuture<'t, Result<T, DbErr>>
            + Send
            + Sync
            + 'static,
    {
        let (reply, answer) = oneshot::channel();
        let work = Work::Unit(Box::new(Closure { unit, value: Mutex::new(None), reply }));
        lane.submit(key, patience, self.lease.clone(), work).await?;
        // A lane that ends without an answer has not run the unit.
        answer.await.unwrap_or(Err(Error::Stopped))
    }

    /// Records an event with its effect, together with all other events that wait.
    ///
    /// Its secrets are sealed here, by its caller's task: lanes see nothing in clear.
    pub async fn record(&self, mut event: NewEvent, patience: Patience) -> Result<Recorded, Error> {
        event.event = event.event.storable();
        if event.has_secret() {
            let sealer = self.sealer(&event.organization_id, patience).await?;
            event.seal(&sealer);
        }
        let (reply, answer) = oneshot::channel();
        let kind = event.event.kind();
        let key = event.session_key.as_str().to_owned();
        let work = Work::Event { event: Box::new(event), reply };
        self.lane(&key).submit(&key, patience, self.lease.clone(), work).await?;
        let recorded = answer.await.unwrap_or(Err(Error::Stopped))?;
        // In the caller's span, which says which request it was, or which session.
        for id in recorded.events() {
            tracing::debug!(event.id = %id, kind = kind.to_value(), session.key = key, "Recorded an event");
        }
        Ok(recorded)
    }

    /// What was done since start.
    pub fn stats(&self) -> WriterStats {
        self.shared.counters.stats(self.shared.commits.borrow().groups)
    }

    /// How many events of each kind were recorded since start, repetitions left out.
    pub fn recorded(&self) -> Vec<(EventKind, u64)> {
        self.shared.counters.recorded()
    }

    /// How long groups took since start, in seconds.
    pub fn group_seconds(&self) -> Histogram {
        self.shared.counters.group_seconds()
    }

    /// Waits until the lane of `key` has come a step further, whoever waits in it.
    pub(super) async fn stepped(&self, key: &str) {
        self.lane(key).stepped().await;
    }

    /// How many units of work and events wait for their turn.
    pub fn waiting(&self) -> usize {
        self.lanes.iter().map(lane::Queue::waiting).sum()
    }

    /// For how long the one of them has waited that was handed over first.
    pub fn longest_wait(&self) -> Duration {
        let oldest = self.lanes.iter().filter_map(lane::Queue::oldest).min();
        oldest.map_or(Duration::ZERO, |since| since.elapsed())
    }

    /// Whether more units wait where [`Self::run_aside`] writes than one group takes.
    pub(super) fn is_crowded_aside(&self) -> bool {
        self.aside().waiting() > CROWD
    }

    /// Changes after every commit that recorded events. It carries nothing: look at the table.
    pub fn bell(&self) -> watch::Receiver<u64> {
        self.shared.bell.subscribe()
    }

    /// Rings the bell, for a unit of work that recorded events of its own. After its commit.
    pub fn ring(&self) {
        self.shared.ring();
    }

    /// How often SQLite's log was put into the file since start, as far as that was possible.
    pub fn checkpoints(&self) -> watch::Receiver<u64> {
        self.shared.checkpoints.subscribe()
    }

    /// Takes nothing more, commits what was handed over, closes the connections.
    ///
    /// From here on a lost database is not waited for: what cannot be written now is answered with
    /// [`Error::Unavailable`], whatever its patience.
    pub(super) async fn close(&self) {
        self.shared.closing.cancel();
        for lane in &*self.lanes {
            lane.close().await;
        }
        self.checkpoints_ended.cancelled().await;
    }

    /// The keys that secrets are sealed with.
    pub(super) fn vault(&self) -> &Arc<Vault> {
        &self.shared.vault
    }

    /// What is known of webhook endpoints.
    pub(super) fn known(&self) -> &Arc<Known> {
        &self.shared.known
    }

    /// What time it is.
    pub(super) fn now(&self) -> UnixMillis {
        self.shared.clock.now()
    }

    /// Ends when the writer is closing.
    pub(super) fn closing(&self) -> &CancellationToken {
        &self.shared.closing
    }

    fn aside(&self) -> &lane::Queue {
        &self.lanes[self.lanes.len().saturating_sub(APART)]
    }

    fn lane(&self, key: &str) -> &lane::Queue {
        // Any hash will do that gives one key one lane for as long as the process lives.
        let mut hasher = DefaultHasher::new();
        key.hash(&mut hasher);
        let lanes = self.lanes.len().saturating_sub(APART).max(1) as u64;
        let number = usize::try_from(hasher.finish() % lanes).unwrap_or(0);
        &self.lanes[number]
    }
}

impl fmt::Debug for Writer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Writer")
            .field("lanes", &self.lanes.len())
            .field("stats", &self.stats())
            .finish_non_exhaustive()
    }
}

impl Shared {
    pub(super) fn ring(&self) {
        self.bell.send_modify(|rings| *rings = rings.wrapping_add(1));
    }
}

/// What a caller handed over.
pub(super) enum Work {
    /// Anything at all.
    Unit(Box<dyn Unit>),
    /// An event, which is written together with its neighbours.
    Event {
        /// The event.
        event: Box<NewEvent>,
        /// Where the caller waits.
        reply: oneshot::Sender<Result<Recorded, Error>>,
    },
}

/// A unit of work whose result's type is nobody's business but the caller's.
pub(super) trait Unit: Send + Sync {
    /// Runs it; keeps what it returned for [`Unit::answer`].
    fn attempt<'a>(&'a mut self, txn: &'a DatabaseTransaction) -> BoxFuture<'a, Result<(), DbErr>>;

    /// Tells the caller how it ended. `Ok` after a successful attempt only.
    fn answer(self: Box<Self>, outcome: Result<(), Error>);
}

struct Closure<T, F> {
    unit: F,
    /// What the last attempt returned. Never contended: the lock only makes it shareable.
    value: Mutex<Option<T>>,
    reply: oneshot::Sender<Result<T, Error>>,
}

impl<T, F> Unit for Closure<T, F>
where
    T: Send + 'static,
    F: for<'t> Fn(&'t DatabaseTransaction) -> BoxFuture<'t, Result<T, DbErr>> + Send + Sync,
{
    fn attempt<'a>(&'a mut self, txn: &'a DatabaseTransaction) -> BoxFuture<'a, Result<(), DbErr>> {
        Box::pin(async move {
            let value = (self.unit)(txn).await?;
            *self.value.lock().unwrap_or_else(PoisonError::into_inner) = Some(value);
            Ok(())
        })
    }

    fn answer(self: Box<Self>, outcome: Result<(), Error>) {
        let Self { value, reply, .. } = *self;
        let value = value.into_inner().unwrap_or_else(PoisonError::into_inner);
        // The caller may have given up; that is its right.
        reply.send(outcome.and_then(|()| value.ok_or(Error::Stopped))).ok();
    }
}
