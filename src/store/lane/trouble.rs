//! Groups that failed, and who waits for another try.

use std::time::Duration;

use sea_orm::DbErr;

use super::{Job, Lane, brake::Braked};
use crate::store::{error::Fault, writer::Patience};

/// How often contention is retried before a caller who will not wait is told.
const CONTENTIONS: u32 = 8;

/// The first distance between tries of an absent database, and the longest.
pub(super) const BACKOFF: (Duration, Duration) =
    (Duration::from_millis(50), Duration::from_secs(2));

/// The same for contention, which passes quickly.
pub(super) const CONTENTION_BACKOFF: (Duration, Duration) =
    (Duration::from_millis(2), Duration::from_millis(100));

impl Lane {
    /// Keeps a group for another try, answers those who will not wait for it, and waits a moment.
    pub(super) async fn put_back(&mut self, group: Vec<Job>, err: DbErr) {
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
    pub(super) fn give_up(&mut self, err: &DbErr) {
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
    pub(super) async fn pause(&mut self, distance: Duration) {
        let spread = distance.mul_f64(rand::random_range(0.75..1.25));
        let closing = self.shared.closing.clone();
        let pause = tokio::time::timeout(spread, async move { closing.cancelled().await });
        self.meanwhile(pause).await.ok();
    }

    /// Opens a new connection, which can take as long as a connection may take.
    pub(super) async fn connect(&mut self) -> Result<Braked, DbErr> {
        let connector = self.connector.clone();
        self.meanwhile(async move { Braked::fit(connector.lane().await?).await }).await
    }

    /// Goes through with something slow. Who arrives meanwhile and will not wait is refused, if the
    /// database is known to be away.
    pub(super) async fn meanwhile<T>(&mut self, slow: impl Future<Output = T>) -> T {
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
