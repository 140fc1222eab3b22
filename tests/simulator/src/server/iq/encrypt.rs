//! Keys: what a device publishes, and what it fetches of others.

use wacore::prekeys::compute_key_bundle_digest;
use wacore_binary::builder::NodeBuilder;
use wacore_binary::{Jid, Node};

use super::super::Hub;
use super::super::router::Sender;
use crate::address::PHONE;
use crate::fault::Fault;
use crate::locked;
use crate::people::companion::Companion;
use crate::signal::bundle::{Bundle, KEY_TYPE, OneTimeKey, SignedKey};
use crate::violation::ViolationKind;
use crate::wire::stanza::{self, Stanza, node_with_bytes, number, three_bytes};

/// Answer for a device nobody has.
const NOT_ACCEPTABLE: u16 = 406;

impl Hub {
    pub(super) fn encrypt_request(&self, sender: &Sender, iq: &Node, verb: &str) -> Node {
        let companion = &sender.companion;
        match (iq.kind().as_str(), verb) {
            ("get", "count") => {
                let left = companion.state().one_time.len();
                let count = NodeBuilder::new("count").attr("value", left).build();
                stanza::result(iq, vec![count])
            }
            ("get", "digest") => stanza::result(iq, vec![digest(companion)]),
            ("get", "key") => self.fetch_keys(sender, iq),
            ("get", "identity") => self.fetch_identities(iq),
            ("set", "rotate") => {
                let key = iq.child("rotate").and_then(|rotate| rotate.child("skey"));
                self.take_signed_key(companion, key);
                stanza::result(iq, Vec::new())
            }
            ("set", _) if iq.child("list").is_some() || iq.child("registration").is_some() => {
                self.take_keys(companion, iq);
                stanza::result(iq, Vec::new())
            }
            _ => {
                let text = format!("<{verb}> is no request about keys");
                self.violations.record(ViolationKind::UnknownStanza, Some(&companion.key), text);
                stanza::error(iq, 400, "bad-request")
            }
        }
    }

    /// A client uploads its keys.
    fn take_keys(&self, companion: &Companion, iq: &Node) {
        let registered = &companion.registration;
        if iq.child_bytes("identity").is_some_and(|identity| identity != registered.identity) {
            let text = "uploaded keys are under another identity than the registered one";
            self.violations.record(ViolationKind::BadSignature, Some(&companion.key), text);
        }
        if iq.child_bytes("registration").map(number) != Some(registered.number) {
            let text = "uploaded keys are under another registration id";
            self.violations.record(ViolationKind::BadSignature, Some(&companion.key), text);
        }
        self.take_signed_key(companion, iq.child("skey"));
        let list = iq.child("list").map(Stanza::nodes).unwrap_or_default();
        let keys: Vec<OneTimeKey> = list.iter().filter_map(OneTimeKey::from_node).collect();
        if keys.len() != list.len() {
            let text = "a key in the upload lacks its id or value";
            self.violations.record(ViolationKind::Malformed, Some(&companion.key), text);
        }
        let mut state = companion.state();
        for key in keys {
            let known = state.one_time.iter().position(|known| known.id == key.id);
            match known {
                Some(at) => state.one_time[at] = key,
                None => state.one_time.push_back(key),
            }
        }
    }

    fn take_signed_key(&self, companion: &Companion, node: Option<&Node>) {
        let Some(key) = node.and_then(SignedKey::from_node) else {
            let text = "a signed prekey lacks its id, value or signature";
            self.violations.record(ViolationKind::Malformed, Some(&companion.key), text);
            return;
        };
        if key.is_signed_by(&companion.registration.identity) {
            companion.state().signed = key;
        } else {
            let text = "a signed prekey is not signed by the registered identity";
            self.violations.record(ViolationKind::BadSignature, Some(&companion.key), text);
        }
    }

    /// A client wants to write to devices it has no session with.
    fn fetch_keys(&self, sender: &Sender, iq: &Node) -> Node {
        let refused = |fault: &Fault| matches!(fault, Fault::RefuseKeys { .. });
        let device = Some(&sender.companion.key);
        if let Some(Fault::RefuseKeys { code }) = self.faults.strike(device, refused) {
            return stanza::error(iq, code, "refused");
        }
        let users = iq.child("key").map(Stanza::nodes).unwrap_or_default();
        let answers = users.iter().filter_map(|user| user.jid("jid")).map(|jid| {
            self.bundle_for(sender, &jid).map_or_else(
                || {
                    let error = NodeBuilder::new("error")
                        .attr("code", NOT_ACCEPTABLE)
                        .attr("text", "not-acceptable")
                        .build();
                    NodeBuilder::new("user").attr("jid", &jid).children([error]).build()
                },
                |bundle| bundle.to_user_node(&jid),
            )
        });
        let list = NodeBuilder::new("list").children(answers).build();
        stanza::result(iq, vec![list])
    }

    fn bundle_for(&self, sender: &Sender, jid: &Jid) -> Option<Bundle> {
        let person = self.directory.lookup(jid)?;
        locked(&person.watchers).insert(sender.person.pn.clone());
        if jid.device == PHONE {
            return Some(person.endpoint.publish());
        }
        let companion = person.companion(jid.device)?;
        let bundle = companion.take_bundle();
        self.ask_for_keys(&companion);
        Some(bundle)
    }

    fn fetch_identities(&self, iq: &Node) -> Node {
        let users = iq.child("identity").map(Stanza::nodes).unwrap_or_default();
        let answers = users.iter().filter_map(|user| user.jid("jid")).filter_map(|jid| {
            let person = self.directory.lookup(&jid)?;
            let identity = match jid.device {
                PHONE => person.endpoint.identity_public(),
                number => person.companion(number)?.registration.identity,
            };
            let children =
                [node_with_bytes("type", [KEY_TYPE]), node_with_bytes("identity", identity)];
            Some(NodeBuilder::new("user").attr("jid", &jid).children(children).build())
        });
        stanza::result(iq, vec![NodeBuilder::new("list").children(answers).build()])
    }
}

/// `<digest>`: what the server holds, so that a client can tell whether it agrees.
fn digest(companion: &Companion) -> Node {
    let state = companion.state();
    let registered = &companion.registration;
    let publics: Vec<&[u8]> = state.one_time.iter().map(|key| &key.public[..]).collect();
    let hash = compute_key_bundle_digest(
        &registered.identity,
        &state.signed.public,
        &state.signed.signature,
        &publics,
    );
    let ids = state.one_time.iter().map(|key| node_with_bytes("id", three_bytes(key.id)));
    NodeBuilder::new("digest")
        .children([
            node_with_bytes("registration", registered.number.to_be_bytes()),
            node_with_bytes("type", [KEY_TYPE]),
            node_with_bytes("identity", registered.identity),
            state.signed.to_node(),
            NodeBuilder::new("list").children(ids).build(),
            node_with_bytes("hash", hash),
        ])
        .build()
}
