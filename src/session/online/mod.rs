//! One client's life, from its dial to its end. `hear.rs` takes in what it reports, `end.rs` is what is
//! left of it.

mod end;
mod hear;

use std::{sync::atomic::AtomicU64, time::Duration};

use entity::UnixMillis;
use tokio::sync::mpsc;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

pub(super) use self::end::{End, Ended};
use self::hear::record_facts;
use super::{
    Error, LoggedOut, OnOtherAccount,
    backoff::STABLE_AFTER,
    client::{Link, Signal},
    identity::Identity,
    ingest::Ingest,
    outbox::Outbox,
    pace::Permit,
    pairing::{Answered, Pairing},
    recovery::Recovery,
    runner::Command,
    watch::{Pulse, TICK, Watch, at_hand, next_tick},
};
use crate::{
    clock::Clock,
    event::{Disconnect, Event, Loss},
};

/// Signals taken at a time.
const BATCH: usize = 256;

/// How long it may take from the dial until WhatsApp has let us in, refused us, or offered a code.
const LOGIN_BUDGET: Duration = Duration::from_secs(25);

/// How long the next code may take after one has expired.
const NEXT_CODE: Duration = Duration::from_secs(90);

/// How long it may take from an accepted code until WhatsApp has let us in: it restarts the stream, and what
/// follows is a dial like any other. Shorter than the watch for silence, which would call it something else.
const FIRST_LOGIN: Duration = Duration::from_secs(40);

/// How long the reason for the end of a connection may take that was overtaken by the end itself.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// How long WhatsApp may take to give a sign of life when the session is to be dialled anew. Much longer than it takes
/// on a slow network, and too short to be waited for by somebody who looks on.
const SIGN_OF_LIFE: Duration = Duration::from_secs(1);

/// How often one looks whether it has.
const LISTEN: Duration = Duration::from_millis(10);

/// How long a message that is being sent may take when the session is to stop.
pub(super) const DRAIN_GRACE: Duration = Duration::from_secs(3);

/// How far the client is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Dialling,
    /// A QR code can be scanned.
    Pairing,
    /// Paired, not yet connected.
    Paired,
    /// Logged in, not yet connected.
    Loading,
    /// Since then, by the clock that nobody sets.
    Connected {
        since: Duration,
    },
}

/// A client that is up, and what the runner lends it.
#[derive(Debug)]
pub(super) struct Online<'a> {
    // What it listens to.
    pub(super) signals: mpsc::UnboundedReceiver<Signal>,
    pub(super) commands: &'a mut mpsc::Receiver<Command>,
    pub(super) stop: &'a CancellationToken,
    /// Cancelled before `stop` where the session is to be dialled anew at once.
    restart: &'a CancellationToken,

    // What it works with.
    pub(super) link: Link,
    pub(super) ingest: &'a Ingest,
    pub(super) outbox: &'a mut Outbox,
    pub(super) clock: &'a Clock,
    pub(super) tracker: &'a TaskTracker,
    recovery: Recovery,
    unreadable: &'a AtomicU64,
    known: &'a mut Identity,
    on_other_account: OnOtherAccount,

    // What it remembers.
    phase: Phase,
    /// Held while it is dialling.
    permit: Option<Permit>,
    /// When the next step is overdue, by the clock that nobody sets: what the library does by itself
    /// meanwhile has no bound of its own.
    deadline: Option<Duration>,
    /// Notices when nothing comes any more.
    watch: Watch,
    next_tick: UnixMillis,
    /// That it is stable has been written down.
    proved: bool,
    /// What the server has said before it ends the stream.
    stream_error: Option<Loss>,
    pairing: Pairing,
    /// There are no more QR codes: it lives for its pairing code.
    exhausted: bool,
    end: Option<End>,
}

/// What a runner lends to a client.
#[derive(Debug)]
pub(super) struct Lent<'a> {
    pub(super) commands: &'a mut mpsc::Receiver<Command>,
    pub(super) stop: &'a CancellationToken,
    pub(super) restart: &'a CancellationToken,
    pub(super) ingest: &'a Ingest,
    pub(super) outbox: &'a mut Outbox,
    pub(super) clock: &'a Clock,
    pub(super) tracker: &'a TaskTracker,
    /// Asks the phone for what it wrote and we could not read.
    pub(super) recovery: Recovery,
    /// Counts messages that could not be decrypted.
    pub(super) unreadable: &'a AtomicU64,
    /// The account that the session belongs to.
    pub(super) known: &'a mut Identity,
    pub(super) on_other_account: OnOtherAccount,
}

impl<'a> Online<'a> {
    pub(super) fn new(
        link: Link,
        signals: mpsc::UnboundedReceiver<Signal>,
        permit: Permit,
        lent: Lent<'a>,
    ) -> Self {
        let Lent {
            commands,
            stop,
            restart,
            ingest,
            outbox,
            clock,
            tracker,
            recovery,
            unreadable,
            known,
            on_other_account,
        } = lent;
        Self {
            signals,
            commands,
            stop,
            restart,
            link,
            ingest,
            outbox,
            clock,
            tracker,
            recovery,
            unreadable,
            known,
            on_other_account,
            phase: Phase::Dialling,
            permit: Some(permit),
            deadline: Some(clock.monotonic() + LOGIN_BUDGET),
            watch: Watch::default(),
            next_tick: clock.now() + TICK,
            proved: false,
            stream_error: None,
            pairing: Pairing::new(),
            exhausted: false,
            end: None,
        }
    }

