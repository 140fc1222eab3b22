//! Connections: accepted, bounded, and closed in good order.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use axum::{Router, body::Body, http::Request};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};
use tokio_rustls::TlsAcceptor;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tower::ServiceExt;
use tracing::Instrument;

use super::{
    client::Peer,
    edge::{Edge, Secure},
    limit::{Crowd, Seat},
    refused::{Quoted, Refusing},
    request,
    stalled::Impatient,
    tls::{Tls, TlsError},
    traffic::Connections,
};

/// What of a request's head is read. It is far more than a request may have, so that it is us who refuse
/// what is too much; beyond, hyper answers 431 or 414 itself, which `refused` replaces.
const HEAD_BYTES: usize = 8 * request::HEAD_BYTES;
const HEADERS: usize = 8 * request::HEADERS;

/// Limits of the listener, and whether it speaks TLS.
#[derive(Clone, Debug)]
pub struct ServeOptions {
    /// Connections at the same time. More wait in the kernel's queue. Of one neighbourhood a quarter; more are closed,
    /// unless they are a trusted proxy's.
    pub connections: usize,
    /// How long a request's head may take to arrive, and how long a connection may be idle.
    pub head_time: Duration,
    /// How long a client may take nothing of what is written to it.
    pub write_time: Duration,
    /// What stands in front.
    pub edge: Edge,
    pub counts: Connections,
    /// The certificate to speak TLS with; none to speak plainly.
    pub tls: Option<Arc<Tls>>,
}

impl Default for ServeOptions {
    fn default() -> Self {
        Self {
            connections: 4096,
            head_time: Duration::from_secs(30),
            write_time: Duration::from_secs(30),
            edge: Edge::default(),
            counts: Connections::default(),
            tls: None,
        }
    }
}

/// Answers requests until `soft` is cancelled and those in progress are answered.
///
/// With `hard`, connections are dropped where they stand.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    options: ServeOptions,
    soft: CancellationToken,
    hard: CancellationToken,
) -> Result<(), TlsError> {
    let tls = options.tls.as_ref().map(Tls::acceptor).transpose()?;
    let connections = TaskTracker::new();
    let places = Arc::new(Semaphore::new(options.connections));
    let crowd = Crowd::of(options.connections);
    loop {
        let accepted = tokio::select! {
            biased;
            () = soft.cancelled() => break,
            () = hard.cancelled() => break,
            accepted = accept(&listener, &places) => accepted,
        };
        let (stream, address, place) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                refused(&error).await;
                continue;
            }
        };
        let Ok(seat) = seat(&crowd, &options.edge, address.ip()) else {
            // Nothing was read of it, so nothing is said: it costs as little as can be.
            options.counts.was_crowded();
            tracing::debug!("A connection is closed: its neighbourhood has its share");
            continue;
        };
        let talk = Talk {
            router: router.clone(),
            head_time: options.head_time,
            edge: options.edge.clone(),
            soft: soft.clone(),
            hard: hard.clone(),
        };
        // Answers are written whole: waiting for more to send only delays them.
        stream.set_nodelay(true).ok();
        let stream = Impatient::new(stream, options.write_time, options.counts.clone());
        let connection = begin(stream, address, tls.clone(), talk);
        let span = tracing::debug_span!("http.connection");
        connections.spawn(
            async move {
                connection.await;
                drop((seat, place));
            }
            .instrument(span),
        );
    }
    // From here on the kernel turns newcomers away.
    drop(listener);
    connections.close();
    connections.wait().await;
    Ok(())
}

async fn accept(
    listener: &TcpListener,
    places: &Arc<Semaphore>,
) -> io::Result<(TcpStream, SocketAddr, OwnedSemaphorePermit)> {
    let place = Arc::clone(places).acquire_owned().await.map_err(io::Error::other)?;
    let (stream, address) = listener.accept().await?;
    Ok((stream, address, place))
}

/// What a connection from this address has of its neighbourhood's share; none is needed for a trusted proxy's.
fn seat(crowd: &Crowd, edge: &Edge, address: IpAddr) -> Result<Option<Seat>, Crowded> {
    if edge.proxies.trusts(address.to_canonical()) {
        return Ok(None);
    }
    crowd.enter(address).map(Some).ok_or(Crowded)
}

/// The neighbourhood has its share.
struct Crowded;

/// A connection that broke before it was accepted is nobody's business; anything else, such as too
/// many open files, needs time to pass.
async fn refused(error: &io::Error) {
    let is_broken = matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionRefused
            | io::ErrorKind::ConnectionReset
    );
    if !is_broken {
        tracing::error!(error = error as &dyn std::error::Error, "Connections cannot be accepted");
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

/// What one connection is served with.
struct Talk {
    router: Router,
    head_time: Duration,
    edge: Edge,
    soft: CancellationToken,
    hard: CancellationToken,
}

/// Serves one connection, after a handshake where there is TLS.
async fn begin(
    stream: Impatient<TcpStream>,
    peer: SocketAddr,
    tls: Option<TlsAcceptor>,
    talk: Talk,
) {
    let Some(tls) = tls else { return converse(stream, peer, false, talk).await };
    let shaken = tokio::select! {
        biased;
        () = talk.hard.cancelled() => return,
        () = talk.soft.cancelled() => return,
        shaken = timeout(talk.head_time, tls.accept(stream)) => shaken,
    };
    match shaken {
        Ok(Ok(stream)) => converse(stream, peer, true, talk).await,
        Ok(Err(error)) => {
            tracing::debug!(error = &error as &dyn std::error::Error, "No TLS came about");
        }
        Err(_) => tracing::debug!("No TLS came about in time"),
    }
}

async fn converse<S>(stream: S, peer: SocketAddr, secure: bool, talk: Talk)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let Talk { router, head_time, edge, soft, hard } = talk;
    let peer = Peer(peer.ip().to_canonical());
    let quoted = Quoted::default();
    let stream = Refusing::new(stream, secure, quoted.clone(), &edge.origins);
    let service = service_fn(move |mut request: Request<Incoming>| {
        let (router, quoted) = (router.clone(), quoted.clone());
        request.extensions_mut().insert(peer);
        if secure {
            request.extensions_mut().insert(Secure);
        }
        async move { router.oneshot(request.map(Body::new)).await.map(|it| quoted.watch(it)) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(head_time)
        .max_buf_size(HEAD_BYTES)
        .max_headers(HEADERS)
        .serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);

    let mut closing = false;
    loop {
        tokio::select! {
            biased;
            () = hard.cancelled() => return,
            () = soft.cancelled(), if !closing => {
                connection.as_mut().graceful_shutdown();
                closing = true;
            }
            outcome = connection.as_mut() => {
                // Clients come and go; how is of interest only when looked for.
                if let Err(error) = outcome {
                    tracing::debug!(error = &error as &dyn std::error::Error, "Connection ended");
                }
                return;
            }
        }
    }
}
