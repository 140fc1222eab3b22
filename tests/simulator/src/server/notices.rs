//! Notifications: devices that come and go, keys that run out, settings that changed.

use std::collections::HashSet;
use std::sync::Arc;

use wacore_binary::builder::NodeBuilder;
use wacore_binary::{Jid, Node};

use super::Hub;
use crate::clock::unix_seconds;
use crate::locked;
use crate::people::companion::Companion;
use crate::people::group::GroupChat;
use crate::people::person::Person;
use crate::wire::stanza::server_jid;

impl Hub {
    /// A notification with a number of its own.
    pub(crate) fn notification(&self, kind: &'static str, from: Jid) -> NodeBuilder {
        NodeBuilder::new("notification")
            .attr("from", from)
            .attr("type", kind)
            .attr("id", format!("notice-{}", self.number()))
            .attr("t", unix_seconds())
    }

    /// Tells the account's other devices and everybody who asked for them that one has come or
    /// gone. Clients that cached the old list would leave a new device out otherwise.
    pub(crate) fn announce_device(&self, person: &Arc<Person>, device: &Companion, added: bool) {
        let watchers: HashSet<Arc<str>> = locked(&person.watchers).clone();
        let watching = watchers.iter().filter_map(|pn| self.directory.find(pn));
        let own = std::iter::once(Arc::clone(person));
        for companion in own.chain(watching).flat_map(|it| it.companions()) {
            if companion.key != device.key {
                self.deliver(&companion, self.device_notice(person, device, added));
            }
        }
    }

    fn device_notice(&self, person: &Person, device: &Companion, added: bool) -> Node {
        let number = device.key.device;
        let mut entry = NodeBuilder::new("device").attr("jid", device.key.jid());
        entry = entry.attr("key-index", number);
        let mut notice = self.notification("devices", person.pn_jid());
        if let Some(lid) = person.lid() {
            entry = entry.attr("lid", Jid::lid_device(lid, number));
            notice = notice.attr("lid", Jid::lid(lid));
        }
        let mut list = NodeBuilder::new("key-index-list").attr("ts", unix_seconds());
        if added {
            list = list.bytes(person.key_index_list());
        }
        let change = NodeBuilder::new(if added { "add" } else { "remove" });
        notice.children([change.children([entry.build(), list.build()]).build()]).build()
    }

    /// Asks a client for more one-time keys, once each time they run low.
    pub(crate) fn ask_for_keys(&self, companion: &Companion) {
        if let Some(left) = companion.few_keys() {
            let count = NodeBuilder::new("count").attr("value", left).build();
            let notice = self.notification("encrypt", server_jid()).children([count]).build();
            self.deliver(companion, notice);
        }
    }

    /// Tells an account's devices, but for the one that did it, that a collection has changed.
    pub(crate) fn announce_app_state(
        &self,
        person: &Person,
        collection: &str,
        version: u64,
        except: Option<u16>,
    ) {
        for companion in person.companions() {
            if Some(companion.key.device) != except {
                let changed = NodeBuilder::new("collection")
                    .attr("name", collection)
                    .attr("version", version)
                    .build();
                let notice = self.notification("server_sync", person.pn_jid());
                self.deliver(&companion, notice.children([changed]).build());
            }
        }
    }

    /// Tells a group's members about a change.
    pub(crate) fn announce_group(&self, group: &GroupChat, author: &Person, change: &Node) {
        let mut told: Vec<Arc<str>> = group.members();
        // Whoever was removed is told as well.
        told.extend(removed(change, &self.directory));
        for pn in told {
            let Some(person) = self.directory.find(&pn) else { continue };
            for companion in person.companions() {
                let mut notice = self
                    .notification("w:gp2", group.jid())
                    .attr("participant", author.lid_jid().unwrap_or_else(|| author.pn_jid()))
                    .attr("participant_pn", author.pn_jid())
                    .attr("notify", author.name());
                if self.addressing_of(group) == "lid" {
                    notice = notice.attr("addressing_mode", "lid");
                }
                self.deliver(&companion, notice.children([change.clone()]).build());
            }
        }
    }
}

fn removed(change: &Node, directory: &crate::people::Directory) -> Vec<Arc<str>> {
    use crate::wire::stanza::Stanza;
    if change.tag != "remove" {
        return Vec::new();
    }
    let jids = change.nodes().iter().filter_map(|participant| participant.jid("jid"));
    jids.filter_map(|jid| directory.lookup(&jid)).map(|person| Arc::clone(&person.pn)).collect()
}
