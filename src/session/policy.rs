//! What to do when a client has ended: the one table from reasons to what happens next.
//!
//! | a client ended because | the session is | next |
//! |---|---|---|
//! | it is to stop, or was logged out here | | the run ends; whoever asked says so |
//! | logged out on the phone, credentials, pairing or account refused | ended | nothing, until somebody starts it |
//! | another client took over | ended | nothing; or one late try, if configured |
//! | its QR codes ran out | pairing | new codes, so many times, restarts of the process included; then nothing |
//! | banned until a time | `auth_failure` | dialled again a little after that time, and if it says so again, not before 5, 15, 60, 60, … minutes |
//! | the account is locked | `auth_failure` | after 5, 15, 60, 60, … minutes |
//! | this client version is outdated | `auth_failure` | after 1, 5, 15, 60, … minutes, with WhatsApp's version asked anew |
//! | refused for an unknown reason | `auth_failure` | after 5, 15, 60, 60, … minutes |
//! | rate limited (429) when it is let in | reconnecting | after 30 s, 1, 2, 4, 8, 15 minutes; it is about the account |
//! | rate limited (429) before that, by the answer to the dial | reconnecting | the same, or as long as asked for; it is about the address: all dials of the process pause, for an hour at most, and slow down |
//! | not available (503) | reconnecting | after a wait that grows, and not before the time asked for |
//! | the connection was lost, went silent, took too long, or there was none | reconnecting | after a wait that grows |
//! | a new device is offered no code: 429, 5xx | reconnecting | as when it is let in; any other code is a pairing refused |
//! | the server could not prove that it is WhatsApp | reconnecting | the same, three times in a row; then `auth_failure` for good |
//! | a task of the session's, or of its client's, panicked | reconnecting | after 30 s, 1, 2, 4 minutes; the fifth time in a row `error` |
//!
//! What has to be remembered for that is a [`Care`], which goes into the session's row in the
//! transaction of the event that tells what happened. A connection that has lasted clears it; so does
//! an operator's start. A restart of the process clears nothing: [`resume`] goes on where it was.
//! Credentials are never deleted here.

use std::time::Duration;

use entity::{
    UnixMillis, session,
    state::{DesiredState, SessionStatus, Trouble},
};

use super::{
    backoff::{self, STABLE_AFTER},
    client::DialFailure,
    online::End,
};
use crate::event::{AuthFailure, Care, Change, Disconnect, Event, LASTING, Loss};

/// Handshakes that may fail in a row before we say that this is not WhatsApp. One may fail because
/// a certificate that we remember is out of date; the library forgets it, and the next one tells.
const MAX_REFUSED_HANDSHAKES: u32 = 3;

/// Panics in a row before a session is left alone.
const MAX_PANICS: u32 = 5;

/// How long a session must have been connected for its next panic to be a first one again.
const SOUND_AFTER: Duration = Duration::from_mins(10);

/// Who asks for fewer dials is not dialled sooner than this, whatever it says.
const SHORTEST_ASKED_FOR: Duration = Duration::from_secs(5);

/// Nothing that the server asks for keeps a session away for longer than this without a new try.
const LONGEST_ASKED_FOR: Duration = Duration::from_hours(24);

/// All dials of the process pause no longer than this for what one of them was told.
pub(super) const LONGEST_PAUSE: Duration = Duration::from_hours(1);

/// Waits for a refusal that may pass: a lock that is dialled into lasts longer.
const REFUSED: [Duration; 3] =
    [Duration::from_mins(5), Duration::from_mins(15), Duration::from_hours(1)];

/// Waits for a version that WhatsApp takes. The first is short, as asking for it usually helps.
const OUTDATED: [Duration; 4] = [
    Duration::from_mins(1),
    Duration::from_mins(5),
    Duration::from_mins(15),
    Duration::from_hours(1),
];

/// Waits when WhatsApp wants fewer dials and does not say until when.
const RATE_LIMITED: [Duration; 6] = [
    Duration::from_secs(30),
    Duration::from_mins(1),
    Duration::from_mins(2),
    Duration::from_mins(4),
    Duration::from_mins(8),
    Duration::from_mins(15),
];

/// Waits after a panic. Each also is time for its client to close.
const PANICKED: [Duration; 4] = [
    Duration::from_secs(30),
    Duration::from_mins(1),
    Duration::from_mins(2),
    Duration::from_mins(4),
];

