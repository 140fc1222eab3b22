//! Which counters a client has spent, so that spending one twice is noticed.
//!
//! A ciphertext counter that is used again means a message key encrypted two plaintexts: the
//! worst a client that restarts from an old store can do. The recipient's ratchet notices it for
//! simulated recipients; between two real clients only this ledger does, because the server
//! relays what it cannot read.

use std::collections::{HashMap, HashSet, VecDeque};

use wacore_libsignal::protocol::{PreKeySignalMessage, SenderKeyMessage, SignalMessage};

use super::EncKind;

/// Chains remembered per sender and recipient; each change of direction starts a new one.
const CHAINS: usize = 64;
/// Skipped counters remembered per chain. Clients lease counters by the dozen, not the thousand.
const SKIPPED: usize = 4096;

/// What one ciphertext spends: a chain, named by its public key or number, and a counter in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Spent {
    chain: Vec<u8>,
    counter: u32,
}

impl Spent {
    /// Reads the unencrypted part of a ciphertext; `None` if it is not well-formed.
    pub(crate) fn read(kind: EncKind, bytes: &[u8]) -> Option<Self> {
        match kind {
            EncKind::Message => Some(Self::of(&SignalMessage::try_from(bytes).ok()?)),
            EncKind::PreKey => Some(Self::of(PreKeySignalMessage::try_from(bytes).ok()?.message())),
            EncKind::SenderKey => {
                let message = SenderKeyMessage::try_from(bytes).ok()?;
                let chain = message.chain_id().to_be_bytes().to_vec();
                Some(Self { chain, counter: message.iteration() })
            }
        }
    }

    fn of(message: &SignalMessage) -> Self {
        let chain = message.sender_ratchet_key().public_key_bytes().to_vec();
        Self { chain, counter: message.counter() }
    }

    pub(crate) fn counter(&self) -> u32 {
        self.counter
    }
}

/// The counters one sender has spent towards one recipient or group.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    chains: HashMap<Vec<u8>, Chain>,
    order: VecDeque<Vec<u8>>,
}

#[derive(Debug, Default)]
struct Chain {
    next: u32,
    skipped: HashSet<u32>,
}

impl Ledger {
    /// Books a counter; `false` if it was spent before.
    pub(crate) fn book(&mut self, spent: &Spent) -> bool {
        if !self.chains.contains_key(&spent.chain) {
            if self.order.len() == CHAINS
                && let Some(oldest) = self.order.pop_front()
            {
                self.chains.remove(&oldest);
            }
            self.order.push_back(spent.chain.clone());
        }
        let chain = self.chains.entry(spent.chain.clone()).or_default();
        if spent.counter < chain.next {
            return chain.skipped.remove(&spent.counter);
        }
        let gap = chain.next..spent.counter;
        chain.skipped.extend(gap.take(SKIPPED.saturating_sub(chain.skipped.len())));
        chain.next = spent.counter.saturating_add(1);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_counter_is_spent_once_and_a_gap_may_be_filled() {
        let mut ledger = Ledger::default();
        let mut book = |counter| ledger.book(&Spent { chain: vec![1], counter });
        assert!(book(0) && book(1) && book(5));
        assert!(book(3), "a late message fills the gap");
        assert!(!book(3) && !book(5) && !book(0));
        assert!(ledger.book(&Spent { chain: vec![2], counter: 0 }), "chains are separate");
    }
}
