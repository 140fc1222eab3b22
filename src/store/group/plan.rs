//! In which order a group's work is done.
//!
//! Neighbouring events are written by one call, which costs a few statements for all of them. They
//! may overtake units of other keys on the way, never of their own: see [`plan`].

use std::collections::HashMap;

use super::Outcome;
use crate::store::{lane::Job, writer::Work};

/// Events that are written together, then units one by one. Positions in the group.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Phase {
    pub(super) events: Vec<usize>,
    pub(super) units: Vec<usize>,
}

/// Puts a group into as few calls as the order within each key allows.
///
/// Within a phase events come first. So an event can join the phase its key is in, unless a unit of
/// that key is there already; then it opens the next one. A unit stays in its key's phase.
///
/// What has been refused before it was run has no place in it.
pub(super) fn plan(group: &[Job], outcomes: &[Outcome]) -> Vec<Phase> {
    let jobs = group.iter().zip(outcomes).enumerate();
    let accepted = jobs.filter(|(_, (_, outcome))| outcome.is_ok());
    arrange(accepted.map(|(at, (job, _))| (at, &*job.key, matches!(job.work, Work::Event { .. }))))
}

fn arrange<'a>(jobs: impl Iterator<Item = (usize, &'a str, bool)>) -> Vec<Phase> {
    let mut phases: Vec<Phase> = Vec::new();
    // Where a key is: its phase, and whether the last of it there is a unit.
    let mut reached: HashMap<&str, (usize, bool)> = HashMap::new();
    for (at, key, is_event) in jobs {
        let (phase, behind_unit) = reached.get(key).copied().unwrap_or((0, false));
        let phase = if is_event && behind_unit { phase + 1 } else { phase };
        reached.insert(key, (phase, !is_event));
        if phases.len() <= phase {
            phases.resize_with(phase + 1, Phase::default);
        }
        let of = &mut phases[phase];
        if is_event { of.events.push(at) } else { of.units.push(at) }
    }
    phases
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_written_together_but_never_overtake_a_unit_of_their_own_key() {
        let phases = arrange(
            [
                ("a", true),
                ("b", false),
                ("a", true),
                ("b", true), // behind its unit: next phase
                ("c", true),
                ("a", false),
                ("b", false),
                ("a", true), // behind its unit: next phase
            ]
            .into_iter()
            .enumerate()
            .map(|(at, (key, is_event))| (at, key, is_event)),
        );
        assert_eq!(
            phases,
            [
                Phase { events: vec![0, 2, 4], units: vec![1, 5] },
                Phase { events: vec![3, 7], units: vec![6] },
            ]
        );
    }
}
