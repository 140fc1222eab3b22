//! One client's life, from its dial to its end.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use entity::UnixMillis;
use tokio::sync::mpsc;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    Error, LoggedOut, OnOtherAccount,
    backoff::STABLE_AFTER,
    client::{DialFailure, Link, Signal, Unrecorded},
    identity::Identity,
    ingest::Ingest,
    outbox::Outbox,
    pace::Permit,
    pairing::{Answered, Pairing},
    runner::Command,
    watch::{Pulse, TICK, Watch},
};
use crate::{
    clock::Clock,
    event::{AuthFailure, Disconnect, Event, Loss, PairingFailure},
    fault::moment,
};

/// Signals taken at a time.
const BATCH: usize = 256;

/// How long it may take from the dial until WhatsApp has let us in, refused us, or offered a code.
const LOGIN_BUDGET: Duration = Duration::from_secs(25);

/// How long catching up may take after a login. The library gives up on each of its steps long
/// before; this is for what it does not bound.
const LOADING_BUDGET: Duration = Duration::from_mins(5);

/// How long the next step of a pairing may take after a code has expired or was accepted.
///
/// The first login after a pairing waits for the phone's keys; the library asks for them after 10 s.
const NEXT_STEP: Duration = Duration::from_secs(90);

/// How long a message that is being sent may take when the session is to stop.
pub(super) const DRAIN_GRACE: Duration = Duration::from_secs(3);

/// How a client ended.
#[derive(Clone, Debug)]
pub(super) enum End {
    /// The session is to stop.
    Stopped,
    /// The device was unlinked through us.
    LoggedOut,
    /// WhatsApp ended it for good.
    Ended(Disconnect),
    /// WhatsApp refused the pairing, the credentials, the account or the client.
    Refused(AuthFailure),
    /// All its QR codes have expired.
    QrCodesExhausted,
    /// The connection was lost after it had been there, or given up.
    Lost(Loss),
    /// There was no connection.
    Dial(DialFailure),
}

/// What is left when a client has ended. The client itself is still to be closed.
#[derive(Debug)]
pub(super) struct Ended {
    pub(super) end: End,
    /// It was connected for so long that nothing is wrong with connecting.
    pub(super) stable: bool,
    link: Link,
    signals: mpsc::UnboundedReceiver<Signal>,
}

impl Ended {
    /// Closes the client: what it holds is written. Returns when the device may be opened again.
    pub(super) async fn close(self, ingest: &Ingest) {
        let Self { link, mut signals, end, .. } = self;
        let unrecorded = link.unrecorded().clone();
        link.close().await;
        // Receipts that came while it closed. Nothing else is news any more.
        let mut late = Vec::new();
        while let Ok(signal) = signals.try_recv() {
            late.push(signal);
        }
        if !is_foreign(&end) {
            record_facts(ingest, &unrecorded, late).await;
        }
    }
}

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
    Connected {
        since: UnixMillis,
    },
}

