//! One connection that writes, and the queue before it.
//!
//! A lane takes what waits, commits it as a group, and answers. When the database is away it keeps
//! those who wait, answers those who will not, and tries again: at once after a broken connection,
//! then at growing distances. `doubt.rs`: what nobody knows the end of.

mod doubt;
mod fair;

use std::{
    collections::{BTreeSet, VecDeque},
    sync::{Arc, PoisonError},
    time::Duration,
};

use entity::id::EndpointId;
use sea_orm::{DatabaseConnection, DbErr};
use tokio::{
    sync::{Mutex, OwnedSemaphorePermit, Semaphore, TryAcquireError, mpsc},
    time::Instant,
};
use tokio_util::sync::CancellationToken;

use super::{
    Error,
    checkpoints::Commits,
    connect::Connector,
    error::Fault,
    group::{self, Fate, Outcome, Refused},
    leases::Lease,
    mark::Mark,
    progress::Progress,
    writer::{Patience, Shared, Work},
};

/// How many callers of each patience may be queued in one lane. The rest wait for a place, which
/// is how a slow disk slows down WhatsApp's receivers instead of filling the memory.
const PLACES: usize = 1024;

/// How long after its start a group still takes in what arrives.
const JOINING: Duration = Duration::from_millis(2);

/// How often contention is retried before a caller who will not wait is told.
const CONTENTIONS: u32 = 8;

/// The first distance between tries of an absent database, and the longest.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(2));

/// The same for contention, which passes quickly.
const CONTENTION_BACKOFF: (Duration, Duration) =
    (Duration::from_millis(2), Duration::from_millis(100));

/// A unit of work on its way.
pub(super) struct Job {
    pub(super) key: Box<str>,
    pub(super) patience: Patience,
    /// Whoever has handed it over writes as the owner of a session.
    pub(super) lease: Option<Lease>,
    pub(super) work: Work,
    /// How often it has taken too long, alone, on a database that takes writes.
    overran: u32,
    /// Its place in the queue, free again once it is answered.
    _place: OwnedSemaphorePermit,
}

impl Job {
    /// Tells the caller.
    fn answer(self, outcome: Outcome) {
        if let (Err(Refused::LeaseLost), Some(lease)) = (&outcome, &self.lease) {
            lease.lost.cancel();
        }
        // The caller may have given up; that is its right.
        match self.work {
            Work::Unit(unit) => unit.answer(outcome.map(|_| ()).map_err(Error::from)),
            Work::Event { reply, .. } => {
                let answer = match outcome {
                    Ok(Some(recorded)) => Ok(recorded),
                    Ok(None) => Err(Error::Stopped),
                    Err(err) => Err(err.into()),
                };
                reply.send(answer).ok();
            }
        }
    }

    /// Tells the caller that the database is not there.
    fn refuse(self, err: &DbErr) {
        let refusal = Error::Unavailable(err.clone());
        match self.work {
            Work::Unit(unit) => unit.answer(Err(refusal)),
            Work::Event { reply, .. } => {
                reply.send(Err(refusal)).ok();
            }
        }
    }
}

/// The callers' end of a lane.
#[derive(Debug)]
pub(super) struct Queue {
    jobs: mpsc::UnboundedSender<Job>,
    patient: Arc<Semaphore>,
    impatient: Arc<Semaphore>,
    /// Held from asking for a place to being queued, in the order of asking.
    patient_turns: Mutex<()>,
    impatient_turns: Mutex<()>,
    ended: CancellationToken,
}

impl Queue {
    /// Queues a unit of work, after waiting for a place if there is none.
    pub(super) async fn submit(
        &self,
        key: &str,
        patience: Patience,
        lease: Option<Lease>,
        work: Work,
    ) -> Result<(), Error> {
        // Two sets of places: those who wait out an outage must not take them all.
        let (places, turns) = match patience {
            Patience::Wait => (&self.patient, &self.patient_turns),
            Patience::Fail => (&self.impatient, &self.impatient_turns),
        };
        // One after the other: whoever was given a place and has not been woken yet would otherwise be
        // overtaken by who comes now and finds one free.
        let _turn = match turns.try_lock() {
            Ok(turn) => turn,
            Err(_) => turns.lock().await,
        };
        // Tried first, so that handing over takes nothing of the task's budget as long as it need not wait.
        let place = match places.clone().try_acquire_owned() {
            Ok(place) => place,
            Err(TryAcquireError::NoPermits) => {
                places.clone().acquire_owned().await.map_err(|_| Error::Stopped)?
            }
            Err(TryAcquireError::Closed) => return Err(Error::Stopped),
        };
        self.jobs
            .send(Job { key: key.into(), patience, lease, work, overran: 0, _place: place })
            .map_err(|_| Error::Stopped)
    }

    /// How many have a place.
    pub(super) fn waiting(&self) -> usize {
        2 * PLACES - self.patient.available_permits() - self.impatient.available_permits()
    }