    /// Lives until the client ends or is ended. Does first what was held for it.
    pub(super) async fn run(mut self, held: Vec<Command>) -> Ended {
        for command in held {
            self.obey(command).await;
        }
        let mut batch = Vec::with_capacity(BATCH);
        while self.end.is_none() {
            self.next_tick = at_hand(self.next_tick, self.clock.now());
            tokio::select! {
                biased;
                () = self.stop.cancelled() => self.end = Some(End::Stopped),
                Some(command) = self.commands.recv() => self.obey(command).await,
                _ = self.signals.recv_many(&mut batch, BATCH) => self.hear(&mut batch).await,
                () = self.link.ended() => break,
                answered = self.pairing.answered() => self.settle(answered).await,
                () = overdue(self.clock, self.deadline) => self.too_late(),
                () = self.clock.sleep_until(self.next_tick) => self.tick().await,
            }
        }
        match self.end {
            Some(End::Stopped) => self.drain(&mut batch).await,
            _ => self.outbox.close(),
        }
        // What it said last may be why it ended.
        while let Ok(signal) = self.signals.try_recv() {
            batch.push(signal);
        }
        self.hear(&mut batch).await;
        self.hear_last_words(&mut batch).await;

        let end = match self.end.take() {
            // That the connection is lost as well may be its consequence.
            None | Some(End::Lost(_)) if self.link.has_panicked() => End::Panicked,
            Some(end) => end,
            None => self.link.dial_failure().map_or(End::Lost(self.lost()), End::Dial),
        };
        Ended { end, connected: self.connected(), link: self.link, signals: self.signals }
    }

    /// Waits a moment for why a new device was offered no code. The library reads that on a task of its own, which the end
    /// of the connection can overtake.
    async fn hear_last_words(&mut self, batch: &mut Vec<Signal>) {
        let until = tokio::time::Instant::now() + LAST_WORDS;
        while self.phase == Phase::Dialling
            && !self.link.was_paired()
            && self.link.is_answered()
            && matches!(self.end, None | Some(End::Lost(Loss::ConnectionLost)))
        {
            let more = tokio::time::timeout_at(until, self.signals.recv_many(batch, BATCH));
            match self.stop.run_until_cancelled(more).await {
                Some(Ok(1..)) => self.hear(batch).await,
                _ => return,
            }
        }
    }

    /// Lets what is being sent get its end. Facts are recorded meanwhile, or nothing could be said;
    /// what else is reported is left in `rest`.
    ///
    /// Who wants the session to be dialled anew may want it because nobody answers: then the connection is cut, and what
    /// is being sent is sent again, under its id, by the next one.
    async fn drain(&mut self, rest: &mut Vec<Signal>) {
        let asks = self.restart.is_cancelled()
            && matches!(self.phase, Phase::Loading | Phase::Connected { .. });
        let Self { outbox, signals, ingest, link, .. } = self;
        let listen = async {
            while let Some(signal) = signals.recv().await {
                if signal.facts() > 0 {
                    record_facts(ingest, link.unrecorded(), vec![signal]).await;
                } else {
                    rest.push(signal);
                }
            }
            std::future::pending::<()>().await;
        };
        let drained = async {
            if asks && !answers(link).await {
                link.cut();
                outbox.close();
            } else {
                outbox.drain(DRAIN_GRACE).await;
            }
        };
        tokio::select! {
            () = drained => {}
            () = listen => {}
        }
    }

    async fn obey(&mut self, command: Command) {
        match command {
            Command::Pair { phone_number, answer } => {
                if self.link.was_paired() || !matches!(self.phase, Phase::Dialling | Phase::Pairing)
                {
                    answer.send(Err(Error::AlreadyPaired)).ok();
                    return;
                }
                self.pairing.ask(&self.link, self.clock, phone_number, answer);
            }
            Command::Send { message, answer } => self.outbox.expect(message, answer),
            Command::MediaHosts { answer } if self.is_connected() => self.link.media_hosts(answer),
            Command::RenewMedia { renewal, answer } if self.is_connected() => {
                self.link.renew_media(renewal, answer);
            }
            // It has been dialled, or is connected; or it is not, and who asks is told so by no answer.
            Command::Dial | Command::MediaHosts { .. } | Command::RenewMedia { .. } => {}
            Command::Logout { answer } => {
                let mut logout = std::pin::pin!(self.link.logout());
                let mut batch = Vec::with_capacity(BATCH);
                let answered = loop {
                    // Facts are recorded meanwhile, or nothing could be said.
                    tokio::select! {
                        answered = &mut logout => break answered,
                        _ = self.signals.recv_many(&mut batch, BATCH) => {
                            self.hear(&mut batch).await;
                        }
                    }
                };
                while let Ok(signal) = self.signals.try_recv() {
                    batch.push(signal);
                }
                self.hear(&mut batch).await;
                // WhatsApp may take the device away before its answer is read.
                let removed = matches!(self.end, Some(End::Ended(Disconnect::LoggedOut { .. })));
                self.end = Some(End::LoggedOut);
                answer.send(LoggedOut { unlinked: answered || removed }).ok();
            }
        }
    }

