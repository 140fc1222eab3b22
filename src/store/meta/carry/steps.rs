//! What is large is carried out in steps, of which each is a unit of the writer's: an address book may hold a hundred
//! thousand people, and whoever writes beside it is not to wait for all of them.
//!
//! How far something has come is in its row, written with what was done; so whoever dies in between has lost no step, and
//! whoever has it next goes on from there.

use std::time::Duration;

use entity::meta::event;
use sea_orm::{ConnectionTrait, DatabaseTransaction, DbErr, Statement};

use super::{Effect, Work};
use crate::store::{Store, nodes};

/// Why something large is not all written though the rest of it is: a stable word.
pub const PARTLY_UNWRITTEN: &str = "partly_unwritten";

/// The most of one step. Each of them costs some ten statements, or three.
const MESSAGES: usize = 50;
const PEOPLE: usize = 100;

/// How something large is divided: into steps, of which one that cannot be written is taken message by message; and a
/// message that cannot be is passed over, so that those behind it are not lost with it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Steps {
    is_single: bool,
    passes_over: bool,
    has_gap: bool,
}

impl Steps {
    /// As the row of something says that it was left.
    pub fn of(row: &event::Model) -> Self {
        let has_gap = row.progress > 0 && row.error.as_deref() == Some(PARTLY_UNWRITTEN);
        Self { has_gap, ..Self::default() }
    }

    /// Whether something was passed over.
    pub const fn has_gap(self) -> bool {
        self.has_gap
    }

    /// A step is written: everything up to there.
    pub fn went(&mut self, progress: i32) {
        self.passes_over = false;
        let is_next = usize::try_from(progress).is_ok_and(|it| it.is_multiple_of(MESSAGES));
        self.is_single &= !is_next;
    }

    /// A step could not be written. Whether there is another way.
    pub const fn failed(&mut self, effect: &Effect) -> bool {
        let Effect::Past(messages) = effect else { return false };
        if messages.len() < 2 || self.passes_over {
            return false;
        }
        (self.passes_over, self.has_gap) = (self.is_single, self.has_gap || self.is_single);
        self.is_single = true;
        true
    }

    /// Whether all that can be written is, and some is not.
    pub fn is_over(self, progress: i32, effect: &Effect) -> bool {
        let Effect::Past(messages) = effect else { return false };
        self.has_gap && usize::try_from(progress).is_ok_and(|it| it >= messages.len())
    }
}

/// A part of something, and how far it will have come then. None when that is all of it.
pub(super) fn next(work: &Work) -> (Work, Option<i32>) {
    let done = usize::try_from(work.event.progress).unwrap_or(0);
    let Steps { is_single, passes_over, has_gap } = work.steps;
    let (effect, end) = match &work.effect {
        Effect::Past(messages) => {
            let most = if is_single { 1 } else { MESSAGES };
            let (part, end) = part(messages, done, most);
            let part = if passes_over { Vec::new() } else { part };
            // With a gap it is not all of it.
            (Effect::Past(part), end.or(has_gap.then_some(messages.len())))
        }
        Effect::People(people) => {
            let (part, end) = part(people, done, PEOPLE);
            (Effect::People(part), end)
        }
        whole => (whole.clone(), None),
    };
    let Work { event, number, waba, own, flaw, steps, .. } = work;
    let (number, waba, own) = (number.clone(), waba.clone(), own.clone());
    let step = Work { event: event.clone(), effect, number, waba, own, flaw: *flaw, steps: *steps };
    (step, end.and_then(|end| i32::try_from(end).ok()))
}

fn part<T: Clone>(all: &[T], done: usize, most: usize) -> (Vec<T>, Option<usize>) {
    let begin = done.min(all.len());
    let end = begin.saturating_add(most).min(all.len());
    (all[begin..end].to_vec(), (end < all.len()).then_some(end))
}

/// Writes down how far something has come, if it is still whose token it has. It stays his for another `lease`.
pub(super) async fn advance(
    store: &Store,
    txn: &DatabaseTransaction,
    Work { event: row, steps, .. }: &Work,
    progress: i32,
    lease: Duration,
) -> Result<bool, DbErr> {
    let error = steps.has_gap.then_some(PARTLY_UNWRITTEN);
    let now = nodes::time_in_sql(store);
    let advance = format!(
        "UPDATE meta_event SET progress = $1, lease_until = {now} + $2, error = $3 \
         WHERE id = $4 AND claim = $5 AND state = 'waiting'"
    );
    let values = [
        progress.into(),
        nodes::millis(lease).into(),
        error.into(),
        row.id.as_str().into(),
        row.claim.into(),
    ];
    let advance = Statement::from_sql_and_values(txn.get_database_backend(), advance, values);
    Ok(txn.execute_raw(advance).await?.rows_affected() > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parts_of_something_are_all_of_it_in_its_order() {
        for count in [0, 1, 99, 100, 101, 250, 300] {
            let all: Vec<usize> = (0..count).collect();
            let (mut seen, mut done, mut steps) = (Vec::new(), 0, 0);
            loop {
                let (some, end) = part(&all, done, 100);
                assert!(some.len() <= 100);
                seen.extend(some);
                steps += 1;
                let Some(end) = end else { break };
                done = end;
            }
            assert_eq!(seen, all);
            assert_eq!(steps, count.div_ceil(100).max(1));
        }
        // What was shorter when it was read again.
        assert_eq!(part(&[1, 2], 7, 100), (vec![], None));
    }
}