/// A client that is up, and what the runner lends it.
#[derive(Debug)]
pub(super) struct Online<'a> {
    // What it listens to.
    pub(super) signals: mpsc::UnboundedReceiver<Signal>,
    pub(super) commands: &'a mut mpsc::Receiver<Command>,
    pub(super) stop: &'a CancellationToken,

    // What it works with.
    pub(super) link: Link,
    pub(super) ingest: &'a Ingest,
    pub(super) outbox: &'a mut Outbox,
    pub(super) clock: &'a Clock,
    pub(super) tracker: &'a TaskTracker,
    unreadable: &'a AtomicU64,
    known: &'a mut Identity,
    on_other_account: OnOtherAccount,

    // What it remembers.
    phase: Phase,
    /// Held while it is dialling.
    permit: Option<Permit>,
    /// When the next step is overdue: what the library does by itself meanwhile has no bound of its
    /// own.
    deadline: Option<UnixMillis>,
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
    pub(super) ingest: &'a Ingest,
    pub(super) outbox: &'a mut Outbox,
    pub(super) clock: &'a Clock,
    pub(super) tracker: &'a TaskTracker,
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
            ingest,
            outbox,
            clock,
            tracker,
            unreadable,
            known,
            on_other_account,
        } = lent;
        Self {
            signals,
            commands,
            stop,
            link,
            ingest,
            outbox,
            clock,
            tracker,
            unreadable,
            known,
            on_other_account,
            phase: Phase::Dialling,
            permit: Some(permit),
            deadline: Some(clock.now() + LOGIN_BUDGET),
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

        let end = self
            .end
            .take()
            .unwrap_or_else(|| self.link.dial_failure().map_or(End::Lost(self.lost()), End::Dial));
        let stable = self.is_stable();
        Ended { end, stable, link: self.link, signals: self.signals }
    }

    /// Lets what is being sent get its end. Facts are recorded meanwhile, or nothing could be said;
    /// what else is reported is left in `rest`.
    async fn drain(&mut self, rest: &mut Vec<Signal>) {
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
        tokio::select! {
            () = outbox.drain(DRAIN_GRACE) => {}
            () = listen => {}
        }
    }

    async fn obey(&mut self, command: Command) {
        match command {
            // It has been dialled, or is connected.
            Command::Dial => {}
            Command::Pair { phone_number, answer } => {
                if self.link.was_paired() || !matches!(self.phase, Phase::Dialling | Phase::Pairing)
                {
                    answer.send(Err(Error::AlreadyPaired)).ok();
                    return;
                }
                self.pairing.ask(&self.link, self.clock, phone_number, answer);
            }
            Command::Send { message, answer } => self.outbox.expect(message, answer),
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

    /// Takes in what the client reports, in order.
    async fn hear(&mut self, batch: &mut Vec<Signal>) {
        let mut facts = Vec::new();
        for signal in batch.drain(..) {
            if matches!(signal, Signal::Undecryptable(_)) {
                self.unreadable.fetch_add(1, Ordering::Relaxed);
            }
            if signal.facts() > 0 {
                // What another account receives is none of this session's business.
                if self.end.as_ref().is_some_and(is_foreign) {
                    self.link.unrecorded().settle(signal.facts());
                } else {
                    facts.push(signal);
                }
                continue;
            }
            // What came before is recorded before.
            self.record_facts(&mut facts).await;
            self.change(signal).await;
        }
        self.record_facts(&mut facts).await;
    }

    /// A change of the connection.
    async fn change(&mut self, signal: Signal) {
        match signal {
            Signal::Qr(qr) => {
                self.phase = Phase::Pairing;
                self.link.expect_restart(true);
                self.has_dialled();
                let expires_at = self.clock.now() + qr.valid_for;
                // A pairing code may be good for longer.
                let good_until = self.pairing.good_until(self.clock.now());
                self.deadline = Some(good_until.unwrap_or(expires_at).max(expires_at) + NEXT_STEP);
                self.say(Event::Qr { qr: qr.code, expires_at }).await;
            }
            Signal::QrCodesExhausted { goes_on } => match self.pairing.good_until(self.clock.now())
            {
                Some(until) if goes_on => {
                    self.exhausted = true;
                    self.deadline = Some(until);
                }
                _ => self.end(End::QrCodesExhausted),
            },
            Signal::PairingCodeFailed(failure) => {
                // Of one that was never given, whoever asked is told.
                if self.pairing.withdraw() {
                    self.say(Event::PairingFailed(failure)).await;
                    if self.exhausted {
                        self.end(End::QrCodesExhausted);
                    }
                }
            }
            Signal::PasskeyRequested => self.say(Event::PasskeyRequested).await,
            Signal::PasskeyFailed => {
                self.say(Event::PairingFailed(PairingFailure::PasskeyFailed)).await;
            }
            Signal::Paired => {
                moment!("pairing.succeeded");
                // Written behind by the library: not true before it is on disk.
                if !self.link.keep_credentials().await {
                    tracing::error!("The credentials of a new pairing are not on disk yet");
                }
                moment!("pairing.kept");
                // May come after the login that it led to.
                if !matches!(self.phase, Phase::Connected { .. }) {
                    self.exhausted = false;
                    if self.phase != Phase::Loading {
                        self.phase = Phase::Paired;
                        self.deadline = Some(self.clock.now() + NEXT_STEP);
                    }
                    self.say(Event::Authenticated).await;
                }
            }
            Signal::Backlog { total } => {
                if total > 0 && !matches!(self.phase, Phase::Connected { .. }) {
                    let message = format!("Receiving what came in the meantime ({total})");
                    self.say(Event::LoadingScreen { percent: 0, message }).await;
                }
            }
            Signal::LoggedIn => {
                self.has_dialled();
                if !matches!(self.phase, Phase::Connected { .. }) {
                    self.phase = Phase::Loading;
                    self.deadline = Some(self.clock.now() + LOADING_BUDGET);
                }
            }
            Signal::Connected => {
                self.has_dialled();
                self.deadline = None;
                self.phase = Phase::Connected { since: self.clock.now() };
                self.link.expect_restart(false);
                let account = self.link.account();
                if self.known.is_not(&account) {
                    if self.on_other_account == OnOtherAccount::Refuse {
                        return self.refuse().await;
                    }
                    self.say(Event::AccountChanged(account.clone())).await;
                }
                self.known.learn(&account);
                self.say(Event::Ready(account)).await;
                self.outbox.open(self.link.sender(), self.tracker);
            }
            Signal::StreamError { code: Some(429) } => self.end(End::Lost(Loss::RateLimited)),
            Signal::StreamError { code: Some(code @ 503) } => {
                self.end(End::Lost(Loss::ServerUnavailable { code }));
            }
            // The socket may live on; if it does not, this is why.
            Signal::StreamError { code } => {
                self.stream_error = Some(Loss::StreamError { code });
            }
            Signal::Lost(Loss::ConnectionLost) => self.end(End::Lost(self.broken())),
            Signal::Lost(loss) => self.end(End::Lost(loss)),
            Signal::Ended(reason) => self.end(End::Ended(reason)),
            Signal::Refused(failure) => self.end(End::Refused(failure)),
            Signal::Banned { code, lasts } => {
                let until = self.clock.now() + lasts;
                self.end(End::Refused(AuthFailure::Banned { code, until }));
            }
            Signal::Undecryptable(_) | Signal::Ack(_) | Signal::Call(_) | Signal::Messages(_) => {}
        }
    }

    /// Unlinks the device of an account that the session does not belong to.
    async fn refuse(&mut self) {
        let mut logout = std::pin::pin!(self.link.logout());
        let unlinked = loop {
            tokio::select! {
                unlinked = &mut logout => break unlinked,
                // None of it is this session's business; nor does it keep us from saying goodbye.
                Some(signal) = self.signals.recv() => {
                    self.link.unrecorded().settle(signal.facts());
                }
            }
        };
        self.end(End::Refused(AuthFailure::OtherAccount { unlinked }));
    }

    /// WhatsApp has answered to a request for a pairing code.
    async fn settle(&mut self, answered: Answered) {
        // Before there is a QR code, the dial has its own deadline; the first one looks here.
        if let Ok(code) = &answered
            && self.phase == Phase::Pairing
        {
            self.deadline = self.deadline.max(Some(code.expires_at + NEXT_STEP));
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

    /// Whether the connection has lasted for so long that nothing is wrong with connecting.
    fn is_stable(&self) -> bool {
        matches!(
            self.phase,
            Phase::Connected { since } if self.clock.now().since(since) >= STABLE_AFTER
        )
    }

    /// Looks whether anything was received since the last look.
    async fn tick(&mut self) {
        if !self.proved && self.is_stable() {
            // Tried again at the next tick when the database is away.
            self.proved = self.ingest.sound().await;
        }
        self.next_tick = self.clock.now() + TICK;
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

    /// Records an event, unless the session is to stop before the database takes it.
    async fn say(&self, event: Event) {
        tokio::select! {
            biased;
            () = self.ingest.say(event) => {}
            () = self.stop.cancelled() => {}
        }
    }

    async fn record_facts(&self, facts: &mut Vec<Signal>) {
        if facts.is_empty() {
            return;
        }
        tokio::select! {
            biased;
            () = record_facts(self.ingest, self.link.unrecorded(), std::mem::take(facts)) => {}
            // Not acknowledged, so they come again.
            () = self.stop.cancelled() => {}
        }
    }
}

/// Returns when `deadline` has come; never, when there is none.
async fn overdue(clock: &Clock, deadline: Option<UnixMillis>) {
    match deadline {
        Some(deadline) => clock.sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

/// Whether it ended because it is linked to an account that the session does not belong to.
fn is_foreign(end: &End) -> bool {
    matches!(end, End::Refused(AuthFailure::OtherAccount { .. }))
}

/// Records facts together, so that they share a transaction; the lane keeps their order.
async fn record_facts(ingest: &Ingest, unrecorded: &Unrecorded, facts: Vec<Signal>) {
    let count = facts.iter().map(Signal::facts).sum();
    let events = facts.into_iter().flat_map(|fact| match fact {
        Signal::Undecryptable(message) => vec![(message.sent_at, Event::Ciphertext(message))],
        Signal::Ack(ack) => vec![(ack.at, Event::Ack(ack))],
        Signal::Call(call) => vec![(call.at, Event::Call(call))],
        Signal::Messages(messages) => messages
            .into_iter()
            .map(|message| (message.sent_at, Event::Message(Box::new(message))))
            .collect(),
        _ => Vec::new(),
    });
    moment!("facts.received");
    let recorded = ingest.say_all(events).await;
    moment!("facts.recorded");
    if recorded {
        unrecorded.settle(count);
    }
}
