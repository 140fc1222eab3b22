//! The task that owns one session: dial, be online, back off, until there is no point any more.

use std::{
    fmt,
    ops::ControlFlow,
    sync::{Arc, atomic::AtomicU64},
    time::Duration,
};

use entity::{UnixMillis, id::MessageId, session};
use tokio::sync::{mpsc, oneshot};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    Error, LoggedOut, Options,
    client::{Factory, PairError},
    identity::Identity,
    ingest::Ingest,
    media::{Depot, MediaError, Renewal},
    online::{End, Ended, Lent, Online},
    outbox::{Outbox, SendStats},
    ownership::Tenure,
    pace::{Pace, Paused, Permit, Rank},
    pairing,
    policy::{self, Circumstances, Next, Policy},
    recovery::{Asked, Recovery},
    standing::is_ended,
};
use crate::{
    clock::Clock,
    device,
    event::{AuthFailure, Care, Change, Disconnect, Event, Loss},
    store::Store,
};

/// A request together with the way to answer it.
pub(super) enum Command {
    /// Dial now, whatever the backoff says.
    Dial,
    Pair {
        phone_number: String,
        answer: pairing::Answer,
    },
    /// There is a new message to send.
    Send {
        message: MessageId,
        answer: oneshot::Sender<Result<(), Error>>,
    },
    /// Which media hosts there are. Not answered while there is no connection.
    MediaHosts {
        answer: oneshot::Sender<Vec<String>>,
    },
    /// Have the phone upload media again, in the same way.
    RenewMedia {
        renewal: Renewal,
        answer: oneshot::Sender<Result<String, MediaError>>,
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
            Self::MediaHosts { .. } => "MediaHosts",
            Self::RenewMedia { .. } => "RenewMedia",
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
    /// Media that was downloaded.
    pub(super) media: Depot,
    pub(super) tracker: TaskTracker,
    /// Messages that could not be decrypted when they came.
    pub(super) unreadable: Arc<AtomicU64>,
    /// What WhatsApp did not take.
    pub(super) sends: SendStats,
}

/// How a run begins.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Start {
    /// What is remembered; its next attempt is waited for.
    pub(super) care: Care,
    /// An operator asked for it.
    pub(super) operator: bool,
    /// WhatsApp has refused these credentials before: if it still does, the device is made anew, to
    /// be paired. Only an operator's start may lead there.
    pub(super) may_renew: bool,
}

/// The way to a run.
#[derive(Debug)]
pub(super) struct Line {
    pub(super) commands: mpsc::Receiver<Command>,
    pub(super) stop: CancellationToken,
    /// Cancelled before `stop` where another run is to begin at once.
    pub(super) restart: CancellationToken,
}

/// One run of a session.
#[derive(Debug)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each says one thing of the next dial, or of what was said"
)]
pub(super) struct Runner {
    // What it listens to.
    commands: mpsc::Receiver<Command>,
    stop: CancellationToken,
    restart: CancellationToken,

    // What it works with.
    shared: Shared,
    tenure: Arc<Tenure>,
    ingest: Ingest,
    outbox: Outbox,
    row: session::Model,
    device_id: i32,

    // What it remembers.
    known: Identity,
    policy: Policy,
    may_renew: bool,
    /// What the phone was asked for.
    asked: Asked,
    /// Commands that came while it waited for its turn, and need a client.
    held: Vec<Command>,
    /// The next dial is one that an operator asked for.
    urgent: bool,
    /// The database has refused what the status should say: the run ends, so that the next one says it.
    unsaid: bool,
    /// The status says that the session has ended, though it is dialled again.
    seems_ended: bool,
    /// The next dial is one after a loss.
    lost: bool,
}

impl Runner {
    /// A run of the session with this row. It ends when the line's `stop` is cancelled, leaving the
    /// status to whoever cancels it.
    pub(super) fn new(
        shared: Shared,
        tenure: Arc<Tenure>,
        ingest: Ingest,
        row: session::Model,
        device_id: i32,
        start: Start,
        line: Line,
    ) -> Self {
        Self {
            outbox: Outbox::new(
                shared.store.clone(),
                ingest.clone(),
                row.id.clone(),
                shared.sends.clone(),
            ),
            commands: line.commands,
            stop: line.stop,
            restart: line.restart,
            policy: Policy::new(shared.options.rules(), start.care),
            may_renew: start.may_renew,
            asked: Asked::default(),
            held: Vec::new(),
            urgent: start.operator,
            unsaid: false,
            seems_ended: start.care.next_attempt_at.is_some() && is_ended(row.status),
            lost: false,
            shared,
            tenure,
            ingest,
            known: Identity::of(&row),
            row,
            device_id,
        }
    }

    /// Runs until told to stop, or until only a human can help. Whether the status says what has become of the
    /// session; where it does not, the session is to begin anew in a while.
    pub(super) async fn run(mut self) -> bool {
        self.live().await;
        self.outbox.close();
        tracing::info!("The session has ended its run");
        !self.unsaid
    }

