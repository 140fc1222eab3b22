//! Dialling: TCP, TLS and WebSocket, with a note of how far it came.
//!
//! The library only logs why a connection did not come about. We need to know: a network that is
//! down is waited for, a server that cannot prove that it is WhatsApp is not.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU8, AtomicU64, Ordering},
    },
    task::{Context, Poll},
};

use async_trait::async_trait;
use axum::http::{HeaderValue, Uri, header};
use bytes::Bytes;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};
use tokio_websockets::ClientBuilder;
use wacore::net::{
    Transport, TransportEvent, TransportFactory, WHATSAPP_WEB_ORIGIN, WHATSAPP_WEB_WS_URL,
};
use whatsapp_rust::{
    anyhow::{self, Context as _},
    async_channel,
    transport::{Connector, from_websocket},
};

/// Where a dial got stuck.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::session) enum DialFailure {
    /// No connection to the server, or no answer from it.
    Unreachable,
    /// The server answered our hello, and we did not accept its answer.
    ServerRefused,
}

/// How far the present dial has come, shared with the transport.
#[derive(Clone, Debug, Default)]
pub(super) struct Progress(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    stage: AtomicU8,
    /// Bytes received since the WebSocket was there.
    received: AtomicU64,
}

/// Nothing was dialled since the last look.
const IDLE: u8 = 0;
const DIALLING: u8 = 1;
/// The WebSocket is there; we have said hello, or are about to.
const CONNECTED: u8 = 2;
/// We have answered the server's hello: we accept its certificate.
const ACCEPTED: u8 = 3;

/// A server's hello has two keys and a certificate chain. Anything much shorter (a close frame has
/// a few bytes) is no answer to ours.
const SHORTEST_HELLO: u64 = 64;

impl Progress {
    /// Why the last dial failed, if it did. Asked once per dial.
    pub(super) fn take_failure(&self) -> Option<DialFailure> {
        match self.0.stage.swap(IDLE, Ordering::SeqCst) {
            CONNECTED if self.0.received.load(Ordering::SeqCst) >= SHORTEST_HELLO => {
                Some(DialFailure::ServerRefused)
            }
            DIALLING | CONNECTED => Some(DialFailure::Unreachable),
            _ => None,
        }
    }

    fn reached(&self, stage: u8) {
        self.0.stage.store(stage, Ordering::SeqCst);
    }
}

/// Makes the transports of one link.
pub(super) struct Dialler {
    url: String,
    connector: Arc<Connector>,
    progress: Progress,
}

impl Dialler {
    /// Dials `url`, or WhatsApp when there is none.
    pub(super) fn new(url: Option<String>, connector: Arc<Connector>) -> Self {
        let url = url.unwrap_or_else(|| WHATSAPP_WEB_WS_URL.to_owned());
        Self { url, connector, progress: Progress::default() }
    }

    /// Tells later how far a dial came.
    pub(super) fn progress(&self) -> Progress {
        self.progress.clone()
    }
}

#[async_trait]
impl TransportFactory for Dialler {
    async fn create_transport(
        &self,
    ) -> Result<(Arc<dyn Transport>, async_channel::Receiver<TransportEvent>), anyhow::Error> {
        self.progress.reached(DIALLING);
        let uri: Uri = self.url.parse()?;
        let host = uri.host().context("the server's URL has no host")?;
        let tls = uri.scheme_str() == Some("wss");
        let port = uri.port_u16().unwrap_or(if tls { 443 } else { 80 });

        let tcp = TcpStream::connect((host.trim_matches(['[', ']']), port)).await?;
        // Frames are small and each is waited for.
        tcp.set_nodelay(true)?;
        let plain = Connector::Plain;
        let connector = if tls { &*self.connector } else { &plain };
        let stream = connector.wrap(host, tcp).await?;
        let stream = Counted { inner: stream, progress: self.progress.clone() };
        let (socket, _response) = ClientBuilder::from_uri(uri.clone())
            .add_header(header::ORIGIN, HeaderValue::from_static(WHATSAPP_WEB_ORIGIN))?
            .connect_on(stream)
            .await?;
        self.progress.0.received.store(0, Ordering::SeqCst);
        self.progress.reached(CONNECTED);

        let (inner, events) = from_websocket(socket);
        let transport = Watched { inner, progress: self.progress.clone(), sent: AtomicU8::new(0) };
        Ok((Arc::new(transport), events))
    }
}

/// A transport that notices when the handshake is over.
struct Watched {
    inner: Arc<dyn Transport>,
    progress: Progress,
    /// Frames sent, as far as two.
    sent: AtomicU8,
}

#[async_trait]
impl Transport for Watched {
    async fn send(&self, data: Bytes) -> Result<(), anyhow::Error> {
        // The first frame is the client's hello. A second one is only ever sent by a client that
        // has verified the server's answer to it.
        if self.sent.load(Ordering::Relaxed) < 2 && self.sent.fetch_add(1, Ordering::Relaxed) == 1 {
            self.progress.reached(ACCEPTED);
        }
        self.inner.send(data).await
    }

    async fn disconnect(&self) {
        self.inner.disconnect().await;
    }

    fn resource_report(&self) -> Option<wacore::stats::TransportResourceReport> {
        self.inner.resource_report()
    }
}

/// A stream that counts what it receives.
struct Counted<S> {
    inner: S,
    progress: Progress,
}

impl<S: AsyncRead + Unpin> AsyncRead for Counted<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let polled = Pin::new(&mut self.inner).poll_read(cx, buf);
        let received = buf.filled().len().saturating_sub(before);
        self.progress.0.received.fetch_add(received as u64, Ordering::Relaxed);
        polled
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Counted<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dial_is_judged_by_how_far_it_came() {
        let progress = Progress::default();
        assert_eq!(progress.take_failure(), None);

        progress.reached(DIALLING);
        assert_eq!(progress.take_failure(), Some(DialFailure::Unreachable));

        progress.reached(CONNECTED);
        progress.0.received.store(4, Ordering::SeqCst);
        assert_eq!(progress.take_failure(), Some(DialFailure::Unreachable), "only a close frame");

        progress.reached(CONNECTED);
        progress.0.received.store(400, Ordering::SeqCst);
        assert_eq!(progress.take_failure(), Some(DialFailure::ServerRefused));

        progress.reached(ACCEPTED);
        assert_eq!(progress.take_failure(), None);
    }
}
