//! What follows for an endpoint from how it answers: the breaker, alerts, and its being disabled.
//!
//! | it | then |
//! |---|---|
//! | fails ten times in a row | the breaker opens: nothing is sent for 30 s, 1 min, … 30 min; then one probe |
//! | lets a probe fail | the breaker opens again, for twice as long |
//! | answers 429, 502, 503, 504, or says `Retry-After` | nothing is sent for so long (5 s to an hour) |
//! | succeeds | all of that is forgotten |
//! | opens the breaker, or has failed for 15 minutes | it is told as failing, and as recovered by its next success |
//! | answers 410 | it is disabled as gone |
//! | has failed for `disable_after`, 50 times at least | it is disabled as failing |

use std::time::Duration;

use entity::{
    UnixMillis,
    webhook::{health, state::DisabledReason},
};

use super::schedule::LONGEST_RETRY_AFTER;

/// Failures in a row that open the breaker.
pub const OPENS_AFTER: i32 = 10;

/// How long the breaker is open for the first time, and at most.
const OPEN: (Duration, Duration) = (Duration::from_secs(30), Duration::from_mins(30));

/// What a receiver that wants fewer requests is left alone for, if it does not say.
const THROTTLE: Duration = Duration::from_secs(5);

/// When failing is worth telling although the breaker is closed.
const TELLS_AFTER: (i32, Duration) = (4, Duration::from_mins(15));

/// Failures without which no endpoint is disabled, however long it has failed.
const DISABLES_AFTER: i32 = 50;

/// Giving up deliveries is told once in so long.
const EXHAUSTED_ALERTS: Duration = Duration::from_hours(1);

/// How one attempt ended, as far as its endpoint is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sign {
    Success,
    /// A delivery was given up without a request: that says nothing of the receiver, and is told.
    GivenUp,
    Failure {
        /// The receiver wants fewer requests; with how long it wants none, if it says so.
        throttle: Option<Option<Duration>>,
        /// It answered 410.
        gone: bool,
        /// The delivery was given up with it.
        exhausted: bool,
        /// It was the one that a half-open breaker let through.
        probe: bool,
    },
}

/// What is to be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Alert {
    Failing,
    Recovered,
    Exhausted,
}

/// What follows from some attempts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    pub alerts: Vec<Alert>,
    pub disable: Option<DisabledReason>,
}

/// How the breaker is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Breaker {
    Closed,
    /// Or held at the receiver's wish.
    Open,
    /// One probe is allowed.
    HalfOpen,
}

/// The breaker of an endpoint at `now`.
pub fn breaker(failures: i32, hold_until: Option<UnixMillis>, now: UnixMillis) -> Breaker {
    // A hold that ends further ahead than any is set comes from a clock that was wrong.
    let holds = hold_until.is_some_and(|until| {
        until > now && until.since(now) <= LONGEST_RETRY_AFTER + Duration::from_secs(1)
    });
    match (holds, failures >= OPENS_AFTER) {
        (true, _) => Breaker::Open,
        (false, true) => Breaker::HalfOpen,
        (false, false) => Breaker::Closed,
    }
}

/// Notes how attempts ended, in order, and says what follows.
pub fn learn(
    row: &mut health::Model,
    signs: &[Sign],
    now: UnixMillis,
    disable_after: Duration,
) -> Verdict {
    let mut verdict = Verdict::default();
    for sign in signs {
        match *sign {
            Sign::Success => {
                if row.alerted != 0 {
                    verdict.alerts.push(Alert::Recovered);
                }
                row.consecutive_failures = 0;
                row.first_failure_at = None;
                row.hold_until = None;
                row.opens = 0;
                row.alerted = 0;
                row.last_success_at = Some(now);
            }
            Sign::Failure { throttle, gone, exhausted, probe } => {
                fail(row, throttle, probe, now);
                if gone {
                    verdict.disable = Some(DisabledReason::Gone);
                }
                if exhausted {
                    give_up(row, &mut verdict, now);
                }
            }
            Sign::GivenUp => give_up(row, &mut verdict, now),
        }
    }
    let failing_for = row.first_failure_at.map_or(Duration::ZERO, |since| now.since(since));
    let failing = row.consecutive_failures >= OPENS_AFTER
        || (row.consecutive_failures >= TELLS_AFTER.0 && failing_for >= TELLS_AFTER.1);
    if failing && row.alerted == 0 {
        row.alerted = 1;
        verdict.alerts.push(Alert::Failing);
    }
    if row.consecutive_failures >= DISABLES_AFTER && failing_for >= disable_after {
        verdict.disable = verdict.disable.or(Some(DisabledReason::Failing));
    }
    verdict
}

