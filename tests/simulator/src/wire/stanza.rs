//! Reading and building stanzas without ceremony.

use wacore_binary::builder::NodeBuilder;
use wacore_binary::{Jid, Node, NodeContent, Server};

use crate::clock::unix_seconds;

/// What the simulator asks of a stanza it received.
pub(crate) trait Stanza {
    /// An attribute as text.
    fn text(&self, key: &str) -> Option<String>;
    /// An attribute as an address.
    fn jid(&self, key: &str) -> Option<Jid>;
    fn child(&self, tag: &str) -> Option<&Node>;
    fn nodes(&self) -> &[Node];
    /// The content, if it is not a list of children.
    fn bytes(&self) -> Option<&[u8]>;
    /// The content of a child.
    fn child_bytes(&self, tag: &str) -> Option<&[u8]>;
    /// `type="…"`, the empty string if there is none.
    fn kind(&self) -> String;
    fn id(&self) -> String;
}

impl Stanza for Node {
    fn text(&self, key: &str) -> Option<String> {
        self.attrs.get(key).map(|value| value.as_str().into_owned())
    }

    fn jid(&self, key: &str) -> Option<Jid> {
        self.attrs.get(key).and_then(wacore_binary::NodeValue::to_jid)
    }

    fn child(&self, tag: &str) -> Option<&Node> {
        self.nodes().iter().find(|node| node.tag == tag)
    }

    fn nodes(&self) -> &[Node] {
        self.children().unwrap_or_default()
    }

    fn bytes(&self) -> Option<&[u8]> {
        match &self.content {
            Some(NodeContent::Bytes(bytes)) => Some(bytes),
            // The decoder turns dictionary words and packed digits into text.
            Some(NodeContent::String(text)) => Some(text.as_bytes()),
            Some(NodeContent::Nodes(_)) | None => None,
        }
    }

    fn child_bytes(&self, tag: &str) -> Option<&[u8]> {
        self.child(tag).and_then(Stanza::bytes)
    }

    fn kind(&self) -> String {
        self.text("type").unwrap_or_default()
    }

    fn id(&self) -> String {
        self.text("id").unwrap_or_default()
    }
}

/// The server's own address, `s.whatsapp.net`.
pub(crate) fn server_jid() -> Jid {
    Jid::new("", Server::Pn)
}

/// A big-endian number of up to four bytes, as ids and registration ids are written.
pub(crate) fn number(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0, |sum, byte| sum << 8 | u32::from(*byte))
}

/// Three bytes, the width of every prekey id.
pub(crate) fn three_bytes(number: u32) -> Vec<u8> {
    number.to_be_bytes()[1..].to_vec()
}

pub(crate) fn node_with_bytes(tag: &'static str, bytes: impl Into<Vec<u8>>) -> Node {
    NodeBuilder::new(tag).bytes(bytes).build()
}

/// `<iq type="result">` for a request, addressed from whom it was sent to.
pub(crate) fn result(request: &Node, children: Vec<Node>) -> Node {
    let answer = answer(request, "result");
    if children.is_empty() { answer.build() } else { answer.children(children).build() }
}

/// `<iq type="error">` for a request.
pub(crate) fn error(request: &Node, code: u16, text: &str) -> Node {
    let error = NodeBuilder::new("error").attr("code", code).attr("text", text);
    answer(request, "error").children([error.build()]).build()
}

/// The same with the seconds the client is told to wait.
pub(crate) fn error_with_backoff(request: &Node, code: u16, text: &str, backoff: u64) -> Node {
    let error =
        NodeBuilder::new("error").attr("code", code).attr("text", text).attr("backoff", backoff);
    answer(request, "error").children([error.build()]).build()
}

fn answer(request: &Node, kind: &str) -> NodeBuilder {
    NodeBuilder::new("iq")
        .attr("from", request.jid("to").unwrap_or_else(server_jid))
        .attr("type", kind)
        .attr("id", request.id())
        .attr("t", unix_seconds())
}

/// `<ack>` for a stanza of a client.
pub(crate) fn ack(of: &Node) -> NodeBuilder {
    let mut ack = NodeBuilder::new("ack")
        .attr("class", of.tag.as_ref())
        .attr("id", of.id())
        .attr("t", unix_seconds());
    if let Some(to) = of.jid("to") {
        ack = ack.attr("from", to);
    }
    if let Some(participant) = of.jid("participant") {
        ack = ack.attr("participant", participant);
    }
    if of.tag != "message"
        && let Some(kind) = of.text("type")
    {
        ack = ack.attr("type", kind);
    }
    ack
}
