//! Sessions that go on by themselves: after a restart of the process, when they come to be ours, or after
//! a failure of our own.

use entity::{UnixMillis, id::SessionKey, session};
use futures_util::{StreamExt as _, future::BoxFuture, stream};
use tokio_util::sync::CancellationToken;

use super::{
    Sessions,
    run::{BEGIN_AGAIN, Why},
};
use crate::session::{
    Error,
    ownership::Hold,
    policy::{self, Resume},
};

/// Sessions that are started side by side after a restart of the process. None of them waits for a
/// connection: this is about the database.
const STARTS_AT_ONCE: usize = 64;

impl Sessions {
    /// Goes on with every session that should be running, after a restart of the process.
    ///
    /// Returns how many have a run; they connect in the background, at the pace configured, those
    /// first that were active last. A session that ended for good stays ended; one that was waiting
    /// goes on waiting, be it for the end of a ban or for its next try.
    pub async fn resume(&self) -> Result<usize, Error> {
        let rows = self.shared.store.leases().neglected().await?;
        let now = self.shared.clock.now();
        // What one session was told is about the address: it outlives what that session remembers, and the session.
        let installation = self.shared.store.installation().read().await?;
        let kept = installation.and_then(|row| row.dials_paused_until);
        let throttled = rows.iter().filter_map(|row| row.throttled_until).max().max(kept);
        // No pause is longer: a clock that was set back makes none so.
        let longest = now + policy::LONGEST_PAUSE;
        if let Some(until) = throttled.filter(|until| *until > now).map(|it| it.min(longest)) {
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
    pub(in crate::session) fn goes_on(&self, row: &session::Model) -> bool {
        policy::resume(row, self.shared.clock.now(), rand::random()) != Resume::Not
    }

    /// Goes on with sessions that have come to be ours.
    pub(in crate::session) fn start_held(&self, holds: Vec<Hold>) {
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

    /// Goes on with a session at `at`, from a task of its own: a run begins only when the one before
    /// has ended, and that may be the caller.
    pub(super) fn begin_later(&self, key: SessionKey, at: UnixMillis, stop: CancellationToken) {
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
                let clock = &self.shared.clock;
                let come = clock.sleep_until_monotonic(clock.when(at));
                if stop.run_until_cancelled(come).await.is_none() {
                    return;
                }
                match self.try_begin_anew(&key, at, &stop).await {
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
        at: UnixMillis,
        stop: &CancellationToken,
    ) -> Result<(), Error> {
        let slot = self.slot(key);
        let mut slot = slot.lock().await;
        // Started or stopped by somebody meanwhile: then a run has taken this one's place.
        if stop.is_cancelled() || slot.as_ref().is_some_and(|run| !run.task.is_finished()) {
            return Ok(());
        }
        let row = self.shared.store.sessions().find_by_key(key).await?.ok_or(Error::NotFound)?;
        // Until `at` it has waited, whatever the wall clock has been set to since.
        let now = self.shared.clock.now().max(at);
        let resume = policy::resume(&row, now, rand::random());
        if resume != Resume::Not {
            let hold = self.ownership.own(key).await?;
            *slot = Some(self.begin(hold, Why::Resume(resume)).await?);
        }
        Ok(())
    }
}
