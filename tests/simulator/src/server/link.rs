//! A handle to one live connection.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use wacore_binary::Node;

use crate::address::DeviceKey;

/// What the writing task of a connection is told.
#[derive(Debug)]
pub(crate) enum Outgoing {
    Stanza(Arc<Node>),
    /// Everything before this has been written: close properly.
    Close,
}

/// Sends to one connection, and can end it.
#[derive(Clone, Debug)]
pub(crate) struct Link(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    id: u64,
    outgoing: mpsc::UnboundedSender<Outgoing>,
    /// Ends both tasks at once, without a goodbye.
    cut: CancellationToken,
    /// Ended once both tasks are over and the socket is gone.
    gone: CancellationToken,
    deaf: AtomicBool,
    device: OnceLock<DeviceKey>,
}

impl Link {
    pub(crate) fn new(id: u64) -> (Self, mpsc::UnboundedReceiver<Outgoing>) {
        let (outgoing, incoming) = mpsc::unbounded_channel();
        let inner = Inner {
            id,
            outgoing,
            cut: CancellationToken::new(),
            gone: CancellationToken::new(),
            deaf: AtomicBool::new(false),
            device: OnceLock::new(),
        };
        (Self(Arc::new(inner)), incoming)
    }

    pub(crate) fn id(&self) -> u64 {
        self.0.id
    }

    /// Sends a stanza; a connection that has ended loses it, which is what queues are for.
    pub(crate) fn send(&self, node: impl Into<Arc<Node>>) {
        if !self.is_deaf() {
            self.0.outgoing.send(Outgoing::Stanza(node.into())).ok();
        }
    }

    /// Sends a last stanza and closes.
    pub(crate) fn finish(&self, node: Node) {
        self.send(node);
        self.0.outgoing.send(Outgoing::Close).ok();
    }

    /// Ends the connection without a word.
    pub(crate) fn cut(&self) {
        self.0.cut.cancel();
    }

    pub(crate) async fn until_cut(&self) {
        self.0.cut.cancelled().await;
    }

    /// Says that the socket is gone.
    pub(crate) fn ended(&self) {
        self.0.gone.cancel();
    }

    pub(crate) async fn until_gone(&self) {
        self.0.gone.cancelled().await;
    }

    /// From now on nothing is heard and nothing is said.
    pub(crate) fn deafen(&self) {
        self.0.deaf.store(true, Ordering::Release);
    }

    pub(crate) fn is_deaf(&self) -> bool {
        self.0.deaf.load(Ordering::Acquire)
    }

    /// Who is at the other end, once they have logged in.
    pub(crate) fn device(&self) -> Option<&DeviceKey> {
        self.0.device.get()
    }

    pub(crate) fn belongs_to(&self, device: DeviceKey) {
        // Set once: a connection logs in once.
        self.0.device.set(device).ok();
    }
}