    async fn live(&mut self) {
        if let Some(ended) = self.policy.exhausted() {
            self.announce(ended).await;
            return;
        }
        if let Some(at) = self.policy.care().next_attempt_at
            && self.wait(self.shared.clock.when(at)).await.is_break()
        {
            return;
        }
        while let Some(ended) = self.connect().await {
            let (end, connected) = match &ended {
                Ok(ended) => (&ended.end, ended.connected),
                Err(end) => (end, None),
            };
            // Credentials that were good again are no dead ones, whatever becomes of them later.
            self.may_renew &= connected.is_none();
            let now = self.shared.clock.now();
            let about = Circumstances { now, connected, chance: rand::random() };
            let renews = self.may_renew && refuses_credentials(end);
            let next = self.policy.after(end, about);
            let pause = policy::pause(end, self.policy.care());
            if let Some(until) = pause {
                self.shared.pace.slow_down(until);
            }
            // First the truth, then the tidying up, which may take its time.
            let due = self.announce(if renews { Next::Dial } else { next }).await;
            if let Some(until) = pause {
                self.remember_pause(until).await;
            }
            if let Ok(ended) = ended {
                ended.close(&self.ingest).await;
            }
            let Some(due) = due else { return };
            if renews && self.renew().await.is_break() {
                return;
            }
            if self.wait(due).await.is_break() {
                return;
            }
        }
    }

    /// Writes down until when no session is to dial: whatever becomes of this one, a restart of the process does not
    /// forget it.
    async fn remember_pause(&self, until: UnixMillis) {
        let installation = self.shared.store.installation();
        let paused = self.stop.run_until_cancelled(installation.pause_dials(until)).await;
        if let Some(Err(error)) = paused {
            tracing::error!(
                error = &error as &dyn std::error::Error,
                "That all dials pause could not be written down"
            );
        }
    }

    /// Says what becomes of the session, and answers when it is dialled again, by the clock that nobody sets; none
    /// for never.
    async fn announce(&mut self, next: Next) -> Option<Duration> {
        self.urgent = false;
        let clock = &self.shared.clock;
        let (event, care, due) = match next {
            Next::Dial => {
                let event = Event::ChangeState(Change::Connecting);
                (Some(event), self.policy.care(), Some(clock.monotonic()))
            }
            Next::Again(event, care) => {
                (Some(event), care, care.next_attempt_at.map(|at| clock.when(at)))
            }
            Next::End(event, care) => (event, care, None),
        };
        if due.is_none() {
            // Whoever starts the session from now on begins a new run.
            self.commands.close();
        }
        let Some(event) = event else { return due };
        self.seems_ended = matches!(event, Event::AuthFailure(_) | Event::Disconnected(_));
        self.lost = matches!(event, Event::ChangeState(Change::Reconnecting { .. }));
        let outdated = matches!(event, Event::AuthFailure(AuthFailure::ClientOutdated));
        self.say(event, care).await;
        if outdated {
            self.shared.factory.version_refused();
        }
        if self.unsaid {
            self.commands.close();
            return None;
        }
        due
    }

    /// Records an event, unless the session is to stop before the database takes it.
    async fn say(&mut self, event: Event, care: Care) {
        let said = self.stop.run_until_cancelled(self.ingest.say_with(event, care)).await;
        self.unsaid |= said == Some(false);
    }

    /// Waits while WhatsApp wants no dials from here, and says so. Breaks when the session is to
    /// stop.
    async fn wait_for_whatsapp(&mut self, paused: Paused) -> ControlFlow<()> {
        let Paused { until, due } = paused;
        let change =
            Change::Reconnecting { reason: Loss::RateLimited, next_attempt_at: Some(until) };
        let care = Care { next_attempt_at: Some(until), ..self.policy.care() };
        self.seems_ended = false;
        self.say(Event::ChangeState(change), care).await;
        // Nobody holds a phone in his hand for as long as that.
        for held in self.held.drain(..) {
            if let Command::Pair { answer, .. } = held {
                answer.send(Err(Error::Pair(PairError::Unreachable))).ok();
            }
        }
        if self.unsaid {
            return ControlFlow::Break(());
        }
        self.wait(due).await
    }

    /// Learns how recently the session was active, which decides when its turn comes: a run may be weeks old.
    async fn look_up_activity(&mut self) -> Option<()> {
        let sessions = self.shared.store.sessions();
        let row = self.stop.run_until_cancelled(sessions.find_by_key(&self.row.id)).await?;
        // Who cannot be looked up waits as before: what is wrong is said when the dial is written down.
        if let Ok(Some(row)) = row {
            self.row.last_active_at = row.last_active_at;
        }
        Some(())
    }

