//! The task that owns one session: dial, be online, back off, until there is no point any more.

use std::{fmt, ops::ControlFlow, sync::Arc};

use entity::{UnixMillis, id::MessageId, session};
use tokio::sync::{mpsc, oneshot};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    Error, LoggedOut, Options, PairingCode,
    backoff::Backoff,
    client::{DialFailure, Factory},
    ingest::Ingest,
    online::{End, Ended, Lent, Online},
    outbox::Outbox,
    pace::Pace,
};
use crate::{
    clock::Clock,
    device,
    event::{AuthFailure, Change, Disconnect, Event},
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

/// Handshakes that may fail in a row before we say that this is not WhatsApp. One may fail because
/// a certificate that we remember is out of date; the library forgets it, and the next one tells.
const MAX_REFUSED_HANDSHAKES: u32 = 3;

/// When to dial again.
#[derive(Clone, Copy, Debug)]
enum Next {
    Now,
    At(UnixMillis),
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
    backoff: Backoff,
    /// Clients that ran out of QR codes, in a row.
    qr_rounds: u32,
    /// Handshakes that we refused, in a row.
    refused_handshakes: u32,
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
            shared,
            ingest,
            row,
            device_id,
            backoff: Backoff::default(),
            qr_rounds: 0,
            refused_handshakes: 0,
        }
    }

    /// Runs until told to stop, or until only a human can help.
    pub(super) async fn run(mut self) {
        while let Some(connected) = self.connect().await {
            let (end, stable) = match &connected {
                Ok(ended) => (&ended.end, ended.stable),
                Err(failure) => (&End::Dial(*failure), false),
            };
            let next = self.judge(end, stable);
            if next.is_break() {
                // Whoever starts the session from now on begins a new run.
                self.commands.close();
            }
            // First the truth, then the tidying up, which may take its time.
            self.announce(&next).await;
            if let Ok(ended) = connected {
                ended.close(&self.ingest).await;
            }
            match next {
                ControlFlow::Break(_) => break,
                ControlFlow::Continue(Next::Now) => {}
                ControlFlow::Continue(Next::At(at)) => {
                    if self.wait_until(at).await.is_break() {
                        break;
                    }
                }
            }
        }
        self.outbox.close();
        tracing::info!("The session has ended its run");
    }

    /// Says what becomes of the session, unless it is to stop before the database takes it.
    async fn announce(&self, next: &ControlFlow<Option<Event>, Next>) {
        let event = match next {
            ControlFlow::Break(None) => return,
            ControlFlow::Break(Some(last)) => last.clone(),
            ControlFlow::Continue(Next::Now) => Event::ChangeState(Change::Connecting),
            ControlFlow::Continue(Next::At(at)) => {
                Event::ChangeState(Change::Reconnecting { next_attempt_at: Some(*at) })
            }
        };
        self.stop.run_until_cancelled(self.ingest.say(event)).await;
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

    /// What to do after a client has ended: stop, perhaps saying why, or dial again, now or later.
    fn judge(&mut self, end: &End, stable: bool) -> ControlFlow<Option<Event>, Next> {
        if stable {
            self.backoff.reset();
        }
        if !matches!(end, End::Dial(DialFailure::ServerRefused)) {
            self.refused_handshakes = 0;
        }
        if !matches!(end, End::QrCodesExhausted) {
            self.qr_rounds = 0;
        }
        match end {
            End::Stopped | End::LoggedOut => ControlFlow::Break(None),
            End::Final(event) => ControlFlow::Break(Some(event.clone())),
            End::QrCodesExhausted => {
                self.qr_rounds += 1;
                if self.qr_rounds < self.shared.options.max_qr_rounds {
                    ControlFlow::Continue(Next::Now)
                } else {
                    ControlFlow::Break(Some(Event::Disconnected(Disconnect::QrCodesExhausted)))
                }
            }
            End::Dial(DialFailure::ServerRefused) => {
                self.refused_handshakes += 1;
                if self.refused_handshakes < MAX_REFUSED_HANDSHAKES {
                    ControlFlow::Continue(self.next_attempt())
                } else {
                    ControlFlow::Break(Some(Event::AuthFailure(AuthFailure::ServerNotTrusted)))
                }
            }
            End::Lost | End::Dial(DialFailure::Unreachable) => {
                ControlFlow::Continue(self.next_attempt())
            }
        }
    }

    fn next_attempt(&mut self) -> Next {
        Next::At(self.shared.clock.now() + self.backoff.next(rand::random()))
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