#[expect(clippy::option_option, reason = "as in `Sign`: whether, and if said for how long")]
fn fail(row: &mut health::Model, throttle: Option<Option<Duration>>, probe: bool, now: UnixMillis) {
    if probe {
        // Set while the probe was under way, so that nobody sends a second one.
        row.hold_until = None;
    }
    // What was in flight when the breaker opened says nothing new.
    let open = breaker(row.consecutive_failures, row.hold_until, now) == Breaker::Open;
    row.consecutive_failures = row.consecutive_failures.saturating_add(1);
    row.first_failure_at = row.first_failure_at.or(Some(now));
    row.last_failure_at = Some(now);
    if let Some(asked) = throttle {
        let time = asked.unwrap_or(THROTTLE).clamp(THROTTLE, LONGEST_RETRY_AFTER);
        row.hold_until = row.hold_until.max(Some(now + time));
    }
    if row.consecutive_failures >= OPENS_AFTER && !open {
        row.opens = row.opens.saturating_add(1);
        row.hold_until = row.hold_until.max(Some(now + open_for(row.opens)));
    }
}

/// How long the breaker is open that has opened so often in a row.
fn open_for(opens: i32) -> Duration {
    OPEN.0.saturating_mul(1 << opens.saturating_sub(1).clamp(0, 10)).min(OPEN.1)
}

/// Whether nothing is sent for the breaker's sake alone. What is held for longer than it would be, is held at the receiver's wish,
/// or while a probe is under way.
pub fn is_the_breakers(row: &health::Model) -> bool {
    let own = row.last_failure_at.map(|at| at + open_for(row.opens));
    row.consecutive_failures >= OPENS_AFTER && row.hold_until <= own
}

fn give_up(row: &mut health::Model, verdict: &mut Verdict, now: UnixMillis) {
    if told_long_ago(row.exhausted_alert_at, now) {
        row.exhausted_alert_at = Some(now);
        verdict.alerts.push(Alert::Exhausted);
    }
}

