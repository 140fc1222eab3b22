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

    #[test]
    fn the_guide_and_the_unit_say_what_the_program_says() {
        let unit = include_str!("../systemd/wagate.service");
        let guide = include_str!("../docs/operations.md");
        let limit = unit.lines().find_map(|line| line.strip_prefix("LimitNOFILE="));
        let sessions = sessions_within(limit.unwrap().parse().unwrap());
        let about = format!("about {},{}00", sessions / 1000, sessions % 1000 / 100);
        assert!(unit.contains(&format!("{about} sessions")), "the unit does not say {about}");
        assert!(
            guide.contains(&format!("{about} by descriptors")),
            "the guide does not say {about}"
        );
        assert_eq!(BASE, 700, "both say so");
    }
}
