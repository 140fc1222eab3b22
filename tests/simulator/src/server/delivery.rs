//! From anybody to a client: queue, send, and what may go wrong in between.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use wacore_binary::builder::NodeBuilder;
use wacore_binary::{Node, NodeContent};
use wacore_libsignal::protocol::PreKeySignalMessage;

use super::Hub;
use super::router::Sender;
use crate::fault::{Fault, Scope};
use crate::people::companion::{Companion, CompanionState};
use crate::signal::EncKind;
use crate::wire::stanza::Stanza;

impl Hub {
    /// Queues a stanza for a device, and sends it if the device is there.
    pub(crate) fn deliver(&self, to: &Companion, node: Node) {
        match &*node.tag {
            "message" => self.counters.messages_out.one(),
            "receipt" => self.counters.receipts_out.one(),
            _ => {}
        }
        let mut state = to.state();
        state.queue.push(Arc::new(node));
        if state.active && !self.holding.load(Ordering::Acquire) {
            self.transmit_unsent(to, &mut state);
        }
    }

    /// From now on everything is only queued.
    pub(crate) fn hold(&self) {
        self.holding.store(true, Ordering::Release);
    }

    /// Sends what was queued meanwhile, in order and as live.
    pub(crate) fn release(&self) {
        self.holding.store(false, Ordering::Release);
        for companion in self.directory.everybody().iter().flat_map(|it| it.companions()) {
            let mut state = companion.state();
            if state.active {
                self.transmit_unsent(&companion, &mut state);
            }
        }
    }

    /// Takes faults back. What one of them held back goes out with it: no other message may ever
    /// come that it could have waited for.
    pub(crate) fn clear_faults(&self, scope: Option<&Scope>) {
        self.faults.clear(scope);
        for companion in self.directory.everybody().iter().flat_map(|it| it.companions()) {
            if scope.is_some_and(|scope| !scope.includes(Some(&companion.key))) {
                continue;
            }
            let mut state = companion.state();
            if let (Some(link), Some(held)) = (state.link.clone(), state.held.take()) {
                link.send(held);
            }
        }
    }

    fn transmit_unsent(&self, to: &Companion, state: &mut CompanionState) {
        for node in state.queue.take_unsent() {
            self.transmit(to, state, node);
        }
    }

    fn transmit(&self, to: &Companion, state: &mut CompanionState, node: Arc<Node>) {
        let Some(link) = state.link.clone() else { return };
        if node.tag != "message" {
            link.send(node);
            return;
        }
        let strikes = |fault: Fault| self.faults.strike(Some(&to.key), |it| *it == fault).is_some();
        let node =
            if strikes(Fault::CorruptCiphertext) { Arc::new(corrupted(&node)) } else { node };
        if state.held.is_none() && strikes(Fault::ReorderDelivery) {
            state.held = Some(node);
            return;
        }
        link.send(Arc::clone(&node));
        if strikes(Fault::DuplicateDelivery) {
            link.send(node);
        }
        if let Some(held) = state.held.take() {
            link.send(held);
        }
    }
}

impl Companion {
    /// Sends something that is worth nothing later: typing, presence.
    pub(crate) fn mention(&self, node: Node) {
        let state = self.state();
        if let Some(link) = state.link.as_ref().filter(|_| state.active) {
            link.send(node);
        }
    }

    /// The client is ready for everything: sends what is queued, and says how much it was.
    pub(crate) fn activate(&self) {
        let mut state = self.state();
        let Some(link) = state.link.clone() else { return };
        let count = state.queue.len();
        if count > 0 {
            let preview = NodeBuilder::new("offline_preview")
                .attr("count", count)
                .attr("message", state.queue.count("message"))
                .attr("receipt", state.queue.count("receipt"))
                .attr("notification", state.queue.count("notification"))
                .attr("appdata", 0)
                .build();
            link.send(NodeBuilder::new("ib").children([preview]).build());
        }
        state.queue.take_unsent();
        for node in state.queue.iter() {
            let mut node = Node::clone(node);
            node.attrs.push("offline", "0");
            link.send(node);
        }
        let end = NodeBuilder::new("offline").attr("count", count).build();
        link.send(NodeBuilder::new("ib").children([end]).build());
        state.active = true;
    }
}

impl Sender {
    /// A device confirms what it got.
    pub(crate) fn confirm(&self, tag: &str, ids: &[String]) {
        {
            let mut state = self.companion.state();
            for id in ids {
                state.queue.confirm(tag, id);
            }
        }
        self.person.journal.touch();
    }
}
/// The stanza with one bit of each ciphertext's MAC flipped.
fn corrupted(node: &Node) -> Node {
    let mut node = node.clone();
    if let Some(NodeContent::Nodes(children)) = &mut node.content {
        for enc in children.iter_mut().filter(|child| child.tag == "enc") {
            let kind = EncKind::parse(&enc.kind());
            if let (Some(kind), Some(NodeContent::Bytes(bytes))) = (kind, &mut enc.content) {
                let at = last_of_mac(kind, bytes);
                bytes[at] ^= 1;
            }
        }
    }
    node
}

/// Where the MAC (or the signature) of a ciphertext ends.
///
/// In a `pkmsg` the MAC is that of the message inside, which is not the last field: flipping the
/// last byte would only change a prekey id.
fn last_of_mac(kind: EncKind, bytes: &[u8]) -> usize {
    let end = bytes.len().saturating_sub(1);
    if kind != EncKind::PreKey {
        return end;
    }
    let Ok(message) = PreKeySignalMessage::try_from(bytes) else { return end };
    let inner = message.message().serialized();
    let at = bytes.windows(inner.len()).position(|window| window == inner);
    at.map_or(end, |at| at + inner.len() - 1)
}
