//! Bounds of an endpoint's numbers.

use std::{ops::RangeInclusive, time::Duration};

/// Requests at a time.
pub const IN_FLIGHT: RangeInclusive<i64> = 1..=100;

/// Requests a second.
pub const RATE: RangeInclusive<i64> = 1..=10_000;

/// Milliseconds that one request may take, body included.
pub const TIMEOUT_MS: RangeInclusive<i64> = 1_000..=30_000;

/// Tries after the first.
pub const RETRIES: RangeInclusive<i64> = 0..=100;

/// For which a delivery is tried; the longest time is the operator's to decide.
pub const SHORTEST_AGE: Duration = Duration::from_mins(1);

/// Events that a replay looks at in a second.
pub const REPLAY_RATE: RangeInclusive<i64> = 1..=200;
