//! How long a session waits before it dials again.

use std::time::Duration;

/// Waits of one session that keeps failing to connect.
///
/// | failure | 1 | 2 | 3 | 4 | 5 | 6 | 7 | 8 | 9 and on |
/// |---|---|---|---|---|---|---|---|---|---|
/// | wait (s) | 1 | 2 | 4 | 8 | 16 | 32 | 64 | 128 | 240 |
///
/// Each is moved by up to a fifth either way, so that sessions that fell together do not rise
/// together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Backoff {
    failures: u32,
}

/// The longest wait. Long enough to leave a struggling network alone, short enough that a
/// customer's number is back soon after the network is.
const LONGEST: Duration = Duration::from_mins(4);

/// How long a connection must have lasted to prove that it is sound.
pub(super) const STABLE_AFTER: Duration = Duration::from_secs(30);

impl Backoff {
    /// The next wait. `chance` is uniform in 0..1.
    pub(super) fn next(&mut self, chance: f64) -> Duration {
        let base = Duration::from_secs(1 << self.failures.min(8)).min(LONGEST);
        self.failures = self.failures.saturating_add(1);
        base.mul_f64(0.8 + 0.4 * chance.clamp(0.0, 1.0))
    }

    /// A connection has lasted: the next failure is a first one again.
    pub(super) fn reset(&mut self) {
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn waits_grow_to_a_bound_and_start_over(chances in proptest::collection::vec(0.0f64..1.0, 1..50)) {
            let mut backoff = Backoff::default();
            for (n, chance) in chances.iter().enumerate() {
                let base = Duration::from_secs(1 << n.min(8)).min(LONGEST);
                let wait = backoff.next(*chance);
                prop_assert!(wait >= base.mul_f64(0.79) && wait <= base.mul_f64(1.21));
            }
            backoff.reset();
            prop_assert!(backoff.next(1.0) <= Duration::from_millis(1_200));
        }
    }
}