/// How much later than a ban's end the account is dialled again, at least.
const AFTER_BAN: Duration = Duration::from_secs(30);

/// And how much later than that at most.
const AFTER_BAN_SPREAD: Duration = Duration::from_secs(270);

/// What to do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Dial again at once: there are new codes to show.
    Dial,
    /// Say this, and dial again when the care says so.
    Again(Event, Care),
    /// End the run, saying why; nothing when somebody else does.
    End(Option<Event>, Care),
}

/// What a decision depends on besides what has happened.
#[derive(Clone, Copy, Debug)]
pub(super) struct Circumstances {
    pub(super) now: UnixMillis,
    /// How long it had been connected; none if it was not.
    pub(super) connected: Option<Duration>,
    /// Uniform in 0..1.
    pub(super) chance: f64,
}

/// The rules, as configured.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rules {
    pub(super) max_qr_rounds: u32,
    /// After this long a connection that somebody else took over is tried once more; never, if none.
    pub(super) replaced_retry_after: Option<Duration>,
}

/// The memory of one run.
#[derive(Debug)]
pub(super) struct Policy {
    rules: Rules,
    care: Care,
}

impl Policy {
    /// Goes on with what is remembered; a default [`Care`] starts afresh.
    pub(super) fn new(rules: Rules, care: Care) -> Self {
        Self { rules, care }
    }

    /// What is left to say of a session to which all the QR codes were shown that it is to have, if it is one.
    ///
    /// A series that the end of a process has cut off is shown again, though not for a second time beyond what is
    /// configured: whoever was about to scan it finds another one, and nobody else has a session dial for ever.
    pub(super) fn exhausted(&self) -> Option<Next> {
        let is_one = self.care.qr_rounds > self.rules.max_qr_rounds;
        let care = Care { next_attempt_at: None, ..self.care };
        let event = Event::Disconnected(Disconnect::QrCodesExhausted);
        is_one.then_some(Next::End(Some(event), care))
    }

    /// A dial begins: it is a failed one until its connection has lasted. Answers how many there
    /// are by now.
    pub(super) fn dialling(&mut self) -> u32 {
        self.care.next_attempt_at = None;
        self.care.dial_failures = self.care.dial_failures.saturating_add(1);
        self.care.dial_failures
    }

    /// What is remembered at this moment.
    pub(super) fn care(&self) -> Care {
        self.care
    }

    /// Decides what follows from the end of a client.
    pub(super) fn after(&mut self, end: &End, about: Circumstances) -> Next {
        let Circumstances { now, connected, chance } = about;
        self.care.next_attempt_at = None;
        if connected.is_some() {
            self.care.qr_rounds = 0;
        }
        if connected >= Some(STABLE_AFTER) {
            self.care.dial_failures = self.care.dial_failures.min(1);
            self.care.throttled_until = None;
            self.care.trouble = self.care.trouble.filter(|(trouble, _)| LASTING.contains(trouble));
        }
        match end {
            End::Stopped | End::LoggedOut => Next::End(None, self.care),
            End::QrCodesExhausted => {
                self.care.qr_rounds = self.care.qr_rounds.saturating_add(1);
                if self.care.qr_rounds < self.rules.max_qr_rounds {
                    Next::Dial
                } else {
                    self.end(Event::Disconnected(Disconnect::QrCodesExhausted))
                }
            }
            End::Ended(Disconnect::Replaced) => {
                let event = Event::Disconnected(Disconnect::Replaced);
                let times = self.trouble(Trouble::Replaced);
                match self.rules.replaced_retry_after {
                    Some(wait) if times == 1 => {
                        self.again(event, now + wait.mul_f64(1.0 + 0.2 * chance))
                    }
                    _ => self.end(event),
                }
            }
            End::Ended(reason) => self.end(Event::Disconnected(*reason)),
            End::Refused(failure) => self.refused(failure, now, chance),
            End::Panicked => self.panicked(connected >= Some(SOUND_AFTER), now, chance),
            End::Lost(Loss::RateLimited) => {
                let at = self.rate_limited(None, now, chance);
                self.reconnecting(Loss::RateLimited, at)
            }
            End::Lost(loss) => self.lost(*loss, None, now, chance),
            End::Dial(DialFailure::Unreachable) => self.lost(Loss::Unreachable, None, now, chance),
            End::Dial(DialFailure::ServerRefused) => {
                if self.trouble(Trouble::ServerNotTrusted) < MAX_REFUSED_HANDSHAKES {
                    self.lost(Loss::ServerNotTrusted, None, now, chance)
                } else {
                    self.end(Event::AuthFailure(AuthFailure::ServerNotTrusted))
                }
            }
            End::Dial(DialFailure::Upgrade { status: 429, retry_after }) => {
                let at = self.rate_limited(*retry_after, now, chance);
                // Said before anybody could know who dials: it is about the address.
                let pause = at.min(now + LONGEST_PAUSE);
                self.care.throttled_until = self.care.throttled_until.max(Some(pause));
                self.reconnecting(Loss::RateLimited, at)
            }
            End::Dial(DialFailure::Upgrade { status, retry_after }) => {
                let loss = Loss::ServerUnavailable { code: i32::from(*status) };
                self.lost(loss, *retry_after, now, chance)
            }
        }
    }

