//! The small requests: app state, privacy, properties, pings and the like.

use wacore_binary::builder::NodeBuilder;
use wacore_binary::{Node, NodeContent};

use super::super::Hub;
use super::super::router::Sender;
use crate::violation::ViolationKind;
use crate::wire::stanza::{self, Stanza, node_with_bytes};

/// The answer to a change of app state that others came before.
const CONFLICT: u16 = 409;

impl Hub {
    pub(super) fn account_request(
        &self,
        sender: &Sender,
        iq: &Node,
        namespace: &str,
        verb: &str,
    ) -> Node {
        let get = iq.kind() == "get";
        match (namespace, verb) {
            ("w:p" | "urn:xmpp:ping" | "urn:xmpp:whatsapp:dirty", _) => {
                stanza::result(iq, Vec::new())
            }
            ("abt" | "w", "props") => stanza::result(
                iq,
                vec![
                    NodeBuilder::new("props")
                        .attr("protocol", "1")
                        .attr("ab_key", "simulated")
                        .attr("hash", "simulated")
                        .attr("refresh", 86_400)
                        .build(),
                ],
            ),
            ("blocklist", _) => stanza::result(iq, vec![NodeBuilder::new("list").build()]),
            ("privacy", "privacy") if get => stanza::result(iq, vec![privacy()]),
            ("w:m", _) => match self.media_conn() {
                Some(conn) => stanza::result(iq, vec![conn]),
                None => stanza::error(iq, 503, "service-unavailable"),
            },
            ("w:profile:picture", _) if get => stanza::error(iq, 404, "item-not-found"),
            ("status", _) | ("privacy", "tokens") => stanza::result(iq, Vec::new()),
            _ => {
                tracing::debug!(device = %sender.companion.key, namespace, verb, "unknown request");
                self.counters.unknown_iqs.one();
                stanza::result(iq, Vec::new())
            }
        }
    }

    /// `w:sync:app:state`: collections asked for, and patches uploaded.
    pub(super) fn app_state_request(&self, sender: &Sender, iq: &Node) -> Node {
        let collections = iq.child("sync").map(Stanza::nodes).unwrap_or_default();
        let answers = collections.iter().map(|collection| self.sync(sender, collection));
        let sync = NodeBuilder::new("sync").children(answers).build();
        stanza::result(iq, vec![sync])
    }

    fn sync(&self, sender: &Sender, collection: &Node) -> Node {
        let name = collection.text("name").unwrap_or_default();
        let version = collection.text("version").and_then(|it| it.parse().ok()).unwrap_or_default();
        let state = &sender.person.app_state;
        let upload = collection.child("patch").and_then(Stanza::bytes).map(<[u8]>::to_vec);
        let answer = NodeBuilder::new("collection").attr("name", name.as_str());
        if let Some(patch) = upload {
            let device = sender.companion.key.device;
            if let Err(text) = state.check(&name, version, &patch) {
                let key = Some(&sender.companion.key);
                self.violations.record(ViolationKind::BadSignature, key, text);
            }
            return if let Some(version) = state.accept(&name, version, &patch) {
                self.announce_app_state(&sender.person, &name, version, Some(device));
                answer.attr("version", version).build()
            } else {
                let error = NodeBuilder::new("error").attr("code", CONFLICT);
                answer.attr("type", "error").children([error.build()]).build()
            };
        }
        let (newest, patches) = state.since(&name, version);
        let answer = answer.attr("version", newest);
        if patches.is_empty() {
            return answer.build();
        }
        let patches = patches.into_iter().map(|patch| node_with_bytes("patch", patch));
        answer.children([NodeBuilder::new("patches").children(patches).build()]).build()
    }
}

/// Settings as a new account has them.
fn privacy() -> Node {
    let settings = [
        ("readreceipts", "all"),
        ("last", "all"),
        ("online", "all"),
        ("profile", "all"),
        ("status", "all"),
        ("groupadd", "all"),
        ("calladd", "all"),
    ];
    let categories = settings.map(|(name, value)| {
        NodeBuilder::new("category").attr("name", name).attr("value", value).build()
    });
    let mut node = NodeBuilder::new("privacy").build();
    node.content = Some(NodeContent::Nodes(categories.to_vec()));
    node
}
