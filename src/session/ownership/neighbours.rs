//! Daemons that have fallen silent, and those that are dead.
//!
//! A daemon stops at two thirds of its lease by its own measure, which begins before the database
//! writes how long it lives. So one whose row has not moved for two thirds of what was left to it, or of our lease if that is
//! longer, by our measure, has no socket any more, or is paused or dead: what its sessions' statuses claim is
//! not true. That is said then, without waiting for the rest of the lease. Earlier nobody could know:
//! a renewal that is late looks the same, and the sockets are up.
//!
//! By the database's clock alone a living daemon may look dead, or as if nothing was left to it: that clock may be set
//! forward, or be another machine's after a failover. So a daemon is silent, or taken for dead, only if we have seen by
//! our own clock, which only goes forward, that its row has not changed for as long.

use std::{collections::HashMap, time::Duration};

use entity::id::NodeId;

use crate::store::nodes::Life;

/// What was seen of each daemon.
#[derive(Debug, Default)]
pub(super) struct Neighbours(HashMap<NodeId, Seen>);

#[derive(Debug)]
struct Seen {
    life: Life,
    /// When its row was first seen like that, by the monotonic clock.
    since: Duration,
    /// The most that was ever left to it; a lease of ours at least.
    longest: Duration,
}

/// Daemons that say nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Lost {
    /// They have certainly cut their sockets.
    pub silent: Vec<Life>,
    /// Those of them whose rows have said the same for all that was left to them.
    pub dead: Vec<Life>,
}

impl Neighbours {
    /// Takes in who lives `now`, by the monotonic clock, and answers who is lost; `lease` is ours.
    pub(super) fn look(&mut self, lives: Vec<Life>, now: Duration, lease: Duration) -> Lost {
        self.0.retain(|node, _| lives.iter().any(|life| life.node == *node));
        let mut lost = Lost::default();
        for life in lives {
            let left = life.left.max(lease);
            let seen = self.0.entry(life.node.clone()).or_insert_with(|| Seen {
                life: life.clone(),
                since: now,
                longest: left,
            });
            if seen.life.expires_at != life.expires_at {
                // What was left before may have been by another clock.
                *seen = Seen { life, since: now, longest: left };
                continue;
            }
            seen.longest = seen.longest.max(left);
            let unchanged = now.saturating_sub(seen.since);
            if unchanged >= seen.longest {
                lost.dead.push(life.clone());
            }
            if unchanged >= super::certain(seen.longest) {
                lost.silent.push(life);
            }
        }
        lost
    }
}

#[cfg(test)]
mod tests {
    use entity::UnixMillis;
    use proptest::prelude::*;

    use super::*;

    const LEASE: u64 = 30_000;

    const fn lease() -> Duration {
        Duration::from_millis(LEASE)
    }

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
            let lives = vec![life(renewed, now)];
            neighbours.look(lives, Duration::from_millis(now), lease()).silent.len()
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

    /// A daemon's row that says this of the time, with nothing left.
    fn row(node: u128, says: i64) -> Life {
        Life {
            node: NodeId::new(UnixMillis(0), node),
            expires_at: UnixMillis(says),
            left: Duration::ZERO,
        }
    }

    #[test]
    fn one_is_dead_once_its_row_has_not_changed_for_a_lease() {
        let mut neighbours = Neighbours::default();
        let mut dead = |lives, at| neighbours.look(lives, Duration::from_secs(at), lease()).dead;
        // Whatever it says of the time.
        assert_eq!(dead(vec![row(1, 0), row(2, 90)], 100), []);
        assert_eq!(dead(vec![row(1, 0), row(2, 95)], 129), []);
        assert_eq!(dead(vec![row(1, 0), row(2, 95)], 130), [row(1, 0)]);
        assert_eq!(dead(vec![row(1, 1), row(2, 95)], 158), []);
        assert_eq!(dead(vec![row(1, 1)], 159), [], "one that has gone is forgotten");
        assert_eq!(dead(vec![row(1, 1), row(2, 95)], 160), []);
    }

    #[test]
    fn one_to_which_nothing_is_left_by_the_databases_clock_is_silent_no_earlier() {
        let mut neighbours = Neighbours::default();
        let mut silent =
            |lives, at| neighbours.look(lives, Duration::from_secs(at), lease()).silent;
        assert_eq!(silent(vec![row(1, 0)], 100), []);
        assert_eq!(silent(vec![row(1, 0)], 119), []);
        assert_eq!(silent(vec![row(1, 0)], 120), [row(1, 0)]);
        // It has said something, and is past its time again at once.
        assert_eq!(silent(vec![row(1, 1)], 121), []);
        assert_eq!(silent(vec![row(1, 1)], 140), []);
        assert_eq!(silent(vec![row(1, 1)], 141), [row(1, 1)]);
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
                let lives = vec![life(renewed, now)];
                let lost = neighbours.look(lives, Duration::from_millis(now), lease());
                prop_assert!(lost.silent.is_empty() || now >= renewed + LEASE * 2 / 3);
                prop_assert!(lost.dead.is_empty());
            }
        }
    }
}
