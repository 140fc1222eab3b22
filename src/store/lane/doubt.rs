//! Groups whose end nobody knows: they took too long, or their connection broke while they were committed.

use entity::UnixMillis;
use sea_orm::{DatabaseConnection, DbErr, TransactionTrait};
use tokio::time::Instant;

use super::{
    Job, Lane,
    trouble::{BACKOFF, CONTENTION_BACKOFF},
};
use crate::store::{
    error::Fault,
    group::{self, Outcome, Refused, WRITE},
    mark::Mark,
};

/// How often a unit may take too long, alone, before it is refused. The first time it may have been its connection, which
/// hung while the database did not.
const OVERRUNS: u32 = 2;

impl Lane {
    /// Finds out whether it was the database that took too long, or a unit. A unit is found by running those of its group
    /// one by one, its own key's last; and one that takes too long alone is refused, as it would for ever.
    pub(super) async fn overran(&mut self, mut group: Vec<Job>, unit: Option<usize>, err: DbErr) {
        self.singly = self.singly.max(group.len());
        if !self.takes_writes().await {
            return self.put_back(group, err).await;
        }
        self.shared.counters.retry();
        if let [job] = &mut group[..] {
            job.overran += 1;
            if job.overran >= OVERRUNS {
                tracing::error!(
                    error = &err as &dyn std::error::Error,
                    "A unit of work takes too long for any group; it is refused"
                );
                (self.failures, self.away) = (0, None);
                self.singly = self.singly.saturating_sub(1);
                for job in group {
                    job.answer(Err(Refused::TooLong));
                }
                return;
            }
        }
        tracing::warn!(
            error = &err as &dyn std::error::Error,
            store.units = group.len(),
            "A group took too long; its units are run one by one"
        );
        let suspect = unit.and_then(|at| group.get(at)).map(|job| job.key.clone());
        let (suspects, others): (Vec<_>, Vec<_>) =
            group.into_iter().partition(|job| Some(&job.key) == suspect.as_ref());
        for job in others.into_iter().chain(suspects).rev() {
            self.backlog.push_front(job);
        }
    }

    /// Whether the database commits what is written on a new connection, which is kept then.
    ///
    /// What took too long may go on for a moment where SQLite runs it, with the file's lock: that is waited for.
    async fn takes_writes(&mut self) -> bool {
        let Ok(db) = self.connect().await else { return false };
        self.mark.advance();
        let (mark, now, deadline) =
            (self.mark.clone(), self.shared.clock.now(), self.connector.deadline());
        let until = Instant::now() + 2 * deadline;
        loop {
            let trying = tokio::time::timeout(deadline, try_write(&db, &mark, now));
            match self.meanwhile(trying).await {
                Ok(Ok(())) => break,
                Ok(Err(err))
                    if Fault::of(&err) == Fault::Contention
                        && Instant::now() < until
                        && !self.shared.closing.is_cancelled() =>
                {
                    self.step();
                    self.pause(CONTENTION_BACKOFF.1).await;
                }
                _ => return false,
            }
        }
        self.db = Some(db);
        true
    }

    /// Asks the database what became of a commit it could not confirm, until it knows.
    pub(super) async fn find_out(&mut self, group: Vec<Job>, outcomes: Vec<Outcome>, err: DbErr) {
        tracing::warn!(
            error = &err as &dyn std::error::Error,
            "The connection broke during a commit; asking what became of it"
        );
        let mut distance = BACKOFF.0;
        loop {
            match self.ask().await {
                Ok(true) => return self.settle(group, outcomes),
                Ok(false) => return self.put_back(group, err).await,
                // Still open, as far as the server knows; or the server is away.
                Err(_) if self.shared.closing.is_cancelled() => {
                    for job in group {
                        job.refuse(&err);
                    }
                    return;
                }
                Err(_) => {
                    self.step();
                    self.give_up(&err);
                    self.pause(distance).await;
                    distance = (distance * 2).min(BACKOFF.1);
                }
            }
        }
    }

    /// Asks on a new connection whether the last group was committed.
    async fn ask(&mut self) -> Result<bool, DbErr> {
        let db = self.connect().await?;
        let (mark, now, deadline) =
            (self.mark.clone(), self.shared.clock.now(), self.connector.deadline());
        let asking = tokio::time::timeout(deadline, mark.was_committed(&db, now));
        let committed = self.meanwhile(asking).await;
        let committed = committed.unwrap_or_else(|_| Err(group::timed_out(deadline)))?;
        self.db = Some(db);
        Ok(committed)
    }
}

/// Commits next to nothing.
async fn try_write(db: &DatabaseConnection, mark: &Mark, now: UnixMillis) -> Result<(), DbErr> {
    let txn = db.begin_with_options(WRITE).await?;
    mark.begin(&txn, now).await?;
    txn.commit().await
}
