//! What somebody has written, kept for those who ask for it again.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex};

use wacore_binary::Jid;
use waproto::whatsapp as wa;

use crate::locked;

/// Messages a phone remembers; retries come within seconds, not thousands of messages later.
const REMEMBERED: usize = 512;

/// A message as it was written.
#[derive(Clone, Debug)]
pub(crate) struct Written {
    pub(crate) message: Arc<wa::Message>,
    /// The chat; a group's address means the message goes out under a sender key.
    pub(crate) chat: Jid,
    /// Set on messages between an account's own devices.
    pub(crate) peer: bool,
}

/// A bounded memory of written messages.
#[derive(Debug, Default)]
pub(crate) struct Outbox(Mutex<(HashMap<String, Written>, VecDeque<String>)>);

impl Outbox {
    pub(crate) fn remember(&self, id: &str, written: Written) {
        let (by_id, order) = &mut *locked(&self.0);
        if by_id.insert(id.to_owned(), written).is_none() {
            order.push_back(id.to_owned());
        }
        if order.len() > REMEMBERED
            && let Some(oldest) = order.pop_front()
        {
            by_id.remove(&oldest);
        }
    }

    pub(crate) fn find(&self, id: &str) -> Option<Written> {
        locked(&self.0).0.get(id).cloned()
    }
}
