//! Each stanza to whom it concerns.

use std::sync::Arc;

use wacore_binary::Node;

use super::{Hub, Link};
use crate::observe::Typing;
use crate::people::companion::Companion;
use crate::people::person::Person;
use crate::violation::ViolationKind;
use crate::wire::stanza::{self, Stanza};

/// The device a stanza came from.
pub(crate) struct Sender {
    pub(crate) person: Arc<Person>,
    pub(crate) companion: Arc<Companion>,
    pub(crate) link: Link,
}

impl Hub {
    /// Handles one stanza of a client.
    pub(crate) async fn route(self: &Arc<Self>, link: &Link, node: Node) {
        let Some(sender) = self.sender(link) else {
            self.route_unpaired(link, &node);
            return;
        };
        match &*node.tag {
            "iq" => self.request(&sender, &node).await,
            "message" => self.message(&sender, &node).await,
            "receipt" => self.receipt(&sender, &node).await,
            "ack" => acknowledged(&sender, &node),
            "chatstate" => self.typing(&sender, &node),
            "presence" => presence(&sender, &node),
            // Sessions of the user interface, offline batches: nothing to answer.
            "ib" => {}
            // Calls come with a later issue; the ack keeps the client from waiting.
            "notification" | "call" => link.send(stanza::ack(&node).build()),
            // The client says goodbye.
            "xmlstreamend" | "stream:end" => link.cut(),
            tag => {
                let text = format!("<{tag}> is no stanza of a client");
                self.violations.record(ViolationKind::UnknownStanza, link.device(), text);
            }
        }
    }

    /// Who a connection belongs to; `None` before login and after unlinking.
    fn sender(&self, link: &Link) -> Option<Sender> {
        let device = link.device()?;
        let person = self.directory.find(&device.pn)?;
        let companion = person.companion(device.device)?;
        Some(Sender { person, companion, link: link.clone() })
    }

    fn route_unpaired(self: &Arc<Self>, link: &Link, node: &Node) {
        match (&*node.tag, node.kind().as_str()) {
            ("iq", "result" | "error") => self.pairing_answered(link, node),
            ("iq", _) => self.request_unpaired(link, node),
            ("ack" | "ib" | "presence", _) => {}
            // Its device was unlinked a moment ago: what it still sends is lost.
            _ if link.device().is_some() => {}
            (tag, _) => {
                let text = format!("<{tag}> before login");
                self.violations.record(ViolationKind::TooEarly, None, text);
            }
        }
    }

    fn typing(&self, sender: &Sender, node: &Node) {
        let Some(chat) = node.jid("to") else {
            let text = "<chatstate> without an addressee";
            self.violations.record(ViolationKind::Malformed, Some(&sender.companion.key), text);
            return;
        };
        let state = match node.nodes().first() {
            Some(composing) if composing.tag == "composing" => {
                let audio = composing.text("media").as_deref() == Some("audio");
                if audio { "recording" } else { "composing" }
            }
            _ => "paused",
        };
        let device = sender.companion.key.clone();
        let typing = Typing { device, chat: chat.clone(), state: state.to_owned() };
        sender.person.journal.push(|entries| &mut entries.typing, typing);
        // Real clients of the addressee see it too.
        if let Some(person) = self.directory.lookup(&chat).filter(|_| !is_group(&chat)) {
            for companion in person.companions() {
                let mut copy = node.clone();
                copy.attrs.0.retain(|(key, _)| key != "to");
                copy.attrs.push("from", sender.person.address());
                companion.mention(copy);
            }
        }
    }
}

/// `<ack>`: the client has what we sent. One with an error is a refusal, and final as well.
fn acknowledged(sender: &Sender, ack: &Node) {
    let class = ack.text("class").unwrap_or_default();
    sender.confirm(&class, &[ack.id()]);
}

/// `<presence>`: whether the client calls itself available.
fn presence(sender: &Sender, node: &Node) {
    let available = match node.kind().as_str() {
        "" | "available" => true,
        "unavailable" => false,
        _ => return,
    };
    let device = &sender.companion.key;
    sender.person.journal.write(|entries| {
        entries.available.retain(|(known, _)| known != device);
        entries.available.push((device.clone(), available));
    });
}

pub(crate) fn is_group(jid: &wacore_binary::Jid) -> bool {
    use wacore_binary::JidExt as _;
    jid.is_group()
}
