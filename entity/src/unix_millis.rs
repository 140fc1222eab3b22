//! Points in time, as the database keeps them.

use std::{ops::Add, time::Duration};

use sea_orm::DeriveValueType;
use serde::{Deserialize, Serialize};

/// Milliseconds since the Unix epoch.
///
/// Stored as an integer on purpose: SQLite has no date type, and RFC 3339 text does not sort
/// (`…:20Z` comes *after* `…:20.5Z`), so "is it due yet?" would be wrong within the second.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    DeriveValueType,
)]
#[serde(transparent)]
pub struct UnixMillis(pub i64);

impl UnixMillis {
    /// The point in time `seconds` after the epoch, as WhatsApp's stanzas and Meta's payloads count.
    pub const fn from_secs(seconds: i64) -> Self {
        Self(seconds.saturating_mul(1000))
    }

    /// Whole seconds since the epoch.
    pub const fn as_secs(self) -> i64 {
        self.0.div_euclid(1000)
    }

    /// How long after `earlier` this is; zero when it is not after it.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }
}

impl Add<Duration> for UnixMillis {
    type Output = Self;

    fn add(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_never_wraps() {
        assert_eq!(UnixMillis(i64::MAX) + Duration::MAX, UnixMillis(i64::MAX));
        assert_eq!(UnixMillis(5).since(UnixMillis(10)), Duration::ZERO);
        assert_eq!(UnixMillis(1500).since(UnixMillis(500)), Duration::from_secs(1));
    }

    #[test]
    fn seconds_before_the_epoch_round_down() {
        assert_eq!(UnixMillis(-1).as_secs(), -1);
    }
}
