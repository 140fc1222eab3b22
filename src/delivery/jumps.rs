//! The machine's clock being set while we run.
//!
//! What is owed has times of the wall clock in its row: when it is tried again, and when it is given up. Set back by
//! hours, that clock would have each wait for so much longer; set days ahead, it would have all of it given up for
//! its age in one look. So what passes by the wall is compared with what passes (`Clock::monotonic`), and rows are
//! put right by the difference: see `crate::store::webhooks`.

use std::time::Duration;

use crate::clock::Clock;

/// What less is of no account: nobody waits much longer for it, and no clock is exact.
const LEAST: i64 = 60_000;

/// Notices that the wall clock was set.
#[derive(Debug)]
pub(super) struct Jumps {
    /// The wall clock beyond the time that has passed, in milliseconds.
    beyond: i64,
}

impl Jumps {
    pub(super) fn new(clock: &Clock) -> Self {
        Self { beyond: beyond(clock) }
    }

    /// By how many milliseconds the wall clock was set ahead (or back, below zero) since the last look that
    /// was [noted](Self::note). None if it goes as it went.
    pub(super) fn look(&self, clock: &Clock) -> Option<i64> {
        let jump = beyond(clock).saturating_sub(self.beyond);
        (jump.abs() >= LEAST).then_some(jump)
    }

    /// Goes by a clock that was set by so much.
    pub(super) const fn note(&mut self, jump: i64) {
        self.beyond = self.beyond.saturating_add(jump);
    }
}

fn beyond(clock: &Clock) -> i64 {
    let passed = |time: Duration| i64::try_from(time.as_millis()).unwrap_or(i64::MAX);
    clock.now().0.saturating_sub(passed(clock.monotonic()))
}

#[cfg(test)]
mod tests {
    use entity::UnixMillis;

    use super::*;

    #[test]
    fn time_that_passes_is_no_jump_and_a_clock_that_is_set_is_one() {
        let clock = Clock::manual(UnixMillis(1_000_000_000));
        let mut jumps = Jumps::new(&clock);
        clock.advance(Duration::from_hours(100));
        assert_eq!(jumps.look(&clock), None);
        clock.set_back(Duration::from_hours(5));
        assert_eq!(jumps.look(&clock), Some(-5 * 3_600_000));
        jumps.note(-5 * 3_600_000);
        assert_eq!(jumps.look(&clock), None);
        clock.set_ahead(Duration::from_hours(1));
        assert_eq!(jumps.look(&clock), Some(3_600_000));
        jumps.note(3_600_000);
        clock.set_ahead(Duration::from_secs(59));
        assert_eq!(jumps.look(&clock), None);
    }
}
