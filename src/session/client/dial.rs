//! Dialling: TCP, TLS and WebSocket, with a note of how far it came.
//!
//! The library only logs why a connection did not come about. We need to know: a network that is
//! down is waited for, a server that cannot prove that it is WhatsApp is not, and one that asks for
//! fewer dials gets fewer. What is sent and received afterwards goes through `wire.rs`.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU8, AtomicU32, Ordering},
    },
    time::{Duration, SystemTime},
};

use async_trait::async_trait;
use axum::http::{HeaderValue, Uri, header};
use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tokio_websockets::ClientBuilder;
use wacore::net::{
    Transport, TransportEvent, TransportFactory, WHATSAPP_WEB_ORIGIN, WHATSAPP_WEB_WS_URL,
};
use whatsapp_rust::{
    anyhow::{self, Context as _},
    async_channel,
    transport::{Connector, from_websocket},
};

use super::{
    barrier::Barrier,
    leash::{Leashed, NOT_OURS, cut_with},
    wire::{Watched, Wire},
};
use crate::{fault::moment, session::ownership::Tenure};

/// How long the kernel waits for the other end to confirm what was sent before it gives the
/// connection up. Our own watch on what is received is the rule; this is for a half-open socket to
/// which we only write.
const UNCONFIRMED: Duration = Duration::from_secs(45);

/// When the kernel asks an idle connection for a sign of life: after this long, and every so often.
const KEEPALIVE: (Duration, Duration) = (Duration::from_secs(25), Duration::from_secs(10));

/// How often one client may dial: once, and once more when the server restarts the stream after a pairing.
/// The library would do so as often, and as fast, as the server restarts it, past the pace that all sessions
/// keep together.
const MOST_DIALS: u32 = 2;

/// Where a dial got stuck.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::session) enum DialFailure {
    /// No connection to the server, or no answer from it.
    Unreachable,
    /// The server answered our hello, and we did not accept its answer.
    ServerRefused,
    /// The server did not let us speak the protocol at all, with this HTTP status. It may have said
    /// for how long.
    Upgrade { status: u16, retry_after: Option<Duration> },
}

