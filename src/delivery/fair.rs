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

/// Gives `free` places out, one at a time, to the organization that holds the fewest, and within it in
/// turns; none gets beyond `most` of them. Returns how many each want gets.
///
/// `held` is what organizations hold already.
pub(super) fn allot(
    wants: &[Want],
    held: &HashMap<OrganizationId, usize>,
    most: usize,
    free: usize,
) -> Vec<usize> {
    let mut given = vec![0; wants.len()];
    // Per organization: what it holds, its wants that are not satisfied, and whose turn it is.
    let mut queues: HashMap<&OrganizationId, (usize, Vec<usize>, usize)> = HashMap::new();
    for (at, want) in wants.iter().enumerate().filter(|(_, want)| want.places > 0) {
        let holds = held.get(&want.organization).copied().unwrap_or(0);
        queues.entry(&want.organization).or_insert((holds, Vec::new(), 0)).1.push(at);
    }
    let mut queues: Vec<_> = queues.into_values().collect();
    for _ in 0..free {
        let hungry = queues.iter_mut().filter(|(holds, open, _)| *holds < most && !open.is_empty());
        let Some((holds, open, turn)) = hungry.min_by_key(|(holds, _, _)| *holds) else { break };
        let at = *turn % open.len();
        let want = open[at];
        given[want] += 1;
        *holds += 1;
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
            most in 1_usize..50,
        ) {
            let held: HashMap<_, _> =
                held.into_iter().enumerate().map(|(n, h)| (organization(u8::try_from(n).unwrap()), h)).collect();
            let wants: Vec<_> = wants
                .into_iter()
                .map(|(number, places)| Want { organization: organization(number), places })
                .collect();
            let given = allot(&wants, &held, most, free);
            let mut holds = held.clone();
            for (want, given) in wants.iter().zip(&given) {
                prop_assert!(*given <= want.places);
                *holds.entry(want.organization.clone()).or_default() += given;
            }
            let total: usize = given.iter().sum();
            prop_assert!(total <= free);
            for (organization, now) in &holds {
                prop_assert!(*now <= most.max(held[organization]));
            }
            if total < free {
                for (want, given) in wants.iter().zip(&given) {
                    prop_assert!(*given == want.places || holds[&want.organization] >= most);
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
        assert_eq!(allot(&wants, &held, 100, 4), [1, 3]);
    }
}
