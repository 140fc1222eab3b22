//! Who of those who wait comes into the next group.
//!
//! Half of the places are for those who have waited longest. For the other half keys take turns: the first of each, then
//! the second of each. So whoever hands over much at once, a session that receives thousands of messages, keeps those
//! behind it waiting for a group or two and not for all of its own; and a key that many share, as one of all webhooks,
//! does not get one place beside hundreds of sessions. The order within a key is kept, which is the only one that is
//! promised.

use std::collections::{HashMap, VecDeque};

/// Takes at most `limit` out of a queue, in its order.
pub(super) fn take<T>(queue: &mut VecDeque<T>, limit: usize, key: impl Fn(&T) -> &str) -> Vec<T> {
    let mut taken: Vec<T> = queue.drain(..queue.len().min(limit.div_ceil(2))).collect();
    let limit = limit - taken.len();
    if queue.len() <= limit {
        taken.extend(queue.drain(..));
        return taken;
    }
    let turns = turns(queue, key);
    let last = last_turn(&turns, limit);
    let before = turns.iter().filter(|turn| **turn < last).count();
    // Of the last turn there is not a place for each: those who have waited longest come first.
    let mut places = limit.saturating_sub(before);
    let mut left = VecDeque::with_capacity(queue.len());
    for (job, turn) in std::mem::take(queue).into_iter().zip(turns) {
        if turn < last {
            taken.push(job);
        } else if turn == last && places > 0 {
            places -= 1;
            taken.push(job);
        } else {
            left.push_back(job);
        }
    }
    *queue = left;
    taken
}

/// For each who waits, how many of the same key are before it.
fn turns<T>(queue: &VecDeque<T>, key: impl Fn(&T) -> &str) -> Vec<usize> {
    let mut seen: HashMap<&str, usize> = HashMap::new();
    let turns = queue.iter().map(|job| {
        let before = seen.entry(key(job)).or_default();
        *before += 1;
        *before - 1
    });
    turns.collect()
}

/// The first turn that does not fit into `limit` as a whole, with all that are before it.
fn last_turn(turns: &[usize], limit: usize) -> usize {
    let mut sizes = vec![0_usize; turns.len()];
    for turn in turns {
        if let Some(size) = sizes.get_mut(*turn) {
            *size += 1;
        }
    }
    let mut fit = 0;
    let fits = sizes.iter().take_while(|size| {
        fit += **size;
        fit <= limit
    });
    fits.count()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(queue: &str, limit: usize) -> (String, String) {
        let mut queue: VecDeque<String> = queue.split_whitespace().map(str::to_owned).collect();
        let taken = take(&mut queue, limit, |job| &job[..1]);
        (taken.join(" "), queue.into_iter().collect::<Vec<_>>().join(" "))
    }

    fn pair(taken: &str, left: &str) -> (String, String) {
        (taken.to_owned(), left.to_owned())
    }

    #[test]
    fn all_are_taken_where_there_is_a_place_for_each() {
        assert_eq!(taken("a1 b1 a2", 3), pair("a1 b1 a2", ""));
        assert_eq!(taken("", 3), pair("", ""));
    }

    #[test]
    fn one_who_hands_over_much_keeps_nobody_waiting() {
        assert_eq!(taken("a1 a2 a3 a4 a5 b1", 4), pair("a1 a2 a3 b1", "a4 a5"));
        assert_eq!(taken("a1 a2 a3 a4 b1 a5 b2", 6), pair("a1 a2 a3 a4 b1 a5", "b2"));
    }

    #[test]
    fn a_key_that_many_share_has_more_than_a_place_beside_many_others() {
        assert_eq!(taken("s1 s2 s3 a1 b1 c1 d1 e1", 6), pair("s1 s2 s3 a1 b1 c1", "d1 e1"));
    }

    #[test]
    fn places_of_the_last_turn_are_for_those_who_have_waited_longest() {
        assert_eq!(taken("a1 b1 c1 d1", 2), pair("a1 b1", "c1 d1"));
        assert_eq!(taken("a1 a2 b1 b2 c1 c2", 5), pair("a1 a2 b1 b2 c1", "c2"));
    }

    #[test]
    fn the_order_of_a_key_is_kept_whatever_the_limit() {
        let queue = "a1 b1 a2 c1 c2 c3 a3 b2 a4 d1";
        for limit in 1..=10 {
            let (first, rest) = taken(queue, limit);
            assert_eq!(first.split_whitespace().count(), limit);
            for key in ["a", "b", "c", "d"] {
                let of = |text: &str| -> Vec<String> {
                    let some = text.split_whitespace().filter(|job| job.starts_with(key));
                    some.map(str::to_owned).collect()
                };
                assert_eq!([of(&first), of(&rest)].concat(), of(queue), "{limit}");
            }
        }
    }
}
