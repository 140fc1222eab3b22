//! The offline queue of one device: everything it has not confirmed yet.
//!
//! A stanza stays until the device acknowledges it, whether or not it has been sent: a stanza
//! written into a dying socket is otherwise lost. What was sent and not confirmed is sent again
//! at the next login, which is the at-least-once delivery clients are built for.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

use wacore_binary::Node;

use crate::wire::stanza::Stanza;

/// A device's unconfirmed stanzas, in order.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    next: u64,
    /// The first one that was not sent on the present connection.
    unsent: u64,
    waiting: BTreeMap<u64, Arc<Node>>,
    /// The tag and the id; a message and the receipts for a message may share an id.
    by_id: HashMap<(String, String), VecDeque<u64>>,
}

impl Queue {
    pub(crate) fn push(&mut self, node: Arc<Node>) {
        let key = (node.tag.to_string(), node.id());
        self.by_id.entry(key).or_default().push_back(self.next);
        self.waiting.insert(self.next, node);
        self.next += 1;
    }

    /// Drops the oldest stanza with this tag and id; `false` if there is none.
    pub(crate) fn confirm(&mut self, tag: &str, id: &str) -> bool {
        let key = (tag.to_owned(), id.to_owned());
        let Some(places) = self.by_id.get_mut(&key) else { return false };
        let place = places.pop_front();
        if places.is_empty() {
            self.by_id.remove(&key);
        }
        place.is_some_and(|place| self.waiting.remove(&place).is_some())
    }

    /// Those not sent yet, in order; from now on they count as sent.
    pub(crate) fn take_unsent(&mut self) -> Vec<Arc<Node>> {
        let from = std::mem::replace(&mut self.unsent, self.next);
        self.waiting.range(from..).map(|(_, node)| Arc::clone(node)).collect()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Arc<Node>> {
        self.waiting.values()
    }

    pub(crate) fn len(&self) -> usize {
        self.waiting.len()
    }

    pub(crate) fn count(&self, tag: &str) -> usize {
        self.waiting.values().filter(|node| node.tag == tag).count()
    }
}

#[cfg(test)]
mod tests {
    use wacore_binary::builder::NodeBuilder;

    use super::*;

    #[test]
    fn stanzas_stay_in_order_until_each_is_confirmed() {
        let mut queue = Queue::default();
        for (tag, id) in [("message", "A"), ("receipt", "A"), ("receipt", "A"), ("message", "B")] {
            queue.push(Arc::new(NodeBuilder::new(tag).attr("id", id).build()));
        }
        assert!(queue.confirm("receipt", "A"));
        assert_eq!((queue.count("message"), queue.count("receipt")), (2, 1));
        assert!(queue.confirm("message", "A") && !queue.confirm("message", "A"));
        assert!(queue.confirm("receipt", "A"));
        assert_eq!(queue.iter().map(|node| node.id()).collect::<Vec<_>>(), ["B"]);
        assert_eq!(queue.take_unsent().len(), 1);
        assert!(queue.take_unsent().is_empty());
    }
}
