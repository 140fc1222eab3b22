//! When a message is sent again that WhatsApp has not taken, and when it has failed.
//!
//! A server that is overloaded (5xx), or that an account writes too much to (429), refuses what it takes a
//! little later. One whose acknowledgement is lost says nothing at all, and it is not known whether the
//! recipient has the message: it is sent again under its id, which whoever has it recognises.
//!
//! | tries that came to nothing | 1 | 2 | 3 | 4 | 5 | 6 … 9 | 10, or six hours after the first |
//! |---|---|---|---|---|---|---|---|
//! | refused: sent again after | 5 s | 15 s | 30 s | 1 min | 2 min | 5 min | never: it has failed, with the code |
//!
//! Each wait is up to a fifth longer, and no shorter than WhatsApp asks for. What is not acknowledged is
//! sent three times; then it has failed as `unconfirmed`, which a late acknowledgement corrects.

use std::time::Duration;

use entity::{UnixMillis, message};

use crate::{session::backoff, store::messages::PutOff};

/// How often a message is sent before it has failed.
const MOST_TRIES: i16 = 10;

/// For how long, counted from the first refusal.
const LONGEST: Duration = Duration::from_hours(6);

/// How often in a row without an answer.
const MOST_UNANSWERED: u8 = 3;

const WAITS: [Duration; 6] = [
    Duration::from_secs(5),
    Duration::from_secs(15),
    Duration::from_secs(30),
    Duration::from_mins(1),
    Duration::from_mins(2),
    Duration::from_mins(5),
];

/// Nothing that the server asks for keeps a message waiting for longer than this.
const LONGEST_ASKED_FOR: Duration = Duration::from_hours(1);

/// The word for a message that WhatsApp has never acknowledged.
pub(super) const UNCONFIRMED: &str = "unconfirmed";

/// Whether WhatsApp means a refusal with this code for the moment only.
pub(in crate::session) const fn passes(code: u16) -> bool {
    matches!(code, 429 | 500..=599)
}

/// A refusal for the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::session) struct Refusal {
    pub(in crate::session) code: u16,
    /// How long WhatsApp wants us to wait, if it says so.
    pub(in crate::session) after: Option<Duration>,
}

impl Refusal {
    /// The wait after so many refusals in a row.
    pub(super) fn wait(self, times: u32, chance: f64) -> Duration {
        let asked = self.after.unwrap_or_default().min(LONGEST_ASKED_FOR);
        backoff::step(&WAITS, times, chance).max(asked)
    }
}

/// What was tried of a message so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Tries {
    failed: i16,
    since: Option<UnixMillis>,
}

impl Tries {
    pub(super) const fn of(row: &message::Model) -> Self {
        Self { failed: row.failed_attempts, since: row.put_off_since }
    }

    /// It was refused for the moment. None when for the last time.
    pub(super) fn refused(self, why: Refusal, now: UnixMillis, chance: f64) -> Option<PutOff> {
        let failed = self.failed.saturating_add(1);
        let since = self.since.unwrap_or(now);
        if failed >= MOST_TRIES || now.since(since) >= LONGEST {
            return None;
        }
        let wait = why.wait(failed.unsigned_abs().into(), chance);
        Some(PutOff {
            failed_attempts: failed,
            since: Some(since),
            next_attempt_at: Some(now + wait),
            error: why.code.to_string(),
        })
    }

    /// Nothing was said of it, so many times in a row. None when for the last time.
    pub(super) fn unanswered(self, in_a_row: u8) -> Option<PutOff> {
        let failed = self.failed.saturating_add(1);
        if failed >= MOST_TRIES || in_a_row >= MOST_UNANSWERED {
            return None;
        }
        Some(PutOff {
            failed_attempts: failed,
            since: self.since,
            next_attempt_at: None,
            error: UNCONFIRMED.to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: UnixMillis = UnixMillis(1_000_000);
    const NEW: Tries = Tries { failed: 0, since: None };
    const BUSY: Refusal = Refusal { code: 503, after: None };

    #[test]
    fn a_message_is_put_off_for_longer_and_longer_and_fails_at_last() {
        let (mut tries, mut now) = (NEW, NOW);
        for n in 1..MOST_TRIES {
            let put_off = tries.refused(BUSY, now, 0.5).expect("it is sent again");
            let until = put_off.next_attempt_at.unwrap();
            let least = WAITS[usize::try_from(n - 1).unwrap().min(WAITS.len() - 1)];
            assert!(until.since(now) >= least && until.since(now) <= least.mul_f64(1.21));
            assert_eq!((put_off.failed_attempts, put_off.since), (n, Some(NOW)));
            tries = Tries { failed: put_off.failed_attempts, since: put_off.since };
            now = until;
        }
        assert_eq!(tries.refused(BUSY, now, 0.5), None);
    }

    #[test]
    fn a_server_may_ask_for_a_wait_within_bounds_and_age_is_one_too() {
        let asked = |wait| Refusal { code: 429, after: Some(wait) };
        let until = |wait| NEW.refused(asked(wait), NOW, 0.0).unwrap().next_attempt_at;
        assert_eq!(until(Duration::from_mins(20)), Some(NOW + Duration::from_mins(20)));
        assert_eq!(until(Duration::from_hours(200)), Some(NOW + LONGEST_ASKED_FOR));
        let old = Tries { failed: 1, since: Some(NOW) };
        assert_eq!(old.refused(BUSY, NOW + LONGEST, 0.0), None);
    }

    #[test]
    fn what_is_never_acknowledged_is_given_up_sooner() {
        let again = NEW.unanswered(1).unwrap();
        assert_eq!((again.failed_attempts, again.next_attempt_at), (1, None));
        assert_eq!(again.error, UNCONFIRMED);
        assert!(NEW.unanswered(2).is_some());
        assert_eq!(NEW.unanswered(3), None);
        assert_eq!(Tries { failed: 9, since: None }.unanswered(1), None);
    }

    #[test]
    fn what_is_wrong_with_the_message_itself_does_not_pass() {
        for (code, is_passing) in
            [(429, true), (500, true), (503, true), (404, false), (463, false), (479, false)]
        {
            assert_eq!(passes(code), is_passing, "{code}");
        }
    }
}