    /// Waits for a turn to dial. None when the session is to stop.
    async fn turn(&mut self) -> Option<Permit> {
        self.look_up_activity().await?;
        let pace = self.shared.pace.clone();
        loop {
            let rank =
                if self.urgent { Rank::operator() } else { Rank::routine(self.row.last_active_at) };
            if self.seems_ended && pace.paused(rank).is_none() {
                self.seems_ended = false;
                let care = Care { next_attempt_at: None, ..self.policy.care() };
                self.say(Event::ChangeState(Change::Connecting), care).await;
                if self.unsaid {
                    return None;
                }
            }
            tokio::select! {
                biased;
                () = self.stop.cancelled() => return None,
                Some(command) = self.commands.recv() => match command {
                    Command::Dial => self.urgent = true,
                    Command::Send { message, answer } => self.outbox.expect(message, answer),
                    Command::MediaHosts { .. } | Command::RenewMedia { .. } => {}
                    // Somebody holds a phone in his hand: answered as soon as there is a client.
                    Command::Pair { .. } => {
                        self.urgent = true;
                        self.held.push(command);
                    }
                    Command::Logout { answer } => {
                        answer.send(LoggedOut { unlinked: false }).ok();
                        return None;
                    }
                },
                turn = pace.turn(rank) => match turn {
                    Ok(permit) => return Some(permit),
                    Err(paused) => {
                        if self.wait_for_whatsapp(paused).await.is_break() {
                            return None;
                        }
                    }
                },
            }
        }
    }

    /// Makes the device anew, after WhatsApp has refused the old one again. Breaks when the session is
    /// to stop.
    async fn renew(&mut self) -> ControlFlow<()> {
        self.may_renew = false;
        let (store, key) = (&self.shared.store, &self.row.id);
        let made = async {
            device::erase(store, self.device_id).await?;
            device::create(store, key).await
        };
        match self.stop.run_until_cancelled(made).await {
            None => return ControlFlow::Break(()),
            Some(Ok(device_id)) => self.device_id = device_id,
            Some(Err(error)) => {
                tracing::error!(
                    error = &error as &dyn std::error::Error,
                    "A device could not be made anew"
                );
                // Nobody dials any more, though it was just said that somebody does.
                self.commands.close();
                self.say(Event::Disconnected(Disconnect::Failed), self.policy.care()).await;
                return ControlFlow::Break(());
            }
        }
        ControlFlow::Continue(())
    }

    /// One client, from its dial to its end. None when the session is to stop.
    async fn connect(&mut self) -> Option<Result<Ended, End>> {
        let permit = self.turn().await?;
        if std::mem::take(&mut self.lost) {
            self.shared.pace.counts_again();
        }
        let stop = self.stop.clone();
        let failures = self.policy.dialling();
        // Before it is true: a process that crashes while it dials has dialled.
        let sessions = self.shared.store.sessions();
        let note = sessions.note_dial(&self.row.id, failures);
        if let Err(error) = stop.run_until_cancelled(note).await? {
            tracing::error!(
                error = &error as &dyn std::error::Error,
                "A dial could not be written down"
            );
            return Some(Err(End::Lost(Loss::ClientFailed)));
        }
        let backend = device::Backend::new(self.shared.store.clone(), self.device_id, &self.row.id);
        let opening = self.shared.factory.open(
            backend,
            self.ingest.clone(),
            Arc::clone(&self.tenure),
            self.known.clone(),
        );
        let (link, signals) = match stop.run_until_cancelled(opening).await? {
            Ok(opened) => opened,
            Err(error) => {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "A client could not be started"
                );
                return Some(Err(End::Lost(error.loss())));
            }
        };
        let lent = Lent {
            commands: &mut self.commands,
            stop: &self.stop,
            restart: &self.restart,
            ingest: &self.ingest,
            outbox: &mut self.outbox,
            clock: &self.shared.clock,
            tracker: &self.shared.tracker,
            recovery: Recovery::new(
                self.shared.store.clone(),
                self.shared.clock.clone(),
                self.row.id.clone(),
                self.asked.clone(),
            ),
            unreadable: &self.shared.unreadable,
            known: &mut self.known,
            on_other_account: self.shared.options.on_other_account,
        };
        let held = std::mem::take(&mut self.held);
        Some(Ok(Online::new(link, signals, permit, lent).run(held).await))
    }

    /// Waits for the next try, until [`Clock::monotonic`] has come to `due`. Breaks when the session is to stop.
    async fn wait(&mut self, due: Duration) -> ControlFlow<()> {
        loop {
            tokio::select! {
                biased;
                () = self.stop.cancelled() => return ControlFlow::Break(()),
                Some(command) = self.commands.recv() => match command {
                    Command::Dial => {
                        self.urgent = true;
                        return ControlFlow::Continue(());
                    }
                    Command::Pair { answer, .. } => {
                        answer.send(Err(Error::Pair(PairError::Unreachable))).ok();
                    }
                    Command::Send { message, answer } => self.outbox.expect(message, answer),
                    Command::MediaHosts { .. } | Command::RenewMedia { .. } => {}
                    Command::Logout { answer } => {
                        answer.send(LoggedOut { unlinked: false }).ok();
                        return ControlFlow::Break(());
                    }
                },
                () = self.shared.clock.sleep_until_monotonic(due) => return ControlFlow::Continue(()),
            }
        }
    }
}

/// Whether WhatsApp says that these credentials are good for nothing.
fn refuses_credentials(end: &End) -> bool {
    matches!(
        end,
        End::Ended(Disconnect::LoggedOut { .. })
            | End::Refused(AuthFailure::CredentialsRefused { .. })
    )
}
