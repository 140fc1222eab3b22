//! How many descriptors this process may have open, and how many sessions that is enough for.

use rustix::process::{Resource, getrlimit};

/// Descriptors that a daemon uses without sessions: database, listener, requests, webhooks.
const BASE: u64 = 700;

/// The limit (`LimitNOFILE=`, `ulimit -n`); none if there is none.
pub fn limit() -> Option<u64> {
    getrlimit(Resource::Nofile).current
}

/// About so many sessions: each has one socket, and two while it dials or fetches media.
pub fn sessions_within(limit: u64) -> u64 {
    limit.saturating_sub(BASE) * 10 / 11
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_usual_limits_are_enough_for_what_they_are_enough_for() {
        assert_eq!(sessions_within(256), 0);
        assert_eq!(sessions_within(1024), 294);
        assert_eq!(sessions_within(65_536), 58_941);
    }
}
