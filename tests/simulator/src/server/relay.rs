//! Between real devices: ciphertexts the server passes on and cannot read.

use std::sync::Arc;

use wacore_binary::builder::NodeBuilder;
use wacore_binary::{Jid, Node};

use super::Hub;
use super::messages::Incoming;
use crate::clock;
use crate::people::companion::Companion;
use crate::people::group::GroupChat;
use crate::people::person::Person;
use crate::wire::stanza::Stanza;

impl Hub {
    /// Passes a ciphertext on to a real device, untouched.
    pub(crate) fn relay_part(
        &self,
        incoming: &Incoming<'_>,
        to: &Arc<Person>,
        device: u16,
        enc: &Node,
        group: Option<&GroupChat>,
    ) {
        let Some(companion) = to.companion(device) else {
            let text = format!("message {} has a part for {}:{device}", incoming.id, to.pn);
            // Not an error of the client's: it learns that the device is gone from a notice.
            tracing::debug!(text);
            return;
        };
        let mut node = self.relayed(incoming, to, group);
        let mut children = vec![enc.clone()];
        children.extend(incoming.node.child("device-identity").cloned());
        node = node.children(children);
        self.counters.relayed.one();
        self.deliver(&companion, node.build());
    }

    pub(crate) fn relay_group(
        &self,
        incoming: &Incoming<'_>,
        group: &GroupChat,
        to: &Companion,
        (own, shared): (Option<&Node>, &Node),
    ) {
        let Some(person) = self.directory.find(&to.key.pn) else { return };
        let mut children: Vec<Node> = own.cloned().into_iter().collect();
        children.push(shared.clone());
        children.extend(incoming.node.child("device-identity").cloned());
        self.counters.relayed.one();
        let node = self.relayed(incoming, &person, Some(group)).children(children);
        self.deliver(to, node.build());
    }

    /// The envelope of a relayed message, as its recipient sees it.
    fn relayed(
        &self,
        incoming: &Incoming<'_>,
        to: &Arc<Person>,
        group: Option<&GroupChat>,
    ) -> NodeBuilder {
        let Incoming { sender, node, id, to: chat } = incoming;
        let device = sender.companion.key.device;
        let own = sender.person.pn == to.pn;
        let pn = sender.companion.key.jid();
        let lid = sender.person.lid().map(|lid| Jid::lid_device(lid, device));
        let mut relayed = NodeBuilder::new("message")
            .attr("id", id.as_str())
            .attr("type", node.text("type").unwrap_or_else(|| "text".to_owned()))
            .attr("t", clock::unix_seconds())
            .attr("notify", sender.person.name());
        if let Some(edit) = node.text("edit") {
            relayed = relayed.attr("edit", edit);
        }
        if let Some(group) = group {
            let mode = self.addressing_of(group);
            relayed = relayed.attr("from", group.jid()).attr("addressing_mode", mode);
            return match lid.filter(|_| mode == "lid") {
                Some(lid) => relayed.attr("participant", lid).attr("participant_pn", pn),
                None => relayed.attr("participant", pn),
            };
        }
        if own {
            let from = lid.filter(|_| chat.is_lid()).unwrap_or(pn);
            return relayed.attr("from", from).attr("recipient", chat.to_non_ad());
        }
        match lid {
            Some(lid) if chat.is_lid() => relayed.attr("from", lid).attr("sender_pn", pn),
            Some(lid) => relayed.attr("from", pn).attr("sender_lid", lid),
            None => relayed.attr("from", pn),
        }
    }
}