/// How far the present dial has come, shared with the transport.
#[derive(Clone, Debug, Default)]
pub(super) struct Progress(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    stage: AtomicU8,
    /// Dials begun by this client.
    dials: AtomicU32,
    /// It wanted to dial once more than it may.
    spent: CancellationToken,
    /// What the server said instead of switching protocols.
    refusal: Mutex<Option<DialFailure>>,
    /// The connection of the present dial, once it is there.
    wire: Mutex<Wire>,
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
        let stage = self.0.stage.swap(IDLE, Ordering::SeqCst);
        if let Some(refusal) = lock(&self.0.refusal).take() {
            return Some(refusal);
        }
        match stage {
            CONNECTED if self.received() >= SHORTEST_HELLO => Some(DialFailure::ServerRefused),
            DIALLING | CONNECTED => Some(DialFailure::Unreachable),
            _ => None,
        }
    }

    /// Whether the server has answered our hello: what is missing is the login. (A client that has
    /// been there before sends all it has to say with the hello.)
    pub(super) fn is_answered(&self) -> bool {
        matches!(self.0.stage.load(Ordering::SeqCst), CONNECTED | ACCEPTED)
            && self.received() >= SHORTEST_HELLO
    }

    /// Counts a dial. Whether it may be.
    fn may_dial(&self) -> bool {
        let may = self.0.dials.fetch_add(1, Ordering::SeqCst) < MOST_DIALS;
        if !may {
            self.0.spent.cancel();
        }
        may
    }

    /// Returns when the client has wanted to dial more often than it may: any further dial is ours.
    pub(super) async fn spent(&self) {
        self.0.spent.cancelled().await;
    }

    /// Bytes received on the present connection.
    pub(super) fn received(&self) -> u64 {
        lock(&self.0.wire).received()
    }

    /// Cuts the present connection: whoever reads or writes is told that it is broken.
    pub(super) fn cut(&self) {
        lock(&self.0.wire).cut();
    }

    /// The client has answered the server's hello.
    pub(super) fn accepted(&self) {
        self.reached(ACCEPTED);
    }

    fn reached(&self, stage: u8) {
        self.0.stage.store(stage, Ordering::SeqCst);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    // Nothing panics while it holds one of these locks.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Makes the transports of one link.
pub(super) struct Dialler {
    url: String,
    connector: Arc<Connector>,
    progress: Progress,
    tenure: Arc<Tenure>,
    tracker: TaskTracker,
    barrier: Barrier,
}

impl Dialler {
    /// Dials `url`, or WhatsApp when there is none; while `tenure` holds.
    pub(super) fn new(
        url: Option<String>,
        connector: Arc<Connector>,
        tenure: Arc<Tenure>,
        tracker: TaskTracker,
        barrier: Barrier,
    ) -> Self {
        let url = url.unwrap_or_else(|| WHATSAPP_WEB_WS_URL.to_owned());
        Self { url, connector, progress: Progress::default(), tenure, tracker, barrier }
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
        moment!("session.dialling");
        anyhow::ensure!(self.tenure.holds(), NOT_OURS);
        anyhow::ensure!(self.progress.may_dial(), "the next dial is not this client's");
        self.progress.reached(DIALLING);
        let uri: Uri = self.url.parse()?;
        let host = uri.host().context("the server's URL has no host")?;
        let tls = uri.scheme_str() == Some("wss");
        let port = uri.port_u16().unwrap_or(if tls { 443 } else { 80 });

        let tcp = TcpStream::connect((host.trim_matches(['[', ']']), port)).await?;
        prepare(&tcp);
        let (tcp, open) = cut_with(&self.tenure, tcp, &self.tracker)?;
        let plain = Connector::Plain;
        let connector = if tls { &*self.connector } else { &plain };
        let stream = connector.wrap(host, tcp).await?;
        let wire = Wire::new(self.barrier.unrecorded().clone());
        *lock(&self.progress.0.wire) = wire.clone();
        let upgrade = ClientBuilder::from_uri(uri.clone())
            .add_header(header::ORIGIN, HeaderValue::from_static(WHATSAPP_WEB_ORIGIN))?;
        let (socket, _response) = match upgrade.connect_on(wire.carry(stream)).await {
            Ok(opened) => opened,
            Err(error) => {
                *lock(&self.progress.0.refusal) = refusal(&wire.head(), SystemTime::now());
                return Err(error.into());
            }
        };
        wire.opened();
        self.progress.reached(CONNECTED);

        let (inner, events) = from_websocket(socket);
        // What waits for the database is asked afterwards whether it is still ours to send.
        let leashed = Leashed { inner, tenure: Arc::clone(&self.tenure), _open: open };
        let (progress, barrier) = (self.progress.clone(), self.barrier.clone());
        let transport = Watched::new(Arc::new(leashed), wire, progress, barrier);
        Ok((Arc::new(transport), events))
    }
}

/// Makes the kernel notice a dead connection.
fn prepare(tcp: &TcpStream) {
    // Frames are small and each is waited for.
    tcp.set_nodelay(true).ok();
    let socket = SockRef::from(tcp);
    let (after, every) = KEEPALIVE;
    let keepalive = TcpKeepalive::new().with_time(after).with_interval(every).with_retries(2);
    // A kernel that cannot do this leaves it to our own watch.
    socket.set_tcp_keepalive(&keepalive).ok();
    socket.set_tcp_user_timeout(Some(UNCONFIRMED)).ok();
}

/// Reads an answer that is no switch of protocols.
fn refusal(head: &[u8], now: SystemTime) -> Option<DialFailure> {
    let mut headers = [httparse::EMPTY_HEADER; 64];
    let mut response = httparse::Response::new(&mut headers);
    // An answer that is cut short may still have its status.
    response.parse(head).ok()?;
    let status = response.code.filter(|status| *status != 101)?;
    let retry_after = response
        .headers
        .iter()
        .find(|header| header.name.eq_ignore_ascii_case("retry-after"))
        .and_then(|header| std::str::from_utf8(header.value).ok())
        .and_then(|value| retry_after(value.trim(), now));
    Some(DialFailure::Upgrade { status, retry_after })
}

/// Seconds, or a date (RFC 9110, section 10.2.3).
fn retry_after(value: &str, now: SystemTime) -> Option<Duration> {
    if let Ok(seconds) = value.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let at = httpdate::parse_http_date(value).ok()?;
    Some(at.duration_since(now).unwrap_or_default())
}

#[cfg(test)]
#[path = "dial_tests.rs"]
mod tests;
