//! A rate, and how much of it may be taken at once: the generic cell rate algorithm.
//!
//! All that is kept of a caller is one point in time, at which everything would be there again. The
//! rate that comes of it is the configured one, however requests are spread.

use std::time::Duration;

/// So many at once, and one more for each interval that passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quota {
    burst: u32,
    interval: Duration,
}

/// What came of asking for one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Verdict {
    pub(super) allowed: bool,
    /// How many could be taken at once after this one.
    pub(super) remaining: u32,
    /// When all of the burst is there again.
    pub(super) reset: Duration,
    /// When the next one is there; nothing where one was given.
    pub(super) retry_after: Duration,
}

impl Quota {
    /// `requests` in each `per`, and `burst` of them at once; one at least of either.
    pub fn new(requests: u32, per: Duration, burst: u32) -> Self {
        Self { burst: burst.max(1), interval: (per / requests.max(1)).max(Duration::from_nanos(1)) }
    }

    /// The part of it that each of so many daemons gives, so that all together give it. Where there are more of them than
    /// there could be taken at once, each gives one all the same.
    pub(super) fn shared_by(self, daemons: u32) -> Self {
        let daemons = daemons.max(1);
        let burst = (self.burst / daemons).max(1);
        Self { burst, interval: self.interval.saturating_mul(daemons) }
    }

    /// How many can be taken at once.
    pub(super) fn burst(self) -> u32 {
        self.burst
    }

    /// How long it takes until a burst that was taken is there again.
    pub(super) fn window(self) -> Duration {
        self.interval.saturating_mul(self.burst)
    }

    /// How many there are in so long a time.
    pub(super) fn within(self, time: Duration) -> u128 {
        time.as_nanos() / self.interval.as_nanos()
    }

    /// Takes one, if there is one. `full_at` is what is kept.
    pub(super) fn take(self, full_at: &mut Duration, now: Duration) -> Verdict {
        let taken = full_at.saturating_sub(now);
        let retry_after = (taken + self.interval).saturating_sub(self.window());
        let allowed = retry_after.is_zero();
        let taken = if allowed { taken + self.interval } else { taken };
        *full_at = now + taken;
        let left = self.window().saturating_sub(taken);
        let remaining = left.as_nanos() / self.interval.as_nanos();
        let remaining = u32::try_from(remaining).unwrap_or(u32::MAX);
        Verdict { allowed, remaining, reset: taken, retry_after }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// How many are given to whoever asks each `step` for so long.
    fn given(quota: Quota, step: Duration, time: Duration) -> u128 {
        let (mut full_at, mut now, mut given) = (Duration::ZERO, Duration::ZERO, 0);
        while now <= time {
            given += u128::from(quota.take(&mut full_at, now).allowed);
            now += step;
        }
        given
    }

    #[test]
    fn the_rate_is_the_configured_one() {
        let step = Duration::from_millis(1);
        for (requests, per, burst) in [(50, 1, 100), (600, 60, 10), (7, 1, 1), (1, 30, 5)] {
            let quota = Quota::new(requests, Duration::from_secs(per), burst);
            let given = given(quota, step, Duration::from_mins(2));
            let owed = u128::from(requests) * 120 / u128::from(per) + u128::from(burst);
            assert!(given.abs_diff(owed) <= 1, "{given} of {owed}");
        }
    }

    #[test]
    fn daemons_that_share_a_quota_give_no_more_than_it_together() {
        let (whole, minute) = (Quota::new(10, Duration::from_secs(1), 12), Duration::from_mins(1));
        for daemons in 1..=12 {
            let part = given(whole.shared_by(daemons), Duration::from_millis(1), minute);
            let all = part * u128::from(daemons);
            let owed = given(whole, Duration::from_millis(1), minute);
            // Each may be one short: of the burst, and of what has come by the end.
            let short = 2 * u128::from(daemons);
            assert!(all <= owed + u128::from(daemons) && all + short >= owed, "{all} of {owed}");
        }
        assert_eq!(whole.shared_by(100).burst(), 1);
        assert_eq!(whole.shared_by(0), whole);
    }

    #[test]
    fn who_waits_as_long_as_told_is_given_one_and_no_sooner() {
        let quota = Quota::new(10, Duration::from_secs(1), 2);
        let (mut full_at, now) = (Duration::ZERO, Duration::from_secs(7));
        assert_eq!(quota.take(&mut full_at, now).remaining, 1);
        assert_eq!(quota.take(&mut full_at, now).remaining, 0);
        let refused = quota.take(&mut full_at, now);
        assert!(!refused.allowed);
        assert_eq!(refused.retry_after, Duration::from_millis(100));
        assert_eq!(refused.reset, Duration::from_millis(200));
        let in_time = now + refused.retry_after;
        let early = in_time.saturating_sub(Duration::from_nanos(1));
        assert!(!quota.take(&mut full_at, early).allowed);
        assert!(quota.take(&mut full_at, in_time).allowed);
    }

    proptest! {
        /// Nobody gets more than the rate and one burst, in whatever way he asks.
        #[test]
        fn no_way_of_asking_gets_more(
            requests in 1..200_u32,
            burst in 1..50_u32,
            pauses in proptest::collection::vec(0..300_u64, 1..400),
        ) {
            let quota = Quota::new(requests, Duration::from_secs(1), burst);
            let (mut full_at, mut now, mut given) = (Duration::ZERO, Duration::ZERO, 0_u128);
            for pause in pauses {
                now += Duration::from_millis(pause);
                given += u128::from(quota.take(&mut full_at, now).allowed);
            }
            let most = u128::from(burst) + now.as_nanos() / quota.interval.as_nanos();
            prop_assert!(given <= most, "{} of {}", given, most);
        }
    }
}
