//! A group: who is in it, and who has whose sender key.

use std::collections::HashSet;
use std::sync::{Arc, Mutex};

use wacore_binary::Jid;

use crate::address::DeviceKey;
use crate::clock::unix_seconds;
use crate::locked;

/// A group chat.
#[derive(Debug)]
pub(crate) struct GroupChat {
    pub(crate) id: String,
    pub(crate) created: i64,
    pub(crate) creator: Arc<str>,
    state: Mutex<GroupState>,
}

#[derive(Debug)]
struct GroupState {
    subject: String,
    members: Vec<Arc<str>>,
    /// Which device has the chain of which simulated author.
    distributed: HashSet<(Arc<str>, DeviceKey)>,
}

impl GroupChat {
    pub(crate) fn new(id: String, subject: &str, members: Vec<Arc<str>>) -> Self {
        let creator = members.first().map_or_else(|| Arc::from(""), Arc::clone);
        let state =
            GroupState { subject: subject.to_owned(), members, distributed: HashSet::new() };
        Self { id, created: unix_seconds(), creator, state: Mutex::new(state) }
    }

    pub(crate) fn jid(&self) -> Jid {
        Jid::group(self.id.as_str())
    }

    pub(crate) fn subject(&self) -> String {
        locked(&self.state).subject.clone()
    }

    pub(crate) fn set_subject(&self, subject: &str) {
        subject.clone_into(&mut locked(&self.state).subject);
    }

    pub(crate) fn members(&self) -> Vec<Arc<str>> {
        locked(&self.state).members.clone()
    }

    pub(crate) fn has(&self, pn: &str) -> bool {
        locked(&self.state).members.iter().any(|member| **member == *pn)
    }

    /// Adds a member; `false` if they were in already.
    pub(crate) fn add(&self, pn: &Arc<str>) -> bool {
        let mut state = locked(&self.state);
        if state.members.contains(pn) {
            return false;
        }
        state.members.push(Arc::clone(pn));
        true
    }

    /// Removes a member; `false` if they were not in.
    pub(crate) fn remove(&self, pn: &str) -> bool {
        let mut state = locked(&self.state);
        let before = state.members.len();
        state.members.retain(|member| **member != *pn);
        // Whoever left could read on: everybody starts a new distribution, as real phones do.
        state.distributed.clear();
        state.members.len() != before
    }

    /// Notes that a device gets an author's chain; `false` if it has it.
    pub(crate) fn distribute(&self, author: &Arc<str>, to: &DeviceKey) -> bool {
        locked(&self.state).distributed.insert((Arc::clone(author), to.clone()))
    }

    /// Notes that a device has lost an author's chain.
    pub(crate) fn undistribute(&self, author: &Arc<str>, to: &DeviceKey) {
        locked(&self.state).distributed.remove(&(Arc::clone(author), to.clone()));
    }
}
