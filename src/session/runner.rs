//! The task that owns one session: dial, be online, back off, until there is no point any more.

use std::{fmt, ops::ControlFlow, sync::Arc};

use entity::{UnixMillis, id::MessageId, session};
use tokio::sync::{mpsc, oneshot};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    Error, LoggedOut, Options, PairingCode,
    client::{DialFailure, Factory},
    ingest::Ingest,
    online::{End, Ended, Lent, Online},
    outbox::Outbox,
    pace::Pace,
    policy::{Next, Policy},
};
use crate::{
    clock::Clock,
    device,
    event::{Change, Event},
    store::Store,
};

/// A request together with the way to answer it.
pub(super) enum Command {
    /// Dial now, whatever the backoff says.
    Dial,
    Pair {
        phone_number: String,
        answer: oneshot::Sender<Result<PairingCode, Error>>,
    },
    /// There is a new message to send.
    Send {
        message: MessageId,
        answer: oneshot::Sender<Result<(), Error>>,
    },
    /// Unlink the device, then end.
    Logout {
        answer: oneshot::Sender<LoggedOut>,
    },
}

impl fmt::Debug for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Dial => "Dial",
            Self::Pair { .. } => "Pair",
            Self::Send { .. } => "Send",
            Self::Logout { .. } => "Logout",
        })
    }
}

/// What all runners of a process share.
#[derive(Clone, Debug)]
pub(super) struct Shared {
    pub(super) store: Store,
    pub(super) clock: Clock,
    pub(super) options: Arc<Options>,
    pub(super) factory: Factory,
    pub(super) pace: Pace,
    pub(super) tracker: TaskTracker,
}

/// One run of a session.
#[derive(Debug)]
pub(super) struct Runner {
    // What it listens to.
    commands: mpsc::Receiver<Command>,
    stop: CancellationToken,

    // What it works with.
    shared: Shared,
    ingest: Ingest,
    outbox: Outbox,
    row: session::Model,
    device_id: i32,

    // What it remembers.
    policy: Policy,
}

impl Runner {
    /// A run of the session with this row. It ends when `stop` is cancelled, leaving the status to
    /// whoever cancels it.
    pub(super) fn new(
        shared: Shared,
        ingest: Ingest,
        row: session::Model,
        device_id: i32,
        commands: mpsc::Receiver<Command>,
        stop: CancellationToken,
    ) -> Self {
        Self {
            outbox: Outbox::new(shared.store.clone(), ingest.clone(), row.id.clone()),
            commands,
            stop,
            policy: Policy::new(shared.options.max_qr_rounds),
            shared,
            ingest,
            row,
            device_id,
        }
    }

    /// Runs until told to stop, or until only a human can help.
    pub(super) async fn run(mut self) {
        while let Some(connected) = self.connect().await {
            let (end, stable) = match &connected {
                Ok(ended) => (&ended.end, ended.stable),
                Err(failure) => (&End::Dial(*failure), false),
            };
            let next = self.policy.after(end, stable, rand::random());
            // First the truth, then the tidying up, which may take its time.
            let next_attempt = self.announce(next).await;
            if let Ok(ended) = connected {
                ended.close(&self.ingest).await;
            }
            let Some(at) = next_attempt else { break };
            if self.wait_until(at).await.is_break() {
                break;
            }
        }
        self.outbox.close();
        tracing::info!("The session has ended its run");
    }

    /// Says what becomes of the session, and answers when it is dialled again; none for never.
    async fn announce(&mut self, next: Next) -> Option<UnixMillis> {
        let now = self.shared.clock.now();
        let (event, at) = match next {
            Next::Dial => (Some(Event::ChangeState(Change::Connecting)), Some(now)),
            Next::Wait(wait) => {
                let at = now + wait;
                let change = Change::Reconnecting { next_attempt_at: Some(at) };
                (Some(Event::ChangeState(change)), Some(at))
            }
            Next::End(last) => (last, None),
        };
        if at.is_none() {
            // Whoever starts the session from now on begins a new run.
            self.commands.close();
        }
        if let Some(event) = event {
            // Unless it is to stop before the database takes it.
            self.stop.run_until_cancelled(self.ingest.say(event)).await;
        }
        at
    }

    /// One client, from its dial to its end. None when the session is to stop.
    async fn connect(&mut self) -> Option<Result<Ended, DialFailure>> {
        let stop = self.stop.clone();
        let permit = stop.run_until_cancelled(self.shared.pace.turn()).await?;
        let backend = device::Backend::new(self.shared.store.clone(), self.device_id, &self.row.id);
        let opening = self.shared.factory.open(backend, self.ingest.clone());
        let (link, signals) = match stop.run_until_cancelled(opening).await? {
            Ok(opened) => opened,
            Err(error) => {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "A client could not be started"
                );
                return Some(Err(DialFailure::Unreachable));
            }
        };
        let lent = Lent {
            commands: &mut self.commands,
            stop: &self.stop,
            ingest: &self.ingest,
            outbox: &mut self.outbox,
            clock: &self.shared.clock,
            tracker: &self.shared.tracker,
        };
        Some(Ok(Online::new(link, signals, permit, lent).run().await))
    }

    /// Waits for the next try. Breaks when the session is to stop.
    async fn wait_until(&mut self, at: UnixMillis) -> ControlFlow<()> {
        loop {
            tokio::select! {
                biased;
                () = self.stop.cancelled() => return ControlFlow::Break(()),
                Some(command) = self.commands.recv() => match command {
                    Command::Dial => return ControlFlow::Continue(()),
                    Command::Pair { answer, .. } => {
                        answer.send(Err(Error::NotRunning)).ok();
                    }
                    Command::Send { message, answer } => self.outbox.expect(message, answer),
                    Command::Logout { answer } => {
                        answer.send(LoggedOut { unlinked: false }).ok();
                        return ControlFlow::Break(());
                    }
                },
                () = self.shared.clock.sleep_until(at) => return ControlFlow::Continue(()),
            }
        }
    }
}
