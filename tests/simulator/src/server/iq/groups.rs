//! `w:g2`: groups.

use wacore_binary::Node;
use wacore_binary::builder::NodeBuilder;

use super::super::Hub;
use super::super::router::Sender;
use crate::people::group::GroupChat;
use crate::wire::stanza::{self, Stanza};

impl Hub {
    pub(super) fn group_request(&self, sender: &Sender, iq: &Node, verb: &str) -> Node {
        let of = iq.jid("to").filter(|to| !to.user.is_empty());
        let group = of.and_then(|jid| self.directory.group(&jid.user));
        match (iq.kind().as_str(), verb, group) {
            ("get", "query", Some(group)) if group.has(&sender.person.pn) => {
                stanza::result(iq, vec![self.group_node(&group)])
            }
            ("get", "query", Some(_)) => stanza::error(iq, 403, "forbidden"),
            ("get", "query", None) => stanza::error(iq, 404, "item-not-found"),
            ("get", "participating", _) => {
                let own = self.directory.groups();
                let own = own.iter().filter(|group| group.has(&sender.person.pn));
                let groups = own.map(|group| self.group_node(group));
                stanza::result(iq, vec![NodeBuilder::new("groups").children(groups).build()])
            }
            ("set", "leave", _) => {
                let groups = iq.child("leave").map(Stanza::nodes).unwrap_or_default();
                for id in groups.iter().filter_map(|group| group.text("id")) {
                    if let Ok(group) = self.group(&id) {
                        group.remove(&sender.person.pn);
                    }
                }
                stanza::result(iq, Vec::new())
            }
            // Making and changing groups from a client comes with the issue about groups.
            _ => {
                self.counters.unknown_iqs.one();
                stanza::error(iq, 501, "feature-not-implemented")
            }
        }
    }

    /// The namespace of a group's members: LIDs, unless the server does not tell one of them.
    pub(crate) fn addressing_of(&self, group: &GroupChat) -> &'static str {
        let members = group.members();
        let mut people = members.iter().filter_map(|pn| self.directory.find(pn));
        if people.all(|person| person.lid().is_some()) { "lid" } else { "pn" }
    }

    /// `<group>` with everything a member may know.
    pub(crate) fn group_node(&self, group: &GroupChat) -> Node {
        let mode = self.addressing_of(group);
        let members = group.members();
        let participants = members.iter().filter_map(|pn| {
            let person = self.directory.find(pn)?;
            let mut participant = NodeBuilder::new("participant");
            participant = match person.lid_jid().filter(|_| mode == "lid") {
                Some(lid) => participant.attr("jid", lid).attr("phone_number", person.pn_jid()),
                None => participant.attr("jid", person.pn_jid()),
            };
            if *pn == group.creator {
                participant = participant.attr("type", "superadmin");
            }
            Some(participant.build())
        });
        let creator = self.directory.find(&group.creator);
        let mut node = NodeBuilder::new("group")
            .attr("id", group.id.as_str())
            .attr("subject", group.subject())
            .attr("creation", group.created)
            .attr("s_t", group.created)
            .attr("addressing_mode", mode)
            .attr("size", members.len());
        if let Some(creator) = creator {
            let by_mode = creator.lid_jid().filter(|_| mode == "lid");
            let jid = by_mode.unwrap_or_else(|| creator.pn_jid());
            node = node.attr("creator", &jid).attr("s_o", jid);
        }
        node.children(participants.collect::<Vec<_>>()).build()
    }
}
