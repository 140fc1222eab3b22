//! What is remembered of a session's troubles.
//!
//! Whoever decides what happens next after a connection has ended writes down, together with the
//! event that says so, what it needs to know when it has to decide again: after the next failure,
//! or after a restart of the process.

use entity::{UnixMillis, session, state::Trouble};

/// Troubles that a connection which has lasted does not end: somebody who takes over again and again
/// does so over sound connections, and a task may panic late.
pub const LASTING: [Trouble; 2] = [Trouble::Replaced, Trouble::Panicked];

/// The memory of one session's keeper, as its row holds it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Care {
    /// When it is dialled again; none when it is not, or at once.
    pub next_attempt_at: Option<UnixMillis>,
    /// Dials in a row that have not led to a connection that lasted.
    pub dial_failures: u32,
    /// What calls for more patience than a lost connection, and how often it has happened in a row.
    pub trouble: Option<(Trouble, u32)>,
    /// Until when WhatsApp wants no dials from this address, whosever they are.
    pub throttled_until: Option<UnixMillis>,
    /// Series of QR codes that nobody has scanned, in a row: shown to their end, or being shown.
    pub qr_rounds: u32,
}

impl Care {
    /// What a session's row remembers.
    pub fn of(row: &session::Model) -> Self {
        let count = |number: i32| u32::try_from(number).unwrap_or(0);
        Self {
            next_attempt_at: row.next_attempt_at,
            dial_failures: count(row.dial_failures),
            trouble: row.trouble.map(|trouble| (trouble, count(row.trouble_count))),
            throttled_until: row.throttled_until,
            qr_rounds: count(row.qr_rounds),
        }
    }

    /// Writes it into a session's row.
    pub fn write(&self, row: &mut session::Model) {
        let column = |number: u32| i32::try_from(number).unwrap_or(i32::MAX);
        row.next_attempt_at = self.next_attempt_at;
        row.dial_failures = column(self.dial_failures);
        row.trouble = self.trouble.map(|(trouble, _)| trouble);
        row.trouble_count = self.trouble.map_or(0, |(_, count)| column(count));
        row.throttled_until = self.throttled_until;
        row.qr_rounds = column(self.qr_rounds);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::status::tests::row;

    #[test]
    fn what_is_written_is_remembered() {
        let care = Care {
            next_attempt_at: Some(UnixMillis(7)),
            dial_failures: 3,
            trouble: Some((Trouble::AccountLocked, 2)),
            throttled_until: Some(UnixMillis(9)),
            qr_rounds: 2,
        };
        let mut row = row();
        care.write(&mut row);
        assert_eq!(Care::of(&row), care);
        Care::default().write(&mut row);
        assert_eq!(Care::of(&row), Care::default());
    }
}
