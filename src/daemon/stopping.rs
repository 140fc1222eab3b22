//! How long the parts of a stop may take.
//!
//! What runs in the background is told to end when the stop begins, and not only when its turn comes: so while HTTP and the
//! sessions end, what Meta is being asked comes to its end as well.

use std::time::{Duration, Instant};

use crate::{config::Config, graph, session};

/// For writing what the last tasks handed over. A database that is away is not waited for: nothing
/// was acknowledged that is not stored.
pub(super) const STORE_GRACE: Duration = Duration::from_secs(10);

/// From the beginning of a stop until the last message that Meta was asked to send has its answer, and that is written
/// down. Cut off before, nobody would know whether it was sent.
const BACKGROUND: Duration = graph::DEADLINE.saturating_add(Duration::from_secs(5));

/// How long a stop takes at most, whatever hangs. Systemd must allow more (`TimeoutStopSec`).
pub fn longest_stop(config: &Config) -> Duration {
    let sessions =
        config.http.shutdown_grace + config.whatsapp.shutdown_grace + session::LONGEST_LEAVING;
    sessions.max(BACKGROUND) + 2 * STORE_GRACE
}

/// How a stop went: which parts ended within their time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stopped {
    /// All requests were answered.
    pub http: bool,
    /// All clients closed, or were abandoned one by one.
    pub sessions: bool,
    /// The last writes were taken.
    pub store: bool,
}

impl Stopped {
    /// Whether nothing was cut off.
    pub const fn is_clean(self) -> bool {
        self.http && self.sessions && self.store
    }
}

/// A stop under way.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stopping {
    begun: Instant,
    longest: Duration,
}

impl Stopping {
    /// One that begins now.
    pub(super) fn begin(longest: Duration) -> Self {
        Self { begun: Instant::now(), longest }
    }

    /// Time for something to be written, beside what the closing of the store needs.
    pub(super) fn writing(&self) -> Duration {
        writing(self.longest, self.begun.elapsed())
    }

    /// Time for what runs in the background, which was told when the stop began.
    pub(super) fn background(&self) -> Duration {
        background(self.longest, self.begun.elapsed())
    }
}

fn writing(longest: Duration, elapsed: Duration) -> Duration {
    longest.saturating_sub(elapsed).saturating_sub(STORE_GRACE).min(STORE_GRACE)
}

fn background(longest: Duration, elapsed: Duration) -> Duration {
    BACKGROUND.saturating_sub(elapsed).max(writing(longest, elapsed))
}

#[cfg(test)]
mod tests {
    use super::{
        super::tests::{UNIT, seconds as of_unit},
        *,
    };

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn a_stop_with_the_default_configuration_is_over_before_systemd_loses_its_patience() {
        let patience = of_unit(UNIT, "TimeoutStopSec");
        let config = Config::default();
        let longest = longest_stop(&config);
        // Some seconds for a machine that is busy.
        assert!(longest + seconds(5) <= patience, "{longest:?} of {patience:?}");
        // A client that hangs is given up before the sessions' time is.
        assert!(session::LONGEST_CLOSE < config.whatsapp.shutdown_grace);
    }

    #[test]
    fn what_meta_is_asked_when_a_stop_begins_is_waited_for_as_long_as_meta_is() {
        let mut config = Config::default();
        // Whoever gives the others no time takes none from it.
        (config.http.shutdown_grace, config.whatsapp.shutdown_grace) = (seconds(1), seconds(1));
        for longest in [longest_stop(&config), longest_stop(&Config::default())] {
            for elapsed in [0, 1, 10, 33] {
                let until = seconds(elapsed) + background(longest, seconds(elapsed));
                assert!(until > graph::DEADLINE + seconds(1), "{elapsed}: {until:?}");
            }
        }
    }

    #[test]
    fn whichever_parts_hang_a_stop_takes_no_longer_than_is_said() {
        let config = Config::default();
        let longest = longest_stop(&config);
        for hangs in 0..16_u32 {
            let takes = |part: u32, most: Duration| {
                if hangs & (1 << part) == 0 { Duration::ZERO } else { most }
            };
            let sessions = config.whatsapp.shutdown_grace + session::LONGEST_LEAVING;
            let mut elapsed = takes(0, config.http.shutdown_grace) + takes(1, sessions);
            elapsed += takes(1, writing(longest, elapsed));
            elapsed += takes(2, background(longest, elapsed));
            // The last word, and the store.
            elapsed += takes(3, writing(longest, elapsed)) + takes(3, STORE_GRACE);
            assert!(elapsed <= longest, "{hangs:b}: {elapsed:?}");
        }
    }
}