    /// Takes nothing more; returns when everything taken was answered.
    pub(super) async fn close(&self) {
        self.patient.close();
        self.impatient.close();
        self.ended.cancelled().await;
    }

    /// Says when everything taken was answered, however the lane ends.
    pub(super) fn ended(&self) -> CancellationToken {
        self.ended.clone()
    }
}

/// The lane itself: a task.
pub(super) struct Lane {
    connector: Connector,
    shared: Arc<Shared>,
    arrivals: mpsc::UnboundedReceiver<Job>,
    /// Taken from `arrivals`, not yet answered; oldest first.
    backlog: VecDeque<Job>,
    /// None after a failure: the next group begins by opening one.
    db: Option<DatabaseConnection>,
    /// That of the group under way, or of the last one.
    mark: Mark,
    /// How many may share a commit; less for a while after a deadlock.
    limit: usize,
    /// How many are to be committed one by one: they are of a group that took too long.
    singly: usize,
    /// Groups that failed since the last that did not.
    failures: u32,
    /// Webhook endpoints that groups since the last commit owe something: some perhaps in vain.
    touched: std::sync::Mutex<BTreeSet<EndpointId>>,
    /// Why the last group failed, while that is no passing thing: what to refuse callers with.
    away: Option<DbErr>,
    /// Says when the task is over, however it ends.
    ended: tokio_util::sync::DropGuard,
}

impl Lane {
    /// Opens the connection; the task is still to be spawned.
    pub(super) async fn open(
        connector: Connector,
        shared: Arc<Shared>,
    ) -> Result<(Self, Queue), DbErr> {
        let db = connector.lane().await?;
        let (jobs, arrivals) = mpsc::unbounded_channel();
        let ended = CancellationToken::new();
        let queue = Queue {
            jobs,
            patient: Arc::new(Semaphore::new(PLACES)),
            impatient: Arc::new(Semaphore::new(PLACES)),
            patient_turns: Mutex::default(),
            impatient_turns: Mutex::default(),
            ended: ended.clone(),
        };
        let lane = Self {
            mark: Mark::new(shared.clock.now()),
            limit: connector.group_limit(),
            connector,
            shared,
            arrivals,
            backlog: VecDeque::new(),
            db: Some(db),
            failures: 0,
            singly: 0,
            away: None,
            touched: std::sync::Mutex::default(),
            ended: ended.drop_guard(),
        };
        Ok((lane, queue))
    }

    /// Commits groups until the store closes.
    pub(super) async fn run(mut self) {
        while self.wait_for_work().await {
            let group = self.next_group();
            let (group, fate) = self.commit(group).await;
            match fate {
                Fate::Committed(outcomes) => self.settle(group, outcomes),
                Fate::Failed(err) => self.put_back(group, err).await,
                Fate::Overran { unit, err } => self.overran(group, unit, err).await,
                Fate::Unknown { outcomes, err } => self.find_out(group, outcomes, err).await,
            }
        }
        if let Some(db) = self.db.take() {
            // Nothing is open on it; the process ends either way.
            db.close().await.ok();
        }
        drop(self.ended);
    }

    /// Whether there is work; false when there will be none any more.
    async fn wait_for_work(&mut self) -> bool {
        if self.backlog.is_empty() {
            let arrived = tokio::select! {
                biased;
                job = self.arrivals.recv() => job,
                // Those with a place queue without waiting, so what is here now is all there is.
                () = self.shared.closing.cancelled() => self.arrivals.try_recv().ok(),
            };
            self.backlog.extend(arrived);
        }
        while let Ok(job) = self.arrivals.try_recv() {
            self.backlog.push_back(job);
        }
        !self.backlog.is_empty()
    }

    fn next_group(&mut self) -> Vec<Job> {
        let limit = self.limit();
        fair::take(&mut self.backlog, limit, |job| &job.key)
    }

    /// How many the next group may have.
    fn limit(&self) -> usize {
        if self.singly > 0 { 1 } else { self.limit }
    }

    /// Runs a group on an open connection, within the deadline.
    async fn commit(&mut self, mut group: Vec<Job>) -> (Vec<Job>, Fate) {
        let db = match self.db.take() {
            Some(db) => db,
            None => match self.connect().await {
                Ok(db) => db,
                Err(err) => return (group, Fate::Failed(err)),
            },
        };
        let shared = self.shared.clone();
        let _turn = shared.turn.read().await;
        self.mark.advance();
        let around = group::Surroundings {
            now: shared.clock.now(),
            mark: &self.mark,
            known: &shared.known,
            touched: &self.touched,
            progress: &Progress::new(),
            deadline: self.connector.deadline(),
        };
        let until = Instant::now() + JOINING;
        let limit = self.limit();
        let backlog = &mut self.backlog;
        let arrivals = &mut self.arrivals;
        // What is behind in the queue joins before what arrives now: the order is kept.
        let mut join = |group: &mut Vec<Job>| {
            while group.len() < limit && Instant::now() < until {
                match backlog.pop_front().or_else(|| arrivals.try_recv().ok()) {
                    Some(job) => group.push(job),
                    None => break,
                }
            }
        };
        let begun = Instant::now();
        let fate = group::commit(&db, &mut group, around, &mut join).await;
        if matches!(fate, Fate::Committed(_)) {
            shared.counters.group_took(begun.elapsed());
        }
        match &fate {
            Fate::Committed(_) => self.db = Some(db),
            Fate::Failed(err) if Fault::of(err) != Fault::Outage => self.db = Some(db),
            // It may be broken, or in a transaction nobody knows of; dropping it closes it.
            Fate::Failed(_) | Fate::Overran { .. } | Fate::Unknown { .. } => {}
        }
        (group, fate)
    }

