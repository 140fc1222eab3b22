//! The faults that are waiting to happen.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

use super::{Fault, Lasting, Scope};
use crate::address::DeviceKey;
use crate::locked;

/// Names an armed fault, so that whoever armed it can take back this one and no other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FaultId(u64);

#[derive(Debug)]
struct Armed {
    id: FaultId,
    scope: Scope,
    fault: Fault,
    /// `None` for as often as it can.
    left: Option<u32>,
    until: Option<Instant>,
}

/// All that are armed, in the order they were.
#[derive(Debug, Default)]
pub(crate) struct Faults {
    armed: Mutex<Vec<Armed>>,
    /// Whether there are any, so that an undisturbed benchmark takes no lock per stanza.
    any: AtomicBool,
    ids: AtomicU64,
    /// How often each fault has happened to somebody.
    met: Mutex<Vec<(Fault, u64)>>,
}

impl Faults {
    pub(crate) fn arm(&self, scope: Scope, fault: Fault, lasting: Lasting) -> FaultId {
        let id = FaultId(self.ids.fetch_add(1, Ordering::Relaxed));
        let (left, until) = match lasting {
            Lasting::Once => (Some(1), None),
            Lasting::Times(times) => (Some(times), None),
            // A time nobody can tell from for ever is for ever.
            Lasting::Millis(millis) => {
                (None, Instant::now().checked_add(Duration::from_millis(millis)))
            }
            Lasting::UntilCleared => (None, None),
        };
        if left != Some(0) {
            locked(&self.armed).push(Armed { id, scope, fault, left, until });
            self.any.store(true, Ordering::Release);
        }
        id
    }

    /// Takes one fault back, if it has not struck for the last time.
    pub(crate) fn lift(&self, id: FaultId) {
        self.retain(|armed| armed.id != id);
    }

    pub(crate) fn clear(&self, scope: Option<&Scope>) {
        self.retain(|armed| scope.is_some_and(|scope| armed.scope != *scope));
    }

    fn retain(&self, keep: impl Fn(&Armed) -> bool) {
        let mut armed = locked(&self.armed);
        armed.retain(keep);
        self.any.store(!armed.is_empty(), Ordering::Release);
    }

    /// Takes the first fault that applies, and counts it.
    pub(crate) fn strike(
        &self,
        device: Option<&DeviceKey>,
        wanted: impl Fn(&Fault) -> bool,
    ) -> Option<Fault> {
        if !self.any.load(Ordering::Acquire) {
            return None;
        }
        let now = Instant::now();
        let mut armed = locked(&self.armed);
        armed.retain(|it| it.until.is_none_or(|until| now < until));
        let found = armed.iter().position(|it| it.scope.includes(device) && wanted(&it.fault));
        let fault = found.map(|at| {
            let fault = armed[at].fault.clone();
            if let Some(left) = &mut armed[at].left {
                *left -= 1;
                if *left == 0 {
                    armed.remove(at);
                }
            }
            fault
        });
        self.any.store(!armed.is_empty(), Ordering::Release);
        drop(armed);
        if let Some(fault) = &fault {
            self.meet(fault, 1);
        }
        fault
    }

    /// So many have met a fault.
    pub(crate) fn meet(&self, fault: &Fault, count: usize) {
        let (mut met, count) = (locked(&self.met), count as u64);
        match met.iter_mut().find(|(known, _)| known == fault) {
            Some((_, before)) => *before += count,
            None if count > 0 => met.push((fault.clone(), count)),
            None => {}
        }
    }

    /// How often each fault has happened to somebody.
    pub(crate) fn met(&self) -> Vec<(Fault, u64)> {
        locked(&self.met).clone()
    }

    /// What is armed, for `info`.
    pub(crate) fn list(&self) -> Vec<(Scope, Fault, Option<u32>)> {
        let now = Instant::now();
        let armed = locked(&self.armed);
        let armed = armed.iter().filter(|it| it.until.is_none_or(|until| now < until));
        armed.map(|it| (it.scope.clone(), it.fault.clone(), it.left)).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    const LOSE: fn(&Fault) -> bool = |fault| *fault == Fault::LoseAck;

    #[test]
    fn a_fault_strikes_whom_it_is_meant_for_as_often_as_it_is_meant_to() {
        let faults = Faults::default();
        let alice = DeviceKey::new(&Arc::from("1"), 1);
        let bob = DeviceKey::new(&Arc::from("2"), 1);
        faults.arm(Scope::Account("1".to_owned()), Fault::LoseAck, Lasting::Times(2));
        assert_eq!(faults.strike(Some(&bob), LOSE), None);
        assert_eq!(faults.strike(None, LOSE), None);
        assert!(faults.strike(Some(&alice), |fault| *fault == Fault::Drop).is_none());
        assert!(faults.strike(Some(&alice), LOSE).is_some());
        assert!(faults.strike(Some(&alice), LOSE).is_some());
        assert!(faults.strike(Some(&alice), LOSE).is_none());
        assert_eq!(faults.met(), [(Fault::LoseAck, 2)]);

        faults.arm(Scope::Everyone, Fault::Drop, Lasting::UntilCleared);
        assert!((0..9).all(|_| faults.strike(None, |fault| *fault == Fault::Drop).is_some()));
        faults.clear(None);
        assert!(faults.list().is_empty());
    }

    #[test]
    fn one_of_two_equal_faults_can_be_lifted() {
        let faults = Faults::default();
        let first = faults.arm(Scope::Everyone, Fault::LoseAck, Lasting::UntilCleared);
        let second = faults.arm(Scope::Everyone, Fault::LoseAck, Lasting::UntilCleared);
        faults.lift(first);
        assert!(faults.strike(None, LOSE).is_some());
        faults.lift(second);
        assert!(faults.strike(None, LOSE).is_none());
    }

    #[test]
    fn a_fault_for_a_time_strikes_until_then() {
        let faults = Faults::default();
        faults.arm(Scope::Everyone, Fault::LoseAck, Lasting::Millis(3_600_000));
        assert!((0..9).all(|_| faults.strike(None, LOSE).is_some()));
        faults.clear(None);
        faults.arm(Scope::Everyone, Fault::LoseAck, Lasting::Millis(0));
        assert!(faults.list().is_empty());
        assert!(faults.strike(None, LOSE).is_none());
    }
}
