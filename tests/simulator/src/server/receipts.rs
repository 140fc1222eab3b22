//! Receipts, from clients and from contacts.

use std::sync::Arc;

use wacore_binary::builder::NodeBuilder;
use wacore_binary::{Jid, Node};

use super::Hub;
use super::messages::Incoming;
use super::router::{Sender, is_group};
use crate::clock::{self, unix_seconds};
use crate::observe::{Receipt, ReceiptKind};
use crate::people::person::{Person, ReceiptPolicy};
use crate::violation::ViolationKind;
use crate::wire::stanza::{self, Stanza};

impl Hub {
    /// Takes a receipt from a client.
    pub(crate) async fn receipt(self: &Arc<Self>, sender: &Sender, node: &Node) {
        let device = &sender.companion.key;
        let (Some(to), Some(_)) = (node.jid("to"), node.text("id")) else {
            let text = "<receipt> without an addressee or an id";
            self.violations.record(ViolationKind::Malformed, Some(device), text);
            return;
        };
        sender.link.send(stanza::ack(node).build());
        let receipt = Receipt {
            from: device.clone(),
            to: to.clone(),
            participant: node.jid("participant"),
            ids: ids(node),
            kind: ReceiptKind::parse(&node.kind()),
            at: clock::unix_millis(),
        };
        self.counters.receipts_in.add(receipt.ids.len());
        // A receipt says that the device has the stanza; but one that asks for it again is followed by an
        // acknowledgement, and both would confirm two: what was not read, and what is sent in its place.
        if receipt.kind != ReceiptKind::Retry {
            sender.confirm("message", &receipt.ids);
        }
        let author = receipt.participant.clone().unwrap_or_else(|| to.clone());
        let author = self.directory.lookup(&author);
        sender.person.journal.push(|entries| &mut entries.receipts, receipt.clone());
        if node.kind() == "server-error" {
            self.upload_again(sender, node);
            return;
        }
        let Some(author) = author else {
            if !is_group(&to) {
                let text = format!("a receipt to {to}, who is not on WhatsApp");
                self.violations.record(ViolationKind::UnknownUser, Some(device), text);
            }
            return;
        };
        author.journal.push(|entries| &mut entries.acknowledged, receipt.clone());
        if receipt.kind == ReceiptKind::Retry {
            self.send_again(sender, &author, node).await;
        } else if author.pn != sender.person.pn {
            self.pass_on(sender, &author, &receipt);
        }
    }

    /// The author's real devices see the receipt too.
    fn pass_on(&self, sender: &Sender, author: &Person, receipt: &Receipt) {
        let kind = match receipt.kind {
            ReceiptKind::Delivered | ReceiptKind::Inactive => ReceiptKind::Delivered,
            ReceiptKind::Read | ReceiptKind::Played => receipt.kind.clone(),
            _ => return,
        };
        let from = if is_group(&receipt.to) {
            receipt.to.clone()
        } else if receipt.to.is_lid() {
            sender.person.lid_jid().unwrap_or_else(|| sender.person.pn_jid())
        } else {
            sender.person.pn_jid()
        };
        let participant = is_group(&receipt.to).then(|| sender.person.pn_jid());
        let node = receipt_node(&from, participant.as_ref(), &kind, &receipt.ids);
        for companion in author.companions() {
            self.deliver(&companion, node.clone());
        }
    }

    /// A contact's phone reacts to a message by itself.
    pub(crate) fn acknowledge_as(
        &self,
        contact: &Person,
        incoming: &Incoming<'_>,
        policy: ReceiptPolicy,
    ) {
        let steps = [
            (ReceiptPolicy::Delivered, ReceiptKind::Delivered),
            (ReceiptPolicy::Read, ReceiptKind::Read),
            (ReceiptPolicy::Played, ReceiptKind::Played),
        ];
        let ids = [incoming.id.clone()];
        for (_, kind) in steps.iter().filter(|(from, _)| policy >= *from) {
            self.send_receipt(contact, &incoming.sender.person, &incoming.to, kind, &ids);
        }
    }

    /// A contact sends a receipt to all devices of an account.
    pub(crate) fn send_receipt(
        &self,
        contact: &Person,
        account: &Person,
        chat: &Jid,
        kind: &ReceiptKind,
        ids: &[String],
    ) {
        let participant = is_group(chat).then(|| self.member_address(contact, chat));
        let from = if is_group(chat) { chat.clone() } else { chat.to_non_ad() };
        let node = receipt_node(&from, participant.as_ref(), kind, ids);
        for companion in account.companions() {
            self.deliver(&companion, node.clone());
        }
    }

    /// How a group's member is addressed in it.
    pub(crate) fn member_address(&self, member: &Person, chat: &Jid) -> Jid {
        let group = self.directory.group(&chat.user);
        let by_lid = group.is_some_and(|group| self.addressing_of(&group) == "lid");
        member.lid_jid().filter(|_| by_lid).unwrap_or_else(|| member.pn_jid())
    }
}

/// The messages a receipt is about: its own id and those in its list.
fn ids(node: &Node) -> Vec<String> {
    let list = node.child("list").map(Stanza::nodes).unwrap_or_default();
    let listed = list.iter().filter_map(|item| item.text("id"));
    std::iter::once(node.id()).chain(listed).collect()
}

fn receipt_node(from: &Jid, participant: Option<&Jid>, kind: &ReceiptKind, ids: &[String]) -> Node {
    let (first, rest) = ids.split_first().map_or(("", ids), |(first, rest)| (first.as_str(), rest));
    let mut node =
        NodeBuilder::new("receipt").attr("from", from).attr("id", first).attr("t", unix_seconds());
    if let Some(kind) = kind.as_type() {
        node = node.attr("type", kind);
    }
    if let Some(participant) = participant {
        node = node.attr("participant", participant);
    }
    if rest.is_empty() {
        return node.build();
    }
    let items = rest.iter().map(|id| NodeBuilder::new("item").attr("id", id).build());
    node.children([NodeBuilder::new("list").children(items).build()]).build()
}