    /// WhatsApp has answered to a request for a pairing code.
    async fn settle(&mut self, answered: Answered) {
        // Before there is a QR code, the dial has its own deadline; the first one looks here.
        if let Ok(code) = &answered
            && self.phase == Phase::Pairing
        {
            let last = self.clock.when(code.expires_at + NEXT_CODE);
            self.deadline = self.deadline.max(Some(last));
        }
        if let Some(event) = Pairing::event(&answered) {
            // Who has the answer finds it in the status too.
            self.say(event).await;
        }
        self.pairing.settle(&answered);
    }

    /// The dial has come as far as a dial can: the next one may begin.
    fn has_dialled(&mut self) {
        if let Some(permit) = self.permit.take() {
            permit.succeeded();
        }
    }

    fn is_connected(&self) -> bool {
        matches!(self.phase, Phase::Connected { .. })
    }

    /// How long it has been connected, if it is.
    fn connected(&self) -> Option<Duration> {
        match self.phase {
            Phase::Connected { since } => Some(self.clock.monotonic().saturating_sub(since)),
            _ => None,
        }
    }

    /// Whether the connection has lasted for so long that nothing is wrong with connecting.
    fn is_stable(&self) -> bool {
        self.connected() >= Some(STABLE_AFTER)
    }

    /// Looks whether anything was received since the last look.
    async fn tick(&mut self) {
        if !self.proved && self.is_stable() {
            // Tried again at the next tick when the database is away.
            self.proved = self.ingest.sound().await;
        }
        self.next_tick = next_tick(self.next_tick, self.clock.now());
        // A dial has a deadline of its own; and it is not WhatsApp that is silent while we do not
        // listen.
        if self.phase == Phase::Dialling || self.link.unrecorded().is_closed() {
            return;
        }
        match self.watch.tick(self.link.received()) {
            Pulse::Fine => {}
            Pulse::Ask => self.link.ping(),
            Pulse::Gone => self.give_up(Loss::Silent),
        }
    }

    /// The next step did not come in time.
    fn too_late(&mut self) {
        if self.exhausted {
            // Neither a QR code nor the one to type was used.
            self.end(End::QrCodesExhausted);
        } else {
            self.give_up(self.overdue());
        }
    }

    /// What has taken too long.
    fn overdue(&self) -> Loss {
        match self.phase {
            Phase::Dialling if self.link.is_answered() => Loss::LoginTimeout,
            Phase::Dialling => Loss::DialTimeout,
            Phase::Pairing | Phase::Paired => Loss::PairingTimeout,
            Phase::Loading | Phase::Connected { .. } => Loss::LoadingTimeout,
        }
    }

    /// Ends a connection that leads nowhere. There is nobody to say goodbye to.
    fn give_up(&mut self, loss: Loss) {
        self.link.cut();
        self.end(End::Lost(loss));
    }

    /// Why the connection is gone, when the client ended without saying so.
    fn lost(&self) -> Loss {
        match self.phase {
            // The library's own watch has noticed first.
            Phase::Connected { .. } if self.stream_error.is_none() => Loss::Silent,
            _ => self.broken(),
        }
    }

    /// Why the connection broke.
    fn broken(&self) -> Loss {
        self.stream_error.unwrap_or(Loss::ConnectionLost)
    }

    /// The first reason is the true one: what follows are its consequences.
    fn end(&mut self, end: End) {
        self.end.get_or_insert(end);
    }

    /// Records an event, unless the session is to stop before the database takes it. Where the database refuses it,
    /// the client ends: its status is not what it is said to be, and the next one says it again.
    async fn say(&mut self, event: Event) {
        let said = tokio::select! {
            biased;
            said = self.ingest.tell(event) => said,
            () = self.stop.cancelled() => true,
        };
        if !said {
            self.end(End::Lost(Loss::NotRecorded));
        }
    }
}

/// Whether WhatsApp gives a sign of life when it is asked for one.
async fn answers(link: &Link) -> bool {
    let before = link.received();
    link.ping();
    let heard = async {
        while link.received() == before {
            tokio::time::sleep(LISTEN).await;
        }
    };
    tokio::time::timeout(SIGN_OF_LIFE, heard).await.is_ok()
}

/// Returns when `deadline` has come; never, when there is none.
async fn overdue(clock: &Clock, deadline: Option<Duration>) {
    match deadline {
        Some(deadline) => clock.sleep_until_monotonic(deadline).await,
        None => std::future::pending().await,
    }
}
