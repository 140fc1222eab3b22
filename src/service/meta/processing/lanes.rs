//! What was taken, by conversation.
//!
//! A row's lane is by the first thing that somebody is called by, and Meta may call him by another the next time: by his number, by
//! its own id of him, or by both. So lanes are joined that share anything he is called by, in what was taken or by what is known of him;
//! and what waits in another lane of his, and was not taken with the rest, is looked for.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::Taken;
use crate::{
    meta::lane,
    store::meta::{Aliases, Effect, Exchanged, Work},
};

/// Everything of one conversation together, in its order; with the conversations in the order of their first things.
pub(super) fn joined(taken: Vec<Taken>, aliases: &Aliases) -> Vec<Vec<Taken>> {
    let mut sets = Sets { above: (0..taken.len()).collect() };
    {
        let mut lanes = HashMap::<&str, usize>::new();
        let mut names = HashMap::<(Option<&str>, &str), usize>::new();
        for (at, Taken { row, work }) in taken.iter().enumerate() {
            sets.join(at, *lanes.entry(&row.lane).or_insert(at));
            let Ok(work) = work else { continue };
            for name in called(work) {
                let others = aliases.get(name).into_iter().flatten().map(String::as_str);
                for name in others.chain([name]) {
                    sets.join(at, *names.entry((work.number.as_deref(), name)).or_insert(at));
                }
            }
        }
    }
    let mut all = BTreeMap::<usize, Vec<Taken>>::new();
    for (at, taken) in taken.into_iter().enumerate() {
        all.entry(sets.first(at)).or_default().push(taken);
    }
    all.into_values().collect()
}

/// All that anybody is called by with whom something of this is exchanged.
pub(super) fn names(taken: &[Taken]) -> BTreeSet<String> {
    let works = taken.iter().filter_map(|it| it.work.as_ref().ok());
    works.flat_map(called).map(str::to_owned).collect()
}

/// The lanes that a conversation's things may have besides those that these have.
pub(super) fn elsewhere(conversation: &[Taken], aliases: &Aliases) -> BTreeSet<String> {
    let mut lanes = BTreeSet::new();
    for work in conversation.iter().filter_map(|it| it.work.as_ref().ok()) {
        let others = called(work).into_iter().filter_map(|name| aliases.get(name)).flatten();
        lanes.extend(others.map(|name| lane(work.number.as_deref(), name)));
    }
    for Taken { row, .. } in conversation {
        lanes.remove(&row.lane);
    }
    lanes
}

/// What those are called by with whom something is exchanged.
fn called(work: &Work) -> Vec<&str> {
    let exchanged = match &work.effect {
        Effect::Message(exchanged) => exchanged.as_ref(),
        Effect::Past(all) if all.len() == 1 => &all[0],
        Effect::Status { person, group: None, .. } | Effect::Call { person, .. } => {
            return person.ids.iter().map(|(_, id)| id.as_str()).collect();
        }
        Effect::Status { group: Some(group), .. } => return vec![group.as_str()],
        Effect::Past(_) | Effect::People(_) | Effect::Note { .. } | Effect::Nothing => {
            return Vec::new();
        }
    };
    let Exchanged { person, group, renamed, .. } = exchanged;
    if let Some(group) = group {
        return vec![group.as_str()];
    }
    let to = renamed.iter().flat_map(|(to, _)| &to.ids);
    person.ids.iter().chain(to).map(|(_, id)| id.as_str()).collect()
}

/// Sets of what was taken, each called by the first that is in it.
struct Sets {
    above: Vec<usize>,
}

impl Sets {
    fn first(&mut self, of: usize) -> usize {
        let mut at = of;
        while self.above[at] != at {
            self.above[at] = self.above[self.above[at]];
            at = self.above[at];
        }
        at
    }

    fn join(&mut self, one: usize, other: usize) {
        let (one, other) = (self.first(one), self.first(other));
        self.above[one.max(other)] = one.min(other);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_joined_by_something_in_between_is_one_and_called_by_its_first() {
        let mut sets = Sets { above: (0..6).collect() };
        sets.join(4, 2);
        sets.join(5, 4);
        sets.join(3, 0);
        assert_eq!((0..6).map(|at| sets.first(at)).collect::<Vec<_>>(), [0, 1, 2, 0, 2, 2]);
        sets.join(5, 3);
        assert_eq!((0..6).map(|at| sets.first(at)).collect::<Vec<_>>(), [0, 1, 0, 0, 0, 0]);
    }
}
