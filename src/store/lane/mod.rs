//! One connection that writes, and the queue before it.
//!
//! A lane takes what waits, commits it as a group, and answers. When the database is away it keeps
//! those who wait, answers those who will not, and tries again: at once after a broken connection,
//! then at growing distances. `queue.rs`: those who wait; `fair.rs`: who comes next. `trouble.rs`: what failed, and is tried again.
//! `doubt.rs`: what nobody knows the end of. `brake.rs`: what SQLite would never end.

mod brake;
mod doubt;
mod fair;
mod queue;
mod trouble;

use std::{
    collections::{BTreeSet, VecDeque},
    sync::{Arc, PoisonError},
    time::Duration,
};

use entity::id::EndpointId;
use sea_orm::DbErr;
use tokio::{
    sync::{mpsc, watch},
    time::Instant,
};
use tokio_util::sync::CancellationToken;

use self::brake::Braked;
pub(super) use self::queue::{Job, Queue};
use super::{
    checkpoints::Commits,
    connect::Connector,
    error::Fault,
    group::{self, Fate, Outcome},
    mark::Mark,
    progress::Progress,
    writer::{Shared, Work},
};

/// How long after its start a group still takes in what arrives.
const JOINING: Duration = Duration::from_millis(2);

/// How long the connection is waited for at the end.
const GOODBYE: Duration = Duration::from_secs(2);

/// The lane itself: a task.
pub(super) struct Lane {
    connector: Connector,
    shared: Arc<Shared>,
    arrivals: mpsc::UnboundedReceiver<Job>,
    /// Taken from `arrivals`, not yet answered; oldest first.
    backlog: VecDeque<Job>,
    /// None after a failure: the next group begins by opening one.
    db: Option<Braked>,
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
    /// Counts what the lane has done, whatever came of it: it lives.
    steps: watch::Sender<u64>,
    /// Says when the task is over, however it ends.
    ended: tokio_util::sync::DropGuard,
}

impl Lane {
    /// Opens the connection; the task is still to be spawned.
    pub(super) async fn open(
        connector: Connector,
        shared: Arc<Shared>,
    ) -> Result<(Self, Queue), DbErr> {
        let db = Braked::fit(connector.lane().await?).await?;
        let (jobs, arrivals) = mpsc::unbounded_channel();
        let ended = CancellationToken::new();
        let steps = watch::Sender::new(0);
        let queue = Queue::new(jobs, steps.subscribe(), ended.clone());
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
            steps,
            ended: ended.drop_guard(),
        };
        Ok((lane, queue))
    }

    /// Commits groups until the store closes.
    pub(super) async fn run(mut self) {
        while self.wait_for_work().await {
            let group = self.next_group();
            let (group, fate) = self.commit(group).await;
            self.step();
            match fate {
                Fate::Committed(outcomes) => self.settle(group, outcomes),
                Fate::Failed(err) => self.put_back(group, err).await,
                Fate::Overran { unit, err } => self.overran(group, unit, err).await,
                Fate::Unknown { outcomes, err } => self.find_out(group, outcomes, err).await,
            }
        }
        if let Some(db) = self.db.take() {
            // Nothing is open on it; the process ends either way, and a connection that fell silent says no goodbye.
            tokio::time::timeout(GOODBYE, db.close()).await.ok();
        }
        drop(self.ended);
    }

    fn step(&self) {
        self.steps.send_modify(|steps| *steps = steps.wrapping_add(1));
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
            learned: db.learned(),
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
        db.stop_after(self.connector.deadline());
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
}
