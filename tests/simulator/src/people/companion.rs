//! A linked device: a real client, as the server knows it.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};

use wacore_binary::Node;

use super::queue::Queue;
use crate::address::DeviceKey;
use crate::locked;
use crate::server::Link;
use crate::signal::bundle::{Bundle, Key, OneTimeKey, SignedKey};
use crate::signal::ledger::{Ledger, Spent};

/// Below this many one-time keys the server asks a client for more.
const FEW_KEYS: usize = 10;

/// What a client tells of itself when it first connects.
#[derive(Clone, Debug)]
pub(crate) struct Registration {
    /// The registration id, part of every bundle.
    pub(crate) number: u32,
    pub(crate) identity: Key,
    pub(crate) signed: SignedKey,
    /// The operating system or browser it claims to be.
    pub(crate) platform: String,
}

/// One linked device.
#[derive(Debug)]
pub(crate) struct Companion {
    pub(crate) key: DeviceKey,
    /// The Noise key it was paired with: how it proves at login who it is.
    pub(crate) noise: Key,
    pub(crate) registration: Registration,
    state: Mutex<CompanionState>,
}

#[derive(Debug)]
pub(crate) struct CompanionState {
    pub(crate) signed: SignedKey,
    pub(crate) one_time: VecDeque<OneTimeKey>,
    /// The device identity with both signatures; there is none until the client has signed.
    pub(crate) device_identity: Option<Vec<u8>>,
    pub(crate) link: Option<Link>,
    /// Whether the client has said `<active/>` on this connection.
    pub(crate) active: bool,
    pub(crate) queue: Queue,
    /// Whether the phone has sent the app state key.
    pub(crate) keys_shared: bool,
    pub(crate) routing: Option<Vec<u8>>,
    pub(crate) logins: u32,
    /// A message held back so that the next one overtakes it.
    pub(crate) held: Option<Arc<Node>>,
    ledgers: HashMap<String, Ledger>,
    told_few_keys: bool,
}

impl Companion {
    pub(crate) fn new(key: DeviceKey, noise: Key, registration: Registration) -> Self {
        let state = CompanionState {
            signed: registration.signed.clone(),
            one_time: VecDeque::new(),
            device_identity: None,
            link: None,
            active: false,
            queue: Queue::default(),
            keys_shared: false,
            routing: None,
            logins: 0,
            held: None,
            ledgers: HashMap::new(),
            told_few_keys: false,
        };
        Self { key, noise, registration, state: Mutex::new(state) }
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, CompanionState> {
        locked(&self.state)
    }

    /// The bundle others open sessions with; each carries another one-time key.
    pub(crate) fn take_bundle(&self) -> Bundle {
        let mut state = self.state();
        Bundle {
            registration_id: self.registration.number,
            identity: self.registration.identity,
            signed: state.signed.clone(),
            one_time: state.one_time.pop_front(),
            device_identity: state.device_identity.clone(),
        }
    }

    /// The number of keys left, if it is time to tell the client so.
    pub(crate) fn few_keys(&self) -> Option<usize> {
        let mut state = self.state();
        let left = state.one_time.len();
        let few = left < FEW_KEYS;
        let tell = few && !state.told_few_keys && state.logins > 0;
        state.told_few_keys = few;
        tell.then_some(left)
    }

    /// Books a counter this client spent towards somebody; `false` if it was spent before.
    pub(crate) fn spend(&self, towards: String, spent: &Spent) -> bool {
        self.state().ledgers.entry(towards).or_default().book(spent)
    }

    pub(crate) fn is_online(&self) -> bool {
        self.state().link.is_some()
    }
}
