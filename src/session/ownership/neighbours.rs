//! Daemons that have fallen silent: their sockets are cut before their sessions are free.
//!
//! A daemon stops at two thirds of its lease by its own measure, which begins before the database
//! writes how long it lives. So one whose row has not moved for two thirds of what was left to it,
//! by our measure, has no socket any more, or is paused or dead: what its sessions' statuses claim is
//! not true. That is said then, without waiting for the rest of the lease. Earlier nobody could know:
//! a renewal that is late looks the same, and the sockets are up.

use std::{collections::HashMap, time::Duration};

use entity::id::NodeId;

use crate::store::nodes::Life;

/// What was seen of each other daemon.
#[derive(Debug, Default)]
pub(super) struct Neighbours(HashMap<NodeId, Seen>);

#[derive(Debug)]
struct Seen {
    life: Life,
    /// When its row was first seen like that, by the monotonic clock.
    since: Duration,
    /// The most that was ever left to it.
    longest: Duration,
}

impl Neighbours {
    /// Takes in who lives `now`, by the monotonic clock, and answers who has certainly cut its sockets.
    pub(super) fn silent(&mut self, lives: Vec<Life>, now: Duration) -> Vec<Life> {
        self.0.retain(|node, _| lives.iter().any(|life| life.node == *node));
        let mut silent = Vec::new();
        for life in lives {
            let seen = self.0.entry(life.node.clone()).or_insert_with(|| Seen {
                life: life.clone(),
                since: now,
                longest: life.left,
            });
            seen.longest = seen.longest.max(life.left);
            if seen.life.expires_at != life.expires_at {
                // What was left before may have been by another clock.
                seen.longest = life.left;
                (seen.life, seen.since) = (life, now);
            } else if now.saturating_sub(seen.since) >= super::certain(seen.longest) {
                silent.push(life);
            }
        }
        silent
    }
}

#[cfg(test)]
mod tests {
    use entity::UnixMillis;
    use proptest::prelude::*;

    use super::*;

    const LEASE: u64 = 30_000;

    fn node() -> NodeId {
        NodeId::new(UnixMillis(0), 1)
    }

    /// A daemon that renewed at `renewed`, as it is seen at `now`.
    fn life(renewed: u64, now: u64) -> Life {
        let expires_at = renewed + LEASE;
        Life {
            node: node(),
            expires_at: UnixMillis(i64::try_from(expires_at).unwrap()),
            left: Duration::from_millis(expires_at.saturating_sub(now)),
        }
    }

    #[test]
    fn one_that_renews_is_never_silent_and_one_that_does_not_is_within_two_thirds_and_a_look() {
        let mut neighbours = Neighbours::default();
        let mut look = |renewed, now: u64| {
            neighbours.silent(vec![life(renewed, now)], Duration::from_millis(now)).len()
        };
        for now in (0..100_000).step_by(1_000) {
            assert_eq!(look(now / 5_000 * 5_000, now), 0, "{now}");
        }
        let first = (100_000..130_000).step_by(1_000).find(|now| look(95_000, *now) > 0);
        assert_eq!(first, Some(115_000));
        // Once more, as the daemon may have written late that it is connected.
        assert_eq!(look(95_000, 116_000), 1);
        // Back again after all.
        assert_eq!(look(117_000, 117_000), 0);
    }

    proptest! {
        #[test]
        fn nobody_is_silent_whose_sockets_may_be_up(
            renewals in proptest::collection::vec(0u64..19_000, 1..8),
            from in 0u64..60_000,
            step in 1u64..9_000,
        ) {
            let mut times = vec![0];
            for pause in renewals {
                times.push(times.last().unwrap() + pause);
            }
            let mut neighbours = Neighbours::default();
            for now in (from..200_000).step_by(usize::try_from(step).unwrap()) {
                let renewed = *times.iter().rfind(|at| **at <= now).unwrap();
                if now >= renewed + LEASE {
                    break;
                }
                let silent =
                    neighbours.silent(vec![life(renewed, now)], Duration::from_millis(now));
                prop_assert!(silent.is_empty() || now >= renewed + LEASE * 2 / 3);
            }
        }
    }
}
