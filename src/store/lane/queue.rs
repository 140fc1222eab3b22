//! The callers' end of a lane: what is handed over, and those who wait for a place.

use std::{
    collections::BTreeMap,
    sync::{Arc, PoisonError},
};

use sea_orm::DbErr;
use tokio::{
    sync::{Mutex, OwnedSemaphorePermit, Semaphore, TryAcquireError, mpsc, watch},
    time::Instant,
};
use tokio_util::sync::CancellationToken;

use crate::store::{
    Error,
    group::{Outcome, Refused},
    leases::Lease,
    writer::{Patience, Work},
};

/// How many callers of each patience may be queued in one lane. The rest wait for a place, which
/// is how a slow disk slows down WhatsApp's receivers instead of filling the memory.
const PLACES: usize = 1024;

/// A unit of work on its way.
pub(in crate::store) struct Job {
    pub(in crate::store) key: Box<str>,
    pub(in crate::store) patience: Patience,
    /// Whoever has handed it over writes as the owner of a session.
    pub(in crate::store) lease: Option<Lease>,
    pub(in crate::store) work: Work,
    /// How often it has taken too long, alone, on a database that takes writes.
    pub(super) overran: u32,
    /// Its place in the queue, free again once it is answered.
    _place: Place,
}

/// A place in the queue.
struct Place {
    number: u64,
    taken: Arc<std::sync::Mutex<Taken>>,
    _permit: OwnedSemaphorePermit,
}

/// Since when each place is taken that is, in the order in which they were.
#[derive(Debug, Default)]
struct Taken {
    next: u64,
    since: BTreeMap<u64, Instant>,
}

impl Place {
    fn take(taken: &Arc<std::sync::Mutex<Taken>>, permit: OwnedSemaphorePermit) -> Self {
        let mut all = taken.lock().unwrap_or_else(PoisonError::into_inner);
        let number = all.next;
        all.next += 1;
        all.since.insert(number, Instant::now());
        Self { number, taken: Arc::clone(taken), _permit: permit }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner).since.remove(&self.number);
    }
}

impl Job {
    /// Tells the caller.
    pub(super) fn answer(self, outcome: Outcome) {
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
    pub(super) fn refuse(self, err: &DbErr) {
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
pub(in crate::store) struct Queue {
    jobs: mpsc::UnboundedSender<Job>,
    patient: Arc<Semaphore>,
    impatient: Arc<Semaphore>,
    /// Held from asking for a place to being queued, in the order of asking.
    patient_turns: Mutex<()>,
    impatient_turns: Mutex<()>,
    taken: Arc<std::sync::Mutex<Taken>>,
    /// Changes with each step of the lane.
    steps: watch::Receiver<u64>,
    ended: CancellationToken,
}

impl Queue {
    /// One before a lane that takes what is sent here, and ends with that.
    pub(super) fn new(
        jobs: mpsc::UnboundedSender<Job>,
        steps: watch::Receiver<u64>,
        ended: CancellationToken,
    ) -> Self {
        Self {
            jobs,
            patient: Arc::new(Semaphore::new(PLACES)),
            impatient: Arc::new(Semaphore::new(PLACES)),
            patient_turns: Mutex::default(),
            impatient_turns: Mutex::default(),
            taken: Arc::default(),
            steps,
            ended,
        }
    }

    /// Queues a unit of work, after waiting for a place if there is none.
    pub(in crate::store) async fn submit(
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
        let permit = match places.clone().try_acquire_owned() {
            Ok(permit) => permit,
            Err(TryAcquireError::NoPermits) => {
                places.clone().acquire_owned().await.map_err(|_| Error::Stopped)?
            }
            Err(TryAcquireError::Closed) => return Err(Error::Stopped),
        };
        let place = Place::take(&self.taken, permit);
        self.jobs
            .send(Job { key: key.into(), patience, lease, work, overran: 0, _place: place })
            .map_err(|_| Error::Stopped)
    }

    /// How many have a place.
    pub(in crate::store) fn waiting(&self) -> usize {
        2 * PLACES - self.patient.available_permits() - self.impatient.available_permits()
    }

    /// Since when the one waits that has had its place for longest.
    pub(in crate::store) fn oldest(&self) -> Option<Instant> {
        let taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        taken.since.first_key_value().map(|(_, since)| *since)
    }

    /// Waits until the lane has come a step further: a group has ended, however it did, or was tried again.
    pub(in crate::store) async fn stepped(&self) {
        let mut steps = self.steps.clone();
        steps.mark_unchanged();
        if steps.changed().await.is_err() {
            // It has ended, and who is queued is told so.
            std::future::pending::<()>().await;
        }
    }

    /// Takes nothing more; returns when everything taken was answered.
    pub(in crate::store) async fn close(&self) {
        self.patient.close();
        self.impatient.close();
        self.ended.cancelled().await;
    }

    /// Says when everything taken was answered, however the lane ends.
    pub(in crate::store) fn ended(&self) -> CancellationToken {
        self.ended.clone()
    }
}

#[cfg(test)]
mod tests {
    use futures_util::future::BoxFuture;
    use sea_orm::DatabaseTransaction;

    use super::*;
    use crate::store::writer::Unit;

    struct Nothing;

    impl Unit for Nothing {
        fn attempt<'a>(
            &'a mut self,
            _: &'a DatabaseTransaction,
        ) -> BoxFuture<'a, Result<(), DbErr>> {
            Box::pin(async { Ok(()) })
        }

        fn answer(self: Box<Self>, _: Result<(), Error>) {}
    }

    #[tokio::test]
    async fn the_oldest_is_the_first_that_was_not_answered_yet() {
        let (jobs, mut arrivals) = mpsc::unbounded_channel();
        let (_steps, steps) = watch::channel(0);
        let queue = Queue::new(jobs, steps, CancellationToken::new());
        assert_eq!(queue.oldest(), None);
        let mut handed_over = Vec::new();
        for patience in [Patience::Wait, Patience::Fail, Patience::Wait] {
            let work = Work::Unit(Box::new(Nothing));
            queue.submit("key", patience, None, work).await.unwrap();
            handed_over.push(Instant::now());
        }
        assert!(queue.oldest().unwrap() <= handed_over[0]);
        let first = arrivals.recv().await.unwrap();
        // That it was taken out is no answer.
        assert!(queue.oldest().unwrap() <= handed_over[0]);
        // One that was answered before those who came earlier makes nobody younger.
        let second = arrivals.recv().await.unwrap();
        second.answer(Ok(None));
        assert!(queue.oldest().unwrap() <= handed_over[0]);
        first.answer(Ok(None));
        assert!(queue.oldest().unwrap() >= handed_over[1]);
        arrivals.recv().await.unwrap().answer(Ok(None));
        assert_eq!(queue.oldest(), None);
    }
}
