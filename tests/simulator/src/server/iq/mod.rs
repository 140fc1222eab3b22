//! Requests: `<iq type="get">` and `<iq type="set">`.

mod account;
mod encrypt;
mod groups;
mod usync;

use std::sync::Arc;

use wacore_binary::Node;

use super::router::Sender;
use super::{Hub, Link};
use crate::fault::Fault;
use crate::violation::ViolationKind;
use crate::wire::stanza::{self, Stanza};

impl Hub {
    /// Answers a request of a linked device.
    pub(crate) async fn request(self: &Arc<Self>, sender: &Sender, iq: &Node) {
        if !matches!(iq.kind().as_str(), "get" | "set") {
            return;
        }
        let namespace = iq.text("xmlns").unwrap_or_default();
        let verb = iq.nodes().first().map(|node| node.tag.to_string()).unwrap_or_default();
        let ignores = |fault: &Fault| *fault == Fault::IgnoreRequests;
        let asks_for_life = matches!(namespace.as_str(), "w:p" | "urn:xmpp:ping");
        if !asks_for_life && self.faults.strike(sender.link.device(), ignores).is_some() {
            return;
        }
        let answer = match (namespace.as_str(), verb.as_str()) {
            ("encrypt", _) => self.encrypt_request(sender, iq, &verb),
            ("passive", "active") => {
                sender.link.send(stanza::result(iq, Vec::new()));
                self.share_keys(sender).await;
                sender.companion.activate();
                return;
            }
            ("passive", "passive") => {
                sender.companion.state().active = false;
                stanza::result(iq, Vec::new())
            }
            ("usync", _) => self.usync(sender, iq),
            ("w:g2", _) => self.group_request(sender, iq, &verb),
            ("w:sync:app:state", _) => self.app_state_request(sender, iq),
            ("md", "remove-companion-device") => {
                sender.link.send(stanza::result(iq, Vec::new()));
                self.unlink(&sender.person, sender.companion.key.device);
                return;
            }
            ("md", "link_code_companion_reg") => {
                let text = "a linked device asks for a pairing code";
                let device = Some(&sender.companion.key);
                self.violations.record(ViolationKind::UnknownStanza, device, text);
                stanza::error(iq, 400, "bad-request")
            }
            _ => self.account_request(sender, iq, &namespace, &verb),
        };
        sender.link.send(answer);
    }

    /// Answers a request of a client that is not linked.
    pub(crate) fn request_unpaired(self: &Arc<Self>, link: &Link, iq: &Node) {
        let answer = match (iq.text("xmlns").as_deref(), iq.nodes().first()) {
            (Some("md"), Some(child)) if child.tag == "link_code_companion_reg" => {
                self.link_code(link, iq, child)
            }
            (Some("md"), Some(child)) if self.concerns_passkey(link, child) => {
                self.passkey_request(iq, child)
            }
            (Some("w:p" | "urn:xmpp:ping"), _) => stanza::result(iq, Vec::new()),
            // Unlinked a moment ago, and not told yet when it asked.
            _ if link.device().is_some() => stanza::error(iq, 401, "not-authorized"),
            (namespace, _) => {
                let text = format!("a request for {} before login", namespace.unwrap_or_default());
                self.violations.record(ViolationKind::TooEarly, link.device(), text);
                stanza::error(iq, 401, "not-authorized")
            }
        };
        link.send(answer);
    }
}
