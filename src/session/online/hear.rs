//! What a client reports: facts are recorded, in order, and what it says of the connection moves on.

use std::{sync::atomic::Ordering, time::Duration};

use entity::state::Direction;

use super::{End, FIRST_LOGIN, NEXT_CODE, Online, Phase};
use crate::{
    event::{AuthFailure, Event, Loss, PairingFailure},
    fault::moment,
    session::{
        OnOtherAccount,
        client::{Signal, Unrecorded},
        ingest::Ingest,
    },
};

/// How long catching up may take after a login. The library gives up on each of its steps long
/// before; this is for what it does not bound.
const LOADING_BUDGET: Duration = Duration::from_mins(5);

impl Online<'_> {
    /// Takes in what the client reports, in order.
    pub(super) async fn hear(&mut self, batch: &mut Vec<Signal>) {
        let mut facts = Vec::new();
        // Whether there is something that the phone could be asked for.
        let mut unread = false;
        for signal in batch.drain(..) {
            if let Signal::Undecryptable(message) = &signal {
                self.unreadable.fetch_add(1, Ordering::Relaxed);
                unread |= message.direction == Direction::Outbound;
            }
            if let Signal::Ack(ack) = &signal {
                self.outbox.settled(ack);
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
        // One that is not connected yet looks when it is.
        if unread && matches!(self.phase, Phase::Connected { .. }) {
            self.recovery.look(&self.link);
        }
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
                let last = good_until.unwrap_or(expires_at).max(expires_at);
                self.deadline = Some(self.clock.when(last + NEXT_CODE));
                self.say(Event::Qr { qr: qr.code, expires_at }).await;
            }
            Signal::QrCodesExhausted { goes_on } => match self.pairing.good_until(self.clock.now())
            {
                Some(until) if goes_on => {
                    self.exhausted = true;
                    self.deadline = Some(self.clock.when(until));
                    self.say(Event::PairingCode { expires_at: until, is_last: true }).await;
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
                        self.deadline = Some(self.clock.monotonic() + FIRST_LOGIN);
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
                    self.deadline = Some(self.clock.monotonic() + LOADING_BUDGET);
                }
            }
            Signal::Connected => {
                self.has_dialled();
                self.deadline = None;
                self.phase = Phase::Connected { since: self.clock.monotonic() };
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
                if self.end.is_some() {
                    return;
                }
                self.outbox.open(self.link.sender(), self.link.tasks(), self.tracker);
                self.recovery.look(&self.link);
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
            Signal::Denied { code, detail } => {
                // Else it answers something that was asked, and whoever did is told.
                let is_new = self.phase == Phase::Dialling && !self.link.was_paired();
                if is_new && !self.pairing.is_asking() {
                    // Even if the end of the connection was heard of first.
                    self.end.take_if(|end| matches!(end, End::Lost(Loss::ConnectionLost)));
                    self.end(denied(code, detail));
                }
            }
            Signal::PutOff { code, refused } => {
                let put_off = self.outbox.put_off(&refused, code);
                if self.stop.run_until_cancelled(put_off).await == Some(false) {
                    let fact = self.ingest.say(Event::Ack(refused));
                    self.stop.run_until_cancelled(fact).await;
                }
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

/// How it ends when a new device is offered no code to link it with.
fn denied(code: i32, detail: String) -> End {
    match code {
        429 => End::Lost(Loss::RateLimited),
        500..=599 => End::Lost(Loss::ServerUnavailable { code }),
        _ => End::Refused(AuthFailure::PairingRefused { detail, code: Some(code) }),
    }
}

/// Whether it ended because it is linked to an account that the session does not belong to.
pub(super) fn is_foreign(end: &End) -> bool {
    matches!(end, End::Refused(AuthFailure::OtherAccount { .. }))
}

/// Records facts together, so that they share a transaction; the lane keeps their order.
pub(super) async fn record_facts(ingest: &Ingest, unrecorded: &Unrecorded, facts: Vec<Signal>) {
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
