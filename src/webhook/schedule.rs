//! When a failed delivery is tried again.

use std::time::Duration;

use entity::UnixMillis;

/// What is waited after the first failed attempt, the second, and so on; the last for all that follow.
pub const DELAYS: [Duration; 10] = [
    Duration::from_secs(5),
    Duration::from_secs(30),
    Duration::from_mins(5),
    Duration::from_mins(30),
    Duration::from_hours(2),
    Duration::from_hours(5),
    Duration::from_hours(10),
    Duration::from_hours(14),
    Duration::from_hours(20),
    Duration::from_hours(24),
];

/// The longest that a delivery ever waits for its next attempt, with its jitter. One that seems to wait
/// longer was written under a clock that was wrong.
pub const LONGEST: Duration = Duration::from_hours(29);

/// The most that a receiver can ask for by `Retry-After`.
pub const LONGEST_RETRY_AFTER: Duration = Duration::from_hours(1);

/// What becomes of a delivery after a failed attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// It is tried again then.
    At(UnixMillis),
    /// It is given up.
    Exhausted,
}

/// What follows the failed attempt number `attempts`, counted from 1.
///
/// `jitter` in 0..1 spreads the delay from four to six fifths. `retry_after` is what the receiver asked
/// for: it makes the wait longer, never shorter.
pub fn next(
    attempts: u32,
    max_retries: Option<u32>,
    expires_at: UnixMillis,
    now: UnixMillis,
    retry_after: Option<Duration>,
    jitter: f64,
) -> Next {
    if max_retries.is_some_and(|most| attempts > most) {
        return Next::Exhausted;
    }
    let step = (attempts.max(1) as usize - 1).min(DELAYS.len() - 1);
    let delay = DELAYS[step].mul_f64(0.8 + 0.4 * jitter.clamp(0.0, 1.0));
    let asked = retry_after.unwrap_or_default().min(LONGEST_RETRY_AFTER);
    let at = now + delay.max(asked);
    if at >= expires_at { Next::Exhausted } else { Next::At(at) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOW: UnixMillis = UnixMillis(1_000_000);
    const NEVER: UnixMillis = UnixMillis(i64::MAX);

    proptest! {
        #[test]
        fn every_wait_is_within_its_jitter_and_the_longest(attempts in 1_u32..1000, jitter in 0.0..1.0) {
            let Next::At(at) = next(attempts, None, NEVER, NOW, None, jitter) else {
                panic!("it has no limit");
            };
            let wait = at.since(NOW);
            let step = DELAYS[(attempts as usize - 1).min(9)];
            prop_assert!(wait >= step.mul_f64(0.79) && wait <= step.mul_f64(1.21));
            prop_assert!(wait <= LONGEST);
        }
    }

    #[test]
    fn it_ends_after_the_last_retry_and_at_its_age() {
        let after = |attempts, max| next(attempts, max, NEVER, NOW, None, 0.5);
        assert_eq!(after(3, Some(3)), Next::At(NOW + Duration::from_mins(5)));
        assert_eq!(after(4, Some(3)), Next::Exhausted);
        assert_eq!(after(1, Some(0)), Next::Exhausted);
        let soon = NOW + Duration::from_secs(5);
        assert_eq!(next(1, None, soon, NOW, None, 0.5), Next::Exhausted);
    }

    #[test]
    fn a_receiver_can_ask_for_more_time_and_not_for_less() {
        let asked = |seconds| next(1, None, NEVER, NOW, Some(Duration::from_secs(seconds)), 0.5);
        assert_eq!(asked(0), Next::At(NOW + DELAYS[0]));
        assert_eq!(asked(60), Next::At(NOW + Duration::from_mins(1)));
        assert_eq!(asked(1_000_000), Next::At(NOW + LONGEST_RETRY_AFTER));
    }
}