fn told_long_ago(at: Option<UnixMillis>, now: UnixMillis) -> bool {
    at.is_none_or(|at| at > now || now.since(at) >= EXHAUSTED_ALERTS)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const DAYS: Duration = Duration::from_hours(5 * 24);
    const FAILED: Sign =
        Sign::Failure { throttle: None, gone: false, exhausted: false, probe: false };

    fn row() -> health::Model {
        health::Model {
            endpoint_id: entity::id::EndpointId::new(UnixMillis(0), 1),
            consecutive_failures: 0,
            first_failure_at: None,
            last_failure_at: None,
            last_success_at: None,
            hold_until: None,
            opens: 0,
            alerted: 0,
            exhausted_alert_at: None,
        }
    }

    fn state(row: &health::Model, now: UnixMillis) -> Breaker {
        breaker(row.consecutive_failures, row.hold_until, now)
    }

    #[test]
    fn the_breaker_opens_lets_one_probe_through_and_closes() {
        let (mut row, now) = (row(), UnixMillis(1_000));
        assert_eq!(learn(&mut row, &[FAILED; 9], now, DAYS), Verdict::default());
        assert_eq!(state(&row, now), Breaker::Closed);
        let verdict = learn(&mut row, &[FAILED], now, DAYS);
        assert_eq!(verdict.alerts, [Alert::Failing]);
        assert_eq!(state(&row, now), Breaker::Open);

        // Three that were in flight change nothing.
        let until = row.hold_until;
        learn(&mut row, &[FAILED; 3], now + Duration::from_secs(3), DAYS);
        assert_eq!((row.hold_until, row.opens), (until, 1));
        assert!(is_the_breakers(&row));
        // Then the receiver says for how long it wants nothing, which is longer.
        let mut asks = row.clone();
        let throttle = Some(Some(Duration::from_mins(10)));
        let asked = Sign::Failure { throttle, gone: false, exhausted: false, probe: false };
        learn(&mut asks, &[asked], now + Duration::from_secs(3), DAYS);
        assert!(!is_the_breakers(&asks));

        let later = now + Duration::from_secs(30);
        assert_eq!(state(&row, later), Breaker::HalfOpen);
        // While the probe is under way nobody else sends one; it fails, and the next is further away.
        row.hold_until = Some(later + Duration::from_mins(2));
        assert_eq!(state(&row, later), Breaker::Open);
        assert!(!is_the_breakers(&row));
        let probe = Sign::Failure { throttle: None, gone: false, exhausted: false, probe: true };
        learn(&mut row, &[probe], later, DAYS);
        assert_eq!(row.hold_until, Some(later + Duration::from_mins(1)));

        let verdict = learn(&mut row, &[Sign::Success], later + Duration::from_mins(1), DAYS);
        assert_eq!(verdict.alerts, [Alert::Recovered]);
        assert_eq!(state(&row, later), Breaker::Closed);
    }

    #[test]
    fn only_long_and_frequent_failing_without_a_success_disables() {
        let mut row = row();
        learn(&mut row, &[FAILED; 60], UnixMillis(0), DAYS);
        let verdict = learn(&mut row, &[FAILED], UnixMillis(0) + DAYS, DAYS);
        assert_eq!(verdict.disable, Some(DisabledReason::Failing));

        learn(&mut row, &[Sign::Success, FAILED], UnixMillis(0) + DAYS, DAYS);
        let verdict = learn(&mut row, &[FAILED; 60], UnixMillis(1) + DAYS, DAYS);
        assert_eq!(verdict.disable, None);
        let gone = Sign::Failure { throttle: None, gone: true, exhausted: true, probe: false };
        let verdict = learn(&mut row, &[gone, gone], UnixMillis(1) + DAYS, DAYS);
        assert_eq!(verdict.disable, Some(DisabledReason::Gone));
        assert_eq!(verdict.alerts, [Alert::Exhausted], "once in an hour");
    }

    #[test]
    fn who_wants_fewer_requests_gets_none_for_a_while() {
        let (mut row, now) = (row(), UnixMillis(1_000));
        let asked = |seconds| Sign::Failure {
            throttle: Some(Some(Duration::from_secs(seconds))),
            gone: false,
            exhausted: false,
            probe: false,
        };
        learn(&mut row, &[asked(60)], now, DAYS);
        assert_eq!(row.hold_until, Some(now + Duration::from_mins(1)));
        assert_eq!(state(&row, now), Breaker::Open);
        assert_eq!(state(&row, now + Duration::from_mins(1)), Breaker::Closed);
        learn(&mut row, &[asked(u64::from(u32::MAX))], now, DAYS);
        assert_eq!(row.hold_until, Some(now + LONGEST_RETRY_AFTER));
    }

    proptest! {
        #[test]
        fn no_hold_lasts_longer_than_an_hour(
            signs in proptest::collection::vec(prop_oneof![Just(Sign::Success), Just(FAILED)], 0..200),
            steps in proptest::collection::vec(0_u64..100_000, 200),
        ) {
            let (mut row, mut now) = (row(), UnixMillis(0));
            for (sign, step) in signs.iter().zip(steps) {
                learn(&mut row, &[*sign], now, DAYS);
                prop_assert!(row.hold_until.is_none_or(|until| until.since(now) <= LONGEST_RETRY_AFTER));
                prop_assert_eq!(*sign == Sign::Success, row.consecutive_failures == 0);
                now = now + Duration::from_millis(step);
            }
        }
    }
}
