//! Somebody on WhatsApp.

use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, Mutex};

use serde::{Deserialize, Serialize};
use wacore_binary::Jid;

use super::app_state::AppState;
use super::companion::Companion;
use super::history::History;
use super::media::Reupload;
use super::outbox::Outbox;
use crate::address::{DeviceKey, PHONE};
use crate::observe::Journal;
use crate::signal::endpoint::Endpoint;
use crate::{adv, locked};

/// What a contact's phone does with a message, each including those before it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReceiptPolicy {
    /// Nothing: receipts are sent by hand.
    None,
    /// It arrives: two grey ticks.
    #[default]
    Delivered,
    /// It is read at once: blue ticks.
    Read,
    /// It is played at once.
    Played,
}

/// The namespace in which somebody writes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Addressing {
    /// By phone number; the LID goes along as an attribute if the server tells it.
    #[default]
    Pn,
    /// By LID; the phone number goes along as an attribute.
    Lid,
}

/// How somebody behaves.
#[derive(Debug)]
pub(crate) struct Habits {
    pub(crate) name: String,
    pub(crate) receipts: ReceiptPolicy,
    pub(crate) addressing: Addressing,
    /// Messages still to be declared undecryptable, so that they are asked for again.
    pub(crate) failing: u32,
    /// Whether the server tells others the LID.
    pub(crate) lid_known: bool,
    /// Whether the phone hands over what a companion could not read and asks for.
    pub(crate) resends: bool,
    /// The ids of what companions have asked for, once for each time.
    pub(crate) asked: Vec<String>,
}

/// A number, a phone, and its companions.
#[derive(Debug)]
pub(crate) struct Person {
    pub(crate) pn: Arc<str>,
    /// The hidden identity. It exists from the start; whether the server says so is a habit.
    lid: String,
    /// Marks this installation of the account in everything its phone signs for companions.
    pub(crate) raw_id: u32,
    pub(crate) endpoint: Endpoint,
    pub(crate) habits: Mutex<Habits>,
    pub(crate) app_state: AppState,
    pub(crate) outbox: Outbox,
    /// What the phone hands to each new companion.
    pub(crate) history: Mutex<Vec<History>>,
    /// What the phone does when it is asked for a file again.
    pub(crate) reupload: Mutex<Reupload>,
    pub(crate) journal: Journal,
    /// Accounts that have asked for this one's devices, to be told when they change.
    pub(crate) watchers: Mutex<HashSet<Arc<str>>>,
    companions: Mutex<Companions>,
}

#[derive(Debug, Default)]
struct Companions {
    linked: BTreeMap<u16, Arc<Companion>>,
    /// Numbers are never given out twice, as a peer may still have a session with the last holder.
    last: u16,
}

impl Person {
    pub(crate) fn new(pn: &str, lid: String, receipts: ReceiptPolicy, memory: usize) -> Self {
        let name = format!("Simulated {pn}");
        let app_state = AppState::generate();
        app_state.set_push_name(&name);
        Self {
            pn: Arc::from(pn),
            lid,
            raw_id: rand::random_range(1..i32::MAX.unsigned_abs()),
            endpoint: Endpoint::generate(),
            habits: Mutex::new(Habits {
                name,
                receipts,
                addressing: Addressing::default(),
                failing: 0,
                lid_known: true,
                resends: true,
                asked: Vec::new(),
            }),
            app_state,
            outbox: Outbox::default(),
            history: Mutex::default(),
            reupload: Mutex::default(),
            journal: Journal::new(memory),
            watchers: Mutex::default(),
            companions: Mutex::default(),
        }
    }

    /// The LID, if the server tells it.
    pub(crate) fn lid(&self) -> Option<&str> {
        locked(&self.habits).lid_known.then_some(&*self.lid)
    }

    /// The LID, told or not.
    pub(crate) fn hidden_lid(&self) -> &str {
        &self.lid
    }

    pub(crate) fn name(&self) -> String {
        locked(&self.habits).name.clone()
    }

    pub(crate) fn phone_key(&self) -> DeviceKey {
        DeviceKey::new(&self.pn, PHONE)
    }

    pub(crate) fn pn_jid(&self) -> Jid {
        Jid::pn(&*self.pn)
    }

    pub(crate) fn lid_jid(&self) -> Option<Jid> {
        self.lid().map(Jid::lid)
    }

    /// The address this person writes from.
    pub(crate) fn address(&self) -> Jid {
        let by_lid = locked(&self.habits).addressing == Addressing::Lid;
        self.lid_jid().filter(|_| by_lid).unwrap_or_else(|| self.pn_jid())
    }

    /// All linked companions.
    pub(crate) fn companions(&self) -> Vec<Arc<Companion>> {
        locked(&self.companions).linked.values().map(Arc::clone).collect()
    }

    pub(crate) fn companion(&self, device: u16) -> Option<Arc<Companion>> {
        locked(&self.companions).linked.get(&device).map(Arc::clone)
    }

    /// Takes the next device number.
    pub(crate) fn next_key(&self) -> DeviceKey {
        let mut companions = locked(&self.companions);
        companions.last += 1;
        DeviceKey::new(&self.pn, companions.last)
    }

    /// Puts a companion in its place.
    pub(crate) fn link(&self, companion: Arc<Companion>) {
        let mut companions = locked(&self.companions);
        companions.last = companions.last.max(companion.key.device);
        companions.linked.insert(companion.key.device, companion);
    }

    pub(crate) fn unlink(&self, device: u16) -> Option<Arc<Companion>> {
        locked(&self.companions).linked.remove(&device)
    }

    /// The signed list of companions others may trust.
    pub(crate) fn key_index_list(&self) -> Vec<u8> {
        let indexes = self.companions().iter().map(|it| u32::from(it.key.device)).collect();
        adv::key_index_list(self.endpoint.identity(), self.raw_id, indexes)
    }
}
