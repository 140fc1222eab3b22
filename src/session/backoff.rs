//! How long a session waits before it dials again.

use std::time::Duration;

/// The longest wait for a lost connection. Long enough to leave a struggling network alone, short
/// enough that a customer's number is back soon after the network is.
const LONGEST: Duration = Duration::from_mins(4);

/// How long a connection must have lasted to prove that it is sound.
pub(super) const STABLE_AFTER: Duration = Duration::from_secs(30);

/// The wait after so many dials that have led to no connection that lasted, this one included.
///
/// | dials | 1 | 2 | 3 | 4 | 5 | 6 | 7 | 8 | 9 and on |
/// |---|---|---|---|---|---|---|---|---|---|
/// | wait (s) | 1 | 2 | 4 | 8 | 16 | 32 | 64 | 128 | 240 |
///
/// Each is moved by up to a fifth either way, so that sessions that fell together do not rise
/// together. `chance` is uniform in 0..1.
pub(super) fn wait(dials: u32, chance: f64) -> Duration {
    let base = Duration::from_secs(1 << dials.saturating_sub(1).min(8)).min(LONGEST);
    base.mul_f64(0.8 + 0.4 * chance.clamp(0.0, 1.0))
}

/// The wait after the n-th time (from 1) of something that has steps of its own; the last one is for
/// all that follow. Up to a fifth longer: what the other side asked for is not undercut.
pub(super) fn step(steps: &[Duration], times: u32, chance: f64) -> Duration {
    let at = usize::try_from(times.saturating_sub(1)).unwrap_or(usize::MAX);
    let base = steps.get(at).or(steps.last()).copied().unwrap_or(LONGEST);
    base.mul_f64(1.0 + 0.2 * chance.clamp(0.0, 1.0))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn waits_grow_to_a_bound(dials in 0u32..100, chance in 0.0f64..1.0) {
            let wait = wait(dials, chance);
            let base = Duration::from_secs(1 << dials.saturating_sub(1).min(8)).min(LONGEST);
            prop_assert!(wait >= base.mul_f64(0.79) && wait <= base.mul_f64(1.21));
        }

        #[test]
        fn steps_are_never_undercut_and_the_last_one_stays(times in 0u32..100, chance in 0.0f64..1.0) {
            let steps = [Duration::from_mins(5), Duration::from_mins(15), Duration::from_hours(1)];
            let at = usize::try_from(times.clamp(1, 3)).unwrap() - 1;
            let wait = step(&steps, times, chance);
            prop_assert!(wait >= steps[at] && wait <= steps[at].mul_f64(1.21));
        }
    }
}
