//! usync: who is on WhatsApp, with which devices, under which LID.

use wacore_binary::builder::NodeBuilder;
use wacore_binary::{Jid, Node};

use super::super::Hub;
use super::super::router::Sender;
use crate::address;
use crate::clock::unix_seconds;
use crate::fault::Fault;
use crate::locked;
use crate::people::person::Person;
use crate::wire::stanza::{self, Stanza};

impl Hub {
    pub(super) fn usync(&self, sender: &Sender, iq: &Node) -> Node {
        let Some(usync) = iq.child("usync") else {
            return stanza::error(iq, 400, "bad-request");
        };
        let refused = |fault: &Fault| matches!(fault, Fault::RefuseLookup { .. });
        let device = Some(&sender.companion.key);
        if let Some(Fault::RefuseLookup { code }) = self.faults.strike(device, refused) {
            return stanza::error(iq, code, "refused");
        }
        let wanted: Vec<&str> = usync
            .child("query")
            .map(Stanza::nodes)
            .unwrap_or_default()
            .iter()
            .map(|node| &*node.tag)
            .collect();
        let users = usync.child("list").map(Stanza::nodes).unwrap_or_default();
        let users = users.iter().filter_map(|user| self.usync_user(sender, user, &wanted));
        let list = NodeBuilder::new("list").children(users).build();
        let results = wanted.iter().map(|tag| NodeBuilder::new_dynamic((*tag).to_owned()).build());
        let result = NodeBuilder::new("result").children(results).build();
        let mut answer = NodeBuilder::new("usync");
        for key in ["sid", "index", "last", "mode", "context"] {
            if let Some(value) = usync.text(key) {
                answer = answer.attr(key, value);
            }
        }
        stanza::result(iq, vec![answer.children([result, list]).build()])
    }

    /// One user, asked for by address or by a phone number as it was typed.
    fn usync_user(&self, sender: &Sender, user: &Node, wanted: &[&str]) -> Option<Node> {
        let asked = user.jid("jid").or_else(|| {
            let typed = user.child_bytes("contact").and_then(|text| str::from_utf8(text).ok())?;
            Some(Jid::pn(address::digits(typed)))
        })?;
        let person = self.directory.lookup(&asked);
        let children = wanted.iter().filter_map(|protocol| match (*protocol, &person) {
            ("devices", Some(person)) => {
                locked(&person.watchers).insert(sender.person.pn.clone());
                Some(devices(person))
            }
            // An empty list: nobody has this number, and nobody can be written to.
            ("devices", None) => Some(
                NodeBuilder::new("devices")
                    .children([NodeBuilder::new("device-list").build()])
                    .build(),
            ),
            ("lid", Some(person)) => {
                let lid = person.lid_jid()?;
                Some(NodeBuilder::new("lid").attr("val", lid).build())
            }
            ("contact", person) => {
                let known = if person.is_some() { "in" } else { "out" };
                Some(NodeBuilder::new("contact").attr("type", known).build())
            }
            ("status", Some(_)) => {
                let status = NodeBuilder::new("status").attr("t", unix_seconds());
                Some(status.string_content("Simulated").build())
            }
            ("disappearing_mode", Some(_)) => {
                let mode = NodeBuilder::new("disappearing_mode").attr("duration", 0);
                Some(mode.attr("t", unix_seconds()).build())
            }
            _ => None,
        });
        // Who is asked for by LID is answered by LID, with the number beside it if it is known.
        let mut answer = NodeBuilder::new("user").attr("jid", asked.to_non_ad());
        if let Some(person) = person.as_ref().filter(|_| asked.is_lid()) {
            answer = answer.attr("pn_jid", person.pn_jid());
        }
        Some(answer.children(children.collect::<Vec<_>>()).build())
    }
}

/// `<devices>`: the phone, the companions, and the phone's signed word for them.
fn devices(person: &Person) -> Node {
    let phone = NodeBuilder::new("device").attr("id", 0).build();
    let companions = person.companions();
    let others = companions.iter().map(|companion| {
        let number = companion.key.device;
        NodeBuilder::new("device").attr("id", number).attr("key-index", number).build()
    });
    let list = std::iter::once(phone).chain(others);
    let mut children = vec![NodeBuilder::new("device-list").children(list).build()];
    if !companions.is_empty() {
        children.push(
            NodeBuilder::new("key-index-list")
                .attr("ts", unix_seconds())
                .bytes(person.key_index_list())
                .build(),
        );
    }
    NodeBuilder::new("devices").children(children).build()
}
