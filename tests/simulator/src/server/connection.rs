//! One connection: handshake, then a task that reads and one that writes.

use std::sync::Arc;

use futures_util::StreamExt;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio_websockets::ServerBuilder;
use tracing::debug_span;
use wacore_binary::Node;

use super::Hub;
use super::link::{Link, Outgoing};
use crate::fault::Fault;
use crate::locked;
use crate::violation::ViolationKind;
use crate::wire::frames::{FrameReader, FrameWriter};
use crate::wire::{WireError, handshake, intro};

/// What became of the intro and the handshake.
struct Opened {
    reader: FrameReader,
    writer: FrameWriter,
    greeting: Greeting,
}

/// What a client has proved and claimed by the end of the handshake.
pub(crate) struct Greeting {
    pub(crate) pattern: handshake::NoisePattern,
    pub(crate) payload: waproto::whatsapp::ClientPayload,
    pub(crate) client: [u8; 32],
    pub(crate) routing: Option<Vec<u8>>,
}

impl Hub {
    /// Serves one connection to its end.
    pub(crate) async fn serve(self: Arc<Self>, id: u64, stream: TcpStream) {
        stream.set_nodelay(true).ok();
        let Some(stream) = self.refuse_connection(stream).await else { return };
        let opened = match self.open(stream).await {
            Ok(opened) => opened,
            Err(WireError::Closed(_) | WireError::WebSocket(_)) => return,
            Err(error) => {
                self.violations.record(ViolationKind::BrokenWire, None, error.to_string());
                return;
            }
        };
        let Opened { mut reader, writer, greeting } = opened;
        let (link, outgoing) = Link::new(id);
        locked(&self.links).insert(id, link.clone());
        let writing = Arc::clone(&self).write_all(writer, outgoing, link.clone());
        self.spawn(debug_span!("writer", id), writing);

        self.greet(&link, greeting).await;
        if let Err(error) = self.read_all(&mut reader, &link).await {
            self.lost(&link, &error);
        }
        // Cutting ends the writer too.
        drop(reader);
        // Gone before anybody is told so: a fault meant for the next login must not strike this.
        locked(&self.links).remove(&id);
        self.departed(&link);
        link.cut();
        link.ended();
    }

    async fn open(&self, stream: TcpStream) -> Result<Opened, WireError> {
        let (_request, socket) = ServerBuilder::new().accept(stream).await?;
        let (sink, stream) = socket.split();
        let (mut reader, mut writer) = (FrameReader::new(stream), FrameWriter::new(sink));
        let intro = intro::read(reader.stream()).await?;
        reader.feed(&intro.rest);
        let keys = self.keys();
        let established = handshake::respond(&mut reader, &mut writer, &keys).await?;
        reader.encrypt_with(established.reading);
        writer.encrypt_with(established.writing);
        let greeting = Greeting {
            pattern: established.pattern,
            payload: established.payload,
            client: established.client,
            routing: intro.routing,
        };
        Ok(Opened { reader, writer, greeting })
    }

    /// Until the client has gone, or the connection is cut. What is begun with is done all the same: a message that
    /// was acknowledged is nobody's to send again.
    async fn read_all(
        self: &Arc<Self>,
        reader: &mut FrameReader,
        link: &Link,
    ) -> Result<(), WireError> {
        loop {
            let next = tokio::select! {
                biased;
                () = link.until_cut() => return Ok(()),
                next = reader.next() => next,
            };
            let Some((node, size)) = next? else { return Ok(()) };
            self.counters.stanzas_in.one();
            self.counters.bytes_in.add(size);
            if link.is_deaf() {
                self.counters.stanzas_unheard.one();
            } else {
                tracing::trace!(stanza = %summary(&node), "received");
                Box::pin(self.route(link, node)).await;
            }
        }
    }

    async fn write_all(
        self: Arc<Self>,
        mut writer: FrameWriter,
        mut outgoing: mpsc::UnboundedReceiver<Outgoing>,
        link: Link,
    ) {
        let written = async {
            loop {
                // Flush only when there is nothing more to write: a burst is a few writes.
                let next = if let Ok(next) = outgoing.try_recv() {
                    Some(next)
                } else {
                    writer.flush().await?;
                    outgoing.recv().await
                };
                let Some(Outgoing::Stanza(node)) = next else { break };
                if let Some(delay) = self.delay(&link) {
                    tokio::time::sleep(delay).await;
                }
                tracing::trace!(stanza = %summary(&node), "sent");
                let size = writer.feed(&node).await?;
                self.counters.stanzas_out.one();
                self.counters.bytes_out.add(size);
            }
            writer.flush().await?;
            writer.goodbye().await
        };
        // The reader hears what the client still has to say, and sees the end of both.
        let written = tokio::select! {
            () = link.until_cut() => return,
            written = written => written,
        };
        if let Err(error) = written {
            self.unwritten(&link, &error).await;
        }
    }

    /// What was to be written was not: nothing else will be on this connection, which ends.
    async fn unwritten(&self, link: &Link, error: &WireError) {
        if let WireError::Closed(_) | WireError::WebSocket(_) = error {
            tracing::debug!(%error, "cannot be written to");
            // The client is gone, and the reader hears what it has said before that.
            tokio::time::timeout(self.options.replace_grace, link.until_gone()).await.ok();
        } else {
            let text = error.to_string();
            self.violations.record(ViolationKind::Unwritten, link.device(), text);
        }
        link.cut();
    }

    fn delay(&self, link: &Link) -> Option<std::time::Duration> {
        let slow = |fault: &Fault| matches!(fault, Fault::Slow { .. });
        self.faults.strike(link.device(), slow)?.delay()
    }

    /// A connection that broke off is everyday life; one that sent nonsense is not.
    fn lost(&self, link: &Link, error: &WireError) {
        match error {
            WireError::Closed(_) | WireError::WebSocket(_) => {
                tracing::debug!(%error, "connection lost");
            }
            _ => {
                let text = error.to_string();
                self.violations.record(ViolationKind::BrokenWire, link.device(), text);
            }
        }
    }
}

/// A stanza in one line: its tag, what tells it apart, and its children's tags.
fn summary(node: &Node) -> String {
    use crate::wire::stanza::Stanza;
    let mut line = node.tag.to_string();
    for key in ["xmlns", "type", "class", "id", "to", "from", "participant", "offline"] {
        if let Some(value) = node.text(key) {
            for part in [" ", key, "=", &value] {
                line += part;
            }
        }
    }
    let children: Vec<&str> = node.nodes().iter().take(6).map(|child| &*child.tag).collect();
    if children.is_empty() { line } else { format!("{line} <{}>", children.join(",")) }
}
