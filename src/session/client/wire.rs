//! What flows between the library and a socket: counted, bounded in time, and cut when need be.
//!
//! The library writes without a deadline and holds a lock while it does: a peer that stops reading
//! would hold up whoever wants to write next, and even the goodbye. Here every write has one, and a
//! write that exceeds it ends the connection, for half a frame may be on its way.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU8, AtomicU64, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Sleep, sleep, timeout},
};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use wacore::net::Transport;
use whatsapp_rust::anyhow;

use super::{
    barrier::Barrier,
    dial::Progress,
    unrecorded::{IDLE, Unrecorded},
};
use crate::fault::moment;

/// How long a frame may take to be taken by the kernel.
const SEND_DEADLINE: Duration = Duration::from_secs(20);

/// How long the goodbye may take.
const GOODBYE_DEADLINE: Duration = Duration::from_secs(2);

/// How much of an answer to the upgrade is kept to be read when it is a refusal.
const LONGEST_HEAD: usize = 4096;

/// One connection's flow. Clones are the same connection.
#[derive(Clone, Debug, Default)]
pub(super) struct Wire(Arc<Flow>);

#[derive(Debug, Default)]
struct Flow {
    /// Bytes received since the WebSocket was there.
    received: AtomicU64,
    cut: CancellationToken,
    /// What was received before the WebSocket was there; none from then on.
    head: Mutex<Option<Vec<u8>>>,
    /// Nothing is received while too much is unrecorded.
    unrecorded: Unrecorded,
}

impl Wire {
    pub(super) fn new(unrecorded: Unrecorded) -> Self {
        Self(Arc::new(Flow { unrecorded, ..Flow::default() }))
    }

    /// Everything over this stream is watched.
    pub(super) fn carry<S>(&self, inner: S) -> Carried<S> {
        *self.head_lock() = Some(Vec::new());
        let cut = Box::pin(self.0.cut.clone().cancelled_owned());
        Carried { inner, wire: self.clone(), cut, again: None }
    }

    /// What the server has said so far, before the WebSocket is there.
    pub(super) fn head(&self) -> Vec<u8> {
        self.head_lock().clone().unwrap_or_default()
    }

    /// The WebSocket is there: from here on bytes are counted and not kept.
    pub(super) fn opened(&self) {
        *self.head_lock() = None;
        self.0.received.store(0, Ordering::Relaxed);
    }

    /// Bytes received since the WebSocket was there.
    pub(super) fn received(&self) -> u64 {
        self.0.received.load(Ordering::Relaxed)
    }

    /// Ends it from our side without a word. Nobody is kept waiting for it any more.
    pub(super) fn cut(&self) {
        self.0.cut.cancel();
    }

    pub(super) fn receive(&self, bytes: u64) {
        self.0.received.fetch_add(bytes, Ordering::Relaxed);
    }

    fn head_lock(&self) -> std::sync::MutexGuard<'_, Option<Vec<u8>>> {
        // Nothing panics while it holds this lock.
        self.0.head.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A stream whose bytes are counted and which can be cut.
pub(super) struct Carried<S> {
    inner: S,
    wire: Wire,
    cut: Pin<Box<WaitForCancellationFutureOwned>>,
    /// While it is not read: when to look again, whether anything was recorded or not.
    again: Option<Pin<Box<Sleep>>>,
}

impl<S> Carried<S> {
    /// Ready when what was read before leaves room for more.
    fn poll_open(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        use std::future::Future as _;
        while self.wire.0.unrecorded.poll_open(cx).is_pending() {
            let again = self.again.get_or_insert_with(|| Box::pin(sleep(IDLE)));
            ready!(again.as_mut().poll(cx));
            self.again = None;
        }
        self.again = None;
        Poll::Ready(())
    }

    /// Whether it was cut; if not, who asks is woken when it is.
    fn is_cut(&mut self, cx: &mut Context<'_>) -> bool {
        use std::future::Future as _;
        self.wire.0.cut.is_cancelled() || self.cut.as_mut().poll(cx).is_ready()
    }
}

fn was_cut() -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionAborted, "the connection was given up")
}

impl<S: AsyncRead + Unpin> AsyncRead for Carried<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.is_cut(cx) {
            return Poll::Ready(Err(was_cut()));
        }
        ready!(self.poll_open(cx));
        let before = buf.filled().len();
        let polled = Pin::new(&mut self.inner).poll_read(cx, buf);
        let received = &buf.filled()[before.min(buf.filled().len())..];
        if received.is_empty() {
            return polled;
        }
        self.wire.receive(received.len() as u64);
        self.wire.0.unrecorded.read(received.len());
        // Only the upgrade's answer, whose end is near.
        if let Some(head) = &mut *self.wire.head_lock() {
            let room = LONGEST_HEAD.saturating_sub(head.len()).min(received.len());
            head.extend_from_slice(&received[..room]);
        }
        polled
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Carried<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.wire.0.cut.is_cancelled() {
            return Poll::Ready(Err(was_cut()));
        }
        Pin::new(&mut self.inner).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.wire.0.cut.is_cancelled() {
            return Poll::Ready(Err(was_cut()));
        }
        Pin::new(&mut self.inner).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.wire.0.cut.is_cancelled() {
            return Poll::Ready(Err(was_cut()));
        }
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

/// A transport that notices when the handshake is over, says nothing that the database does not know,
/// and does not wait for ever.
pub(super) struct Watched {
    inner: Arc<dyn Transport>,
    wire: Wire,
    progress: Progress,
    barrier: Barrier,
    /// Frames sent, as far as two.
    sent: AtomicU8,
    send_deadline: Duration,
    goodbye_deadline: Duration,
}

impl Watched {
    pub(super) fn new(
        inner: Arc<dyn Transport>,
        wire: Wire,
        progress: Progress,
        barrier: Barrier,
    ) -> Self {
        Self {
            inner,
            wire,
            progress,
            barrier,
            sent: AtomicU8::new(0),
            send_deadline: SEND_DEADLINE,
            goodbye_deadline: GOODBYE_DEADLINE,
        }
    }
}

#[async_trait]
impl Transport for Watched {
    async fn send(&self, data: Bytes) -> Result<(), anyhow::Error> {
        // The first frame is the client's hello. A second one is only ever sent by a client that
        // has verified the server's answer to it.
        if self.sent.load(Ordering::Relaxed) < 2 && self.sent.fetch_add(1, Ordering::Relaxed) == 1 {
            self.progress.accepted();
        }
        tokio::select! {
            biased;
            () = self.wire.0.cut.cancelled() => Err(was_cut().into()),
            sent = async {
                let signs = self.barrier.pass().await?;
                // The database may take its time; the server may not.
                let Ok(sent) = timeout(self.send_deadline, self.inner.send(data)).await else {
                    self.wire.cut();
                    anyhow::bail!("the server takes nothing any more");
                };
                if signs && sent.is_ok() {
                    moment!("pairing.signed");
                }
                sent
            } => sent,
        }
    }

    async fn disconnect(&self) {
        // Whoever writes at this moment holds what the goodbye needs.
        if timeout(self.goodbye_deadline, self.inner.disconnect()).await.is_err() {
            self.wire.cut();
        }
    }

    fn resource_report(&self) -> Option<wacore::stats::TransportResourceReport> {
        self.inner.resource_report()
    }
}

#[cfg(test)]
#[path = "wire_tests.rs"]
mod tests;