    /// Answers a group that was committed.
    fn settle(&mut self, group: Vec<Job>, outcomes: Vec<Outcome>) {
        if self.failures > 0 && self.db.is_some() {
            tracing::info!(store.failures = self.failures, "The database takes writes again");
        }
        self.failures = 0;
        self.away = None;
        self.limit = self.connector.group_limit();
        self.singly = self.singly.saturating_sub(group.len());
        let counters = &self.shared.counters;
        let at = self.shared.clock.now();
        self.shared.commits.send_modify(|commits| {
            *commits = Commits { groups: commits.groups + 1, at };
        });

        let mut recorded = false;
        for (job, outcome) in group.into_iter().zip(outcomes) {
            let is_new = matches!(&outcome, Ok(Some(recorded)) if group::is_new(recorded));
            match &job.work {
                Work::Unit(_) => counters.unit(),
                Work::Event { event, .. } => counters.event(event.event.kind(), is_new),
            }
            recorded |= is_new;
            job.answer(outcome);
        }
        let touched = self.touched.get_mut().unwrap_or_else(PoisonError::into_inner);
        self.shared.known.publish(std::mem::take(touched));
        if recorded {
            self.shared.ring();
        }
    }

    /// Keeps a group for another try, answers those who will not wait for it, and waits a moment.
    async fn put_back(&mut self, group: Vec<Job>, err: DbErr) {
        let fault = Fault::of(&err);
        self.shared.counters.retry();
        self.failures = self.failures.saturating_add(1);
        let (give_up, (first, longest)) = match fault {
            // The first time it is the connection that broke; a new one may well do.
            Fault::Outage => (self.failures > 1, BACKOFF),
            Fault::Contention | Fault::Statement => {
                // Smaller groups hold fewer locks: a deadlock cannot repeat itself for ever.
                self.limit = (self.limit / 2).max(1);
                (self.failures > CONTENTIONS, CONTENTION_BACKOFF)
            }
        };
        if self.failures == 2 && fault == Fault::Outage {
            tracing::error!(
                error = &err as &dyn std::error::Error,
                "The database is away; waiting"
            );
        }
        if fault == Fault::Statement && group.len() == 1 {
            // Not the unit's statements but its commit was refused; it has no one else to blame.
            for job in group {
                job.answer(Err(err.clone().into()));
            }
            return;
        }
        for job in group.into_iter().rev() {
            self.backlog.push_front(job);
        }
        if give_up {
            self.give_up(&err);
        }
        if fault == Fault::Outage && self.failures == 1 {
            return;
        }
        let tries = self.failures.min(16) - 1;
        self.pause(first.saturating_mul(1 << tries).min(longest)).await;
    }

    /// Refuses all that will not wait, now and until a group is committed again. The whole queue: one
    /// who came late is behind many who wait.
    fn give_up(&mut self, err: &DbErr) {
        let closing = self.shared.closing.is_cancelled();
        for job in std::mem::take(&mut self.backlog) {
            if closing || job.patience == Patience::Fail {
                job.refuse(err);
            } else {
                self.backlog.push_back(job);
            }
        }
        self.away = Some(err.clone());
    }

    /// Waits, spread a little, so that lanes do not knock together. When the store is closing, what
    /// is left is tried at once.
    async fn pause(&mut self, distance: Duration) {
        let spread = distance.mul_f64(rand::random_range(0.75..1.25));
        let closing = self.shared.closing.clone();
        let pause = tokio::time::timeout(spread, async move { closing.cancelled().await });
        self.meanwhile(pause).await.ok();
    }

    /// Opens a new connection, which can take as long as a connection may take.
    async fn connect(&mut self) -> Result<DatabaseConnection, DbErr> {
        let connector = self.connector.clone();
        self.meanwhile(async move { connector.lane().await }).await
    }

    /// Goes through with something slow. Who arrives meanwhile and will not wait is refused, if the
    /// database is known to be away.
    async fn meanwhile<T>(&mut self, slow: impl Future<Output = T>) -> T {
        let mut slow = std::pin::pin!(slow);
        loop {
            tokio::select! {
                biased;
                done = &mut slow => return done,
                Some(job) = self.arrivals.recv() => match &self.away {
                    Some(err) if job.patience == Patience::Fail => job.refuse(err),
                    _ => self.backlog.push_back(job),
                },
            }
        }
    }
}