    /// WhatsApp has refused us.
    fn refused(&mut self, failure: &AuthFailure, now: UnixMillis, chance: f64) -> Next {
        let event = Event::AuthFailure(failure.clone());
        match failure {
            AuthFailure::Banned { until, .. } => {
                let times = self.trouble(Trouble::Banned);
                // However short it claims to be; and one that outlasts its claim is a lock.
                let end = (*until).max(now) + AFTER_BAN + AFTER_BAN_SPREAD.mul_f64(chance);
                let patience = if times > 1 {
                    backoff::step(&REFUSED, times - 1, chance)
                } else {
                    Duration::ZERO
                };
                self.again(event, end.max(now + patience))
            }
            AuthFailure::AccountLocked => {
                let times = self.trouble(Trouble::AccountLocked);
                self.again(event, now + backoff::step(&REFUSED, times, chance))
            }
            AuthFailure::ClientOutdated => {
                let times = self.trouble(Trouble::ClientOutdated);
                self.again(event, now + backoff::step(&OUTDATED, times, chance))
            }
            AuthFailure::ConnectRefused { .. } => {
                let times = self.trouble(Trouble::ConnectRefused);
                self.again(event, now + backoff::step(&REFUSED, times, chance))
            }
            AuthFailure::PairingRefused { .. }
            | AuthFailure::OtherAccount { .. }
            | AuthFailure::MultideviceUnavailable
            | AuthFailure::CredentialsRefused { .. }
            | AuthFailure::ServerNotTrusted => self.end(event),
        }
    }

    /// The connection was lost, or there was none. `asked`: how long the server wants us to wait.
    fn lost(&mut self, loss: Loss, asked: Option<Duration>, now: UnixMillis, chance: f64) -> Next {
        if loss != Loss::ServerNotTrusted {
            self.care.trouble =
                self.care.trouble.filter(|(trouble, _)| *trouble != Trouble::ServerNotTrusted);
        }
        let asked = asked.map_or(Duration::ZERO, |asked| asked.min(LONGEST_ASKED_FOR));
        let own = now + backoff::wait(self.care.dial_failures, chance);
        self.reconnecting(loss, own.max(now + asked))
    }

    /// WhatsApp wants fewer dials: when the next one may be. `asked`: how long it wants us to wait.
    fn rate_limited(
        &mut self,
        asked: Option<Duration>,
        now: UnixMillis,
        chance: f64,
    ) -> UnixMillis {
        let times = self.trouble(Trouble::RateLimited);
        match asked.map(|asked| asked.min(LONGEST_ASKED_FOR)) {
            // A little more than what was asked for, as everybody else was asked the same.
            Some(asked) => now + backoff::step(&[asked.max(SHORTEST_ASKED_FOR)], 1, chance),
            None => now + backoff::step(&RATE_LIMITED, times, chance),
        }
    }

    /// A task has panicked. `sound`: after so long a connection that it has nothing to do with the one before.
    fn panicked(&mut self, sound: bool, now: UnixMillis, chance: f64) -> Next {
        if sound {
            self.care.trouble = None;
        }
        let times = self.trouble(Trouble::Panicked);
        if times >= MAX_PANICS {
            self.care.next_attempt_at = None;
            return self.end(Event::Disconnected(Disconnect::Failed));
        }
        self.reconnecting(Loss::Panicked, now + backoff::step(&PANICKED, times, chance))
    }

