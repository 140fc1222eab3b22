//! What time is it; and, in tests, what time shall it be.
//!
//! Every "now" and every wait for a point in time goes through a [`Clock`], so that a test can move
//! time instead of waiting for it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use entity::UnixMillis;
use tokio::sync::Notify;

/// Counts also while the machine is suspended, where there is such a clock.
#[cfg(target_os = "linux")]
const UNSTOPPED: rustix::time::ClockId = rustix::time::ClockId::Boottime;
#[cfg(not(target_os = "linux"))]
const UNSTOPPED: rustix::time::ClockId = rustix::time::ClockId::Monotonic;

/// The source of time. Cheap to clone; clones of a manual clock move together.
#[derive(Clone, Debug)]
pub struct Clock(Source);

#[derive(Clone, Debug)]
enum Source {
    System,
    Manual(Arc<Manual>),
}

#[derive(Debug)]
struct Manual {
    /// Goes forward only.
    passed: AtomicI64,
    /// What the wall clock says beyond that.
    set_by: AtomicI64,
    moved: Notify,
}

impl Manual {
    /// Waits until a move has brought it about.
    async fn until(&self, come: impl Fn() -> bool) {
        loop {
            // Registered before the time is read, so a move in between is not missed.
            let moved = self.moved.notified();
            if come() {
                return;
            }
            moved.await;
        }
    }
}

impl Clock {
    /// The machine's own clock.
    pub const fn system() -> Self {
        Self(Source::System)
    }

    /// A clock that stands still at `now` until it is moved.
    pub fn manual(now: UnixMillis) -> Self {
        Self(Source::Manual(Arc::new(Manual {
            passed: AtomicI64::new(now.0),
            set_by: AtomicI64::new(0),
            moved: Notify::new(),
        })))
    }

    /// The present point in time.
    pub fn now(&self) -> UnixMillis {
        match &self.0 {
            // A clock before 1970 or past the year 292 million is a broken machine; stay in range.
            Source::System => UnixMillis(
                SystemTime::now()
                    .duration_since(UNIX_EPOCH)
                    .ok()
                    .and_then(|since| i64::try_from(since.as_millis()).ok())
                    .unwrap_or(0),
            ),
            Source::Manual(manual) => UnixMillis(
                manual.passed.load(Ordering::SeqCst) + manual.set_by.load(Ordering::SeqCst),
            ),
        }
    }

    /// Time that only ever goes forward, at one pace, also while the machine is suspended; since some
    /// moment in the past. Nobody's correction of the wall clock changes it.
    pub fn monotonic(&self) -> Duration {
        match &self.0 {
            Source::System => {
                let since = rustix::time::clock_gettime(UNSTOPPED);
                let whole = u64::try_from(since.tv_sec).unwrap_or(0);
                Duration::new(whole, u32::try_from(since.tv_nsec).unwrap_or(0))
            }
            Source::Manual(manual) => {
                UnixMillis(manual.passed.load(Ordering::SeqCst)).since(UnixMillis(0))
            }
        }
    }

    /// When [`Self::monotonic`] comes to the time of the day `at`, unless the wall clock is set meanwhile. Whoever
    /// waits within the process waits until then, as it is how long it waits that was decided.
    pub fn when(&self, at: UnixMillis) -> Duration {
        self.monotonic() + at.since(self.now())
    }

    /// Waits until [`Self::monotonic`] has come to `at`; returns at once when that is past.
    pub async fn sleep_until_monotonic(&self, at: Duration) {
        match &self.0 {
            // In short steps: a timer does not count the time that the machine was suspended.
            Source::System => loop {
                let left = at.saturating_sub(self.monotonic());
                if left.is_zero() {
                    return;
                }
                tokio::time::sleep(left.min(Duration::from_secs(1))).await;
            },
            Source::Manual(manual) => manual.until(|| self.monotonic() >= at).await,
        }
    }

    /// Whether this clock is moved by hand, and so goes with no other.
    pub const fn is_manual(&self) -> bool {
        matches!(self.0, Source::Manual(_))
    }

    /// Moves a manual clock forward and wakes who waits for a time that has now come.
    ///
    /// # Panics
    ///
    /// On the system clock, which is not ours to move.
    pub fn advance(&self, by: Duration) {
        match &self.0 {
            Source::System => panic!("the system clock cannot be moved"),
            Source::Manual(manual) => {
                let millis = i64::try_from(by.as_millis()).unwrap_or(i64::MAX);
                manual.passed.fetch_add(millis, Ordering::SeqCst);
                manual.moved.notify_waiters();
            }
        }
    }

    /// Sets a manual wall clock back, as an administrator may. No time passes.
    ///
    /// # Panics
    ///
    /// On the system clock, which is not ours to set.
    pub fn set_back(&self, by: Duration) {
        match &self.0 {
            Source::System => panic!("the system clock cannot be set"),
            Source::Manual(manual) => {
                let millis = i64::try_from(by.as_millis()).unwrap_or(i64::MAX);
                manual.set_by.fetch_sub(millis, Ordering::SeqCst);
                manual.moved.notify_waiters();
            }
        }
    }

    /// Sets a manual wall clock ahead. No time passes.
    ///
    /// # Panics
    ///
    /// On the system clock, which is not ours to set.
    pub fn set_ahead(&self, by: Duration) {
        match &self.0 {
            Source::System => panic!("the system clock cannot be set"),
            Source::Manual(manual) => {
                let millis = i64::try_from(by.as_millis()).unwrap_or(i64::MAX);
                manual.set_by.fetch_add(millis, Ordering::SeqCst);
                manual.moved.notify_waiters();
            }
        }
    }

    /// Waits until `at`; returns at once when that is past.
    pub async fn sleep_until(&self, at: UnixMillis) {
        match &self.0 {
            Source::System => tokio::time::sleep(at.since(self.now())).await,
            Source::Manual(manual) => manual.until(|| self.now() >= at).await,
        }
    }

    /// Waits for `duration` from now.
    pub async fn sleep(&self, duration: Duration) {
        self.sleep_until(self.now() + duration).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_manual_clock_wakes_sleepers_when_it_is_moved() {
        let clock = Clock::manual(UnixMillis(1_000));
        let sleeper = {
            let clock = clock.clone();
            async move {
                clock.sleep(Duration::from_mins(1)).await;
                clock.now()
            }
        };
        let mover = async {
            clock.advance(Duration::from_secs(59));
            tokio::task::yield_now().await;
            clock.advance(Duration::from_secs(1));
        };
        let (woken_at, ()) = tokio::join!(sleeper, mover);
        assert_eq!(woken_at, UnixMillis(61_000));
    }

    #[tokio::test]
    async fn a_clock_that_is_set_back_keeps_nobody_waiting_who_waits_for_a_time_to_pass() {
        let clock = Clock::manual(UnixMillis(7_200_000));
        let due = clock.when(UnixMillis(7_260_000));
        clock.set_back(Duration::from_hours(1));
        assert_eq!(clock.now(), UnixMillis(3_600_000));
        let waits = clock.sleep_until_monotonic(due);
        let mut waits = std::pin::pin!(waits);
        assert!(futures_util::poll!(&mut waits).is_pending());
        clock.advance(Duration::from_secs(59));
        assert!(futures_util::poll!(&mut waits).is_pending());
        clock.advance(Duration::from_secs(1));
        assert!(futures_util::poll!(&mut waits).is_ready());
        assert_eq!(clock.now(), UnixMillis(3_660_000));
    }
}
