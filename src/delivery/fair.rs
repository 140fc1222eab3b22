//! Who gets the places when there are fewer than wanted.

use std::collections::HashMap;

use entity::id::OrganizationId;

/// An endpoint that could use places.
#[derive(Clone, Debug)]
pub(super) struct Want {
    pub(super) organization: OrganizationId,
    /// At most so many.
    pub(super) places: usize,
}

/// Of what others do not hold, an organization may have three parts of four: so many together, and there
/// is still something left for the next.
const fn most(all: usize, others: usize) -> usize {
    let most = all.saturating_sub(others) * 3 / 4;
    if most == 0 { 1 } else { most }
}

/// Gives `free` of `all` places out, one at a time, to the organization that holds the fewest, and within
/// it in turns, of which the first is that of `round`. Returns how many each want gets.
///
/// `held` is what organizations hold already.
pub(super) fn allot(
    wants: &[Want],
    held: &HashMap<OrganizationId, usize>,
    all: usize,
    free: usize,
    round: usize,
) -> Vec<usize> {
    let mut given = vec![0; wants.len()];
    let mut total: usize = held.values().sum();
    // Per organization: what it holds, its wants that are not satisfied, and whose turn it is.
    let mut queues: HashMap<&OrganizationId, (usize, Vec<usize>, usize)> = HashMap::new();
    for (at, want) in wants.iter().enumerate().filter(|(_, want)| want.places > 0) {
        let holds = held.get(&want.organization).copied().unwrap_or(0);
        queues.entry(&want.organization).or_insert((holds, Vec::new(), round)).1.push(at);
    }
    let mut queues: Vec<_> = queues.into_values().collect();
    for _ in 0..free {
        let hungry = queues
            .iter_mut()
            .filter(|(holds, open, _)| *holds < most(all, total - *holds) && !open.is_empty());
        let Some((holds, open, turn)) = hungry.min_by_key(|(holds, _, _)| *holds) else { break };
        let at = *turn % open.len();
        let want = open[at];
        given[want] += 1;
        *holds += 1;
        total += 1;
        if given[want] >= wants[want].places {
            open.remove(at);
            *turn = at;
        } else {
            *turn = at + 1;
        }
    }
    given
}

#[cfg(test)]
mod tests {
    use entity::UnixMillis;
    use proptest::prelude::*;

    use super::*;

    fn organization(number: u8) -> OrganizationId {
        OrganizationId::new(UnixMillis(0), u128::from(number))
    }

    proptest! {
        #[test]
        fn nobody_gets_more_than_wanted_and_nothing_is_left_that_somebody_could_have(
            wants in proptest::collection::vec((0_u8..5, 0_usize..20), 0..40),
            held in proptest::collection::vec(0_usize..20, 5),
            free in 0_usize..100,
            all in 1_usize..200,
            round in 0_usize..50,
        ) {
            let held: HashMap<_, _> =
                held.into_iter().enumerate().map(|(n, h)| (organization(u8::try_from(n).unwrap()), h)).collect();
            let wants: Vec<_> = wants
                .into_iter()
                .map(|(number, places)| Want { organization: organization(number), places })
                .collect();
            let given = allot(&wants, &held, all, free, round);
            let mut holds = held.clone();
            for (want, given) in wants.iter().zip(&given) {
                prop_assert!(*given <= want.places);
                *holds.entry(want.organization.clone()).or_default() += given;
            }
            let total: usize = given.iter().sum();
            prop_assert!(total <= free);
            let (before, after): (usize, usize) = (held.values().sum(), holds.values().sum());
            for (organization, now) in &holds {
                // Others hold no less now than when it was given its last one.
                let had = held[organization];
                prop_assert!(*now <= most(all, before - had).max(had));
            }
            if total < free {
                for (want, given) in wants.iter().zip(&given) {
                    let now = holds[&want.organization];
                    prop_assert!(*given == want.places || now >= most(all, after - now));
                }
            }
        }
    }

    #[test]
    fn a_newcomer_is_served_before_one_who_holds_many() {
        let wants = [
            Want { organization: organization(1), places: 100 },
            Want { organization: organization(2), places: 3 },
        ];
        let held = HashMap::from([(organization(1), 10)]);
        assert_eq!(allot(&wants, &held, 200, 4, 0), [1, 3]);
    }

    #[test]
    fn however_many_hold_all_that_they_may_there_is_something_left_for_the_next() {
        let mut held = HashMap::new();
        for (number, gets) in [(1, 192), (2, 48), (3, 12), (4, 3), (5, 1)] {
            let wants = [Want { organization: organization(number), places: 1_000 }];
            let free = 256 - held.values().sum::<usize>();
            assert_eq!(allot(&wants, &held, 256, free, 0), [gets], "{number}");
            held.insert(organization(number), gets);
        }
    }

    #[test]
    fn places_that_come_free_one_by_one_go_to_each_endpoint_in_turn() {
        let wants = [1, 1, 1].map(|number| Want { organization: organization(number), places: 9 });
        let of = |round| allot(&wants, &HashMap::new(), 100, 1, round);
        assert_eq!([of(0), of(1), of(2), of(3)], [[1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 0, 0]]);
    }
}