    fn reconnecting(&mut self, loss: Loss, at: UnixMillis) -> Next {
        let waits = Change::Reconnecting { reason: loss, next_attempt_at: Some(at) };
        self.again(Event::ChangeState(waits), at)
    }

    /// Counts a trouble; answers how often it has happened in a row.
    fn trouble(&mut self, trouble: Trouble) -> u32 {
        let before = self.care.trouble.filter(|(before, _)| *before == trouble);
        let times = before.map_or(0, |(_, times)| times).saturating_add(1);
        self.care.trouble = Some((trouble, times));
        times
    }

    fn again(&mut self, event: Event, at: UnixMillis) -> Next {
        self.care.next_attempt_at = Some(at);
        Next::Again(event, self.care)
    }

    fn end(&self, event: Event) -> Next {
        Next::End(Some(event), self.care)
    }
}

/// Until when all dials of the process pause after a client has ended so, if they do.
pub(super) fn pause(end: &End, care: Care) -> Option<UnixMillis> {
    let of_the_address = matches!(end, End::Dial(DialFailure::Upgrade { status: 429, .. }));
    care.throttled_until.filter(|_| of_the_address)
}

/// Decides what follows from a panic of the session's task, from what its row says.
pub(super) fn after_panic(row: &session::Model, now: UnixMillis, chance: f64) -> Next {
    let mut policy =
        Policy::new(Rules { max_qr_rounds: 1, replaced_retry_after: None }, Care::of(row));
    let connected = row.status == SessionStatus::SessionConnected;
    let sound = row.connected_at.is_some_and(|since| now.since(since) >= SOUND_AFTER);
    policy.panicked(connected && sound, now, chance)
}

/// How a session goes on after a restart of the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Resume {
    /// It stays as it is: nobody wants it, or only a human can help.
    Not,
    /// It is dialled as soon as its turn comes.
    Now(Care),
    /// It waits for the time in the care, as it did before.
    Wait(Care),
    /// The same, and its status has to be told so: the last process did not get to.
    WaitAnew(Care),
}

/// Decides it, from what its row says.
///
/// A dial that no connection has proved sound counts as a failed one, so that a process which
/// crashes again and again dials no more often than one which cannot connect.
pub(super) fn resume(row: &session::Model, now: UnixMillis, chance: f64) -> Resume {
    if row.desired_state == DesiredState::Stopped {
        return Resume::Not;
    }
    let mut care = Care::of(row);
    if let Some(at) = care.next_attempt_at {
        if at <= now {
            // It has waited.
            care.next_attempt_at = None;
            return Resume::Now(care);
        }
        // A clock that was set back must not keep a session away: it waits no longer than it was to wait when that was
        // said. A ban ends when it ends.
        let is_banned = row.last_disconnect_reason.as_deref() == Some("banned");
        let told = row.last_disconnect_at.filter(|_| !is_banned);
        let latest = told.map(|told| now + at.since(told));
        return match latest.filter(|latest| *latest < at) {
            Some(latest) => {
                care.next_attempt_at = Some(latest);
                Resume::WaitAnew(care)
            }
            None => Resume::Wait(care),
        };
    }
    if ended_for_good(row) {
        return Resume::Not;
    }
    // One that was restored says so until it is connected: waiting would put a reason of its own there.
    let restored = row.last_disconnect_reason.as_deref() == Some(Disconnect::Restored.word())
        && super::standing::is_ended(row.status);
    let unproved = care.dial_failures > 0 && !restored;
    let Some(dialled) = row.last_dial_at.filter(|_| unproved) else {
        return Resume::Now(care);
    };
    let at = dialled + backoff::wait(care.dial_failures, chance);
    // As above.
    let at = at.min(now + backoff::wait(care.dial_failures, 1.0));
    if at <= now {
        return Resume::Now(care);
    }
    care.next_attempt_at = Some(at);
    Resume::WaitAnew(care)
}

/// Whether only a human can help.
///
/// "Stopped" is not such a reason: who wants it running again has said so since.
fn ended_for_good(row: &session::Model) -> bool {
    super::standing::is_ended(row.status)
        && row.last_disconnect_reason.as_deref().is_some_and(|reason| {
            // A restored one that shall not start by itself is no longer wanted running either.
            ![Disconnect::Stopped, Disconnect::LoggedOutHere, Disconnect::Restored]
                .iter()
                .any(|passing| reason == passing.word())
        })
}

#[cfg(test)]
#[path = "policy_tests.rs"]
mod tests;
