//! One run of a session, from outside: how it begins, and what is done when it has ended.

use std::{panic::AssertUnwindSafe, sync::Arc, time::Duration};

use entity::{session, state::Origin};
use futures_util::FutureExt as _;
use tokio::{sync::mpsc, task::JoinHandle};
use tokio_util::sync::CancellationToken;
use tracing::{Instrument as _, info_span};

use super::Sessions;
use crate::{
    device,
    event::{Care, Change, Event, Loss},
    fault::moment,
    session::{
        Error,
        ingest::Ingest,
        ownership::Hold,
        policy::{self, Next, Resume},
        runner::{Command, Line, Runner, Start},
        standing::credentials_are_dead,
    },
};

/// Requests that a session may have waiting before callers are told that it is busy.
const COMMAND_QUEUE: usize = 64;

/// From one try to begin the run of a session by itself to the next, when the database refuses it.
pub(super) const BEGIN_AGAIN: Duration = Duration::from_secs(30);

/// A run, as those see it who do not run it.
#[derive(Debug)]
pub(super) struct Run {
    /// The right to it.
    pub(super) hold: Hold,
    pub(super) commands: mpsc::Sender<Command>,
    /// Cancelled also when the session is not ours any more.
    pub(super) stop: CancellationToken,
    /// Cancelled before `stop` where another run is to begin at once.
    pub(super) restart: CancellationToken,
    pub(super) task: JoinHandle<()>,
}

impl Run {
    /// It has ended, or has been told to: nothing that it does counts any more.
    pub(super) fn is_over(&self) -> bool {
        self.stop.is_cancelled() || self.task.is_finished()
    }
}

/// Why a run begins.
#[derive(Clone, Copy, Debug)]
pub(super) enum Why {
    /// An operator asked for it: at once, with all troubles forgotten.
    Operator,
    /// The same, of a session that was at work until now: its status says already that it is dialled.
    Restart,
    /// It goes on where it was.
    Resume(Resume),
}

impl Sessions {
    /// Begins a run. The caller holds the slot, and no other run is left. When it does not come about,
    /// the session is given back.
    pub(super) async fn begin(&self, hold: Hold, why: Why) -> Result<Run, Error> {
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
        if row.migrated_to.is_some() {
            return Err(Error::NotRunning);
        }
        let device_id = match row.device_id {
            Some(device_id) => device_id,
            None => device::create(&shared.store, key).await?,
        };
        moment!("session.device_made");
        // None: deleted, or handed over to another one since the row was read.
        let generation = sessions.begin_run(key).await?.ok_or(Error::NotRunning)?;
        let ingest = self.ingest(hold, &row, generation);
        let start = match why {
            Why::Operator | Why::Restart => Start {
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
            Why::Restart | Why::Resume(Resume::Wait(_)) => None,
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
        let restart = CancellationToken::new();
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
            Line { commands: receiver, stop: stop.clone(), restart: restart.clone() },
        );
        let task = self.shared.tracker.spawn(
            self.clone().contained(hold.clone(), runner, ingest, stop.clone()).instrument(span),
        );
        Ok(Run { hold: hold.clone(), commands, stop, restart, task })
    }

    /// A run whose panic harms no other session: it is reported, and the session begins anew.
    async fn contained(self, hold: Hold, runner: Runner, ingest: Ingest, stop: CancellationToken) {
        let run = AssertUnwindSafe(Box::pin(runner.run())).catch_unwind();
        if let Ok(said) = hold.until_lost(run, &stop).await {
            self.ended(&hold, said, stop).await;
            return;
        }
        let key = hold.session().clone();
        self.shared.factory.panics().count();
        // What its status says is not true any more: worth waiting for the database.
        let sessions = self.shared.store.sessions();
        let Some(row) = stop.run_until_cancelled(sessions.wait_by_key(&key)).await else { return };
        let row = match row {
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
                let said = match event {
                    Some(event) => ingest.say_with(event, care).await,
                    None => true,
                };
                self.ended(&hold, said, stop).await;
            }
            Next::Dial => {}
        }
    }

    /// A run has ended. Where its status could not say so, the session begins anew in a while, and says what it is.
    async fn ended(&self, hold: &Hold, said: bool, stop: CancellationToken) {
        if said {
            self.give_back(hold, &stop).await;
        } else {
            let at = self.shared.clock.now() + BEGIN_AGAIN;
            self.begin_later(hold.session().clone(), at, stop);
        }
    }

    /// Gives a session back whose run has ended by itself. Whoever has told it to stop has more to do.
    async fn give_back(&self, hold: &Hold, stop: &CancellationToken) {
        if !stop.is_cancelled() {
            self.ownership.release(hold).await;
        }
    }

    pub(super) fn ingest(&self, hold: &Hold, row: &session::Model, generation: i64) -> Ingest {
        Ingest::new(
            hold.store(&self.shared.store),
            self.shared.clock.clone(),
            row.organization_id.clone(),
            row.id.clone(),
            generation,
        )
    }
}

/// A run that begins nothing more: it closes its client from now on.
pub(super) fn told_to_stop(run: Option<Run>) -> Option<Run> {
    run.inspect(|run| run.stop.cancel())
}

/// The same, where another run is to begin at once: nobody is waited for who does not answer.
pub(super) fn told_to_restart(run: Option<Run>) -> Option<Run> {
    run.inspect(|run| {
        run.restart.cancel();
        run.stop.cancel();
    })
}

/// Ends a run: its client is closed, and its task has ended, when this returns.
pub(super) async fn end(run: Option<Run>) {
    if let Some(run) = run {
        run.stop.cancel();
        // A panic was reported where it happened.
        run.task.await.ok();
    }
}
