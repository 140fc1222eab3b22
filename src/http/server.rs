//! Connections: accepted, bounded, and closed in good order.

use std::{io, sync::Arc, time::Duration};

use axum::{Router, body::Body, http::Request};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tower::ServiceExt;
use tracing::Instrument;

use super::auth::Peer;

/// Limits of the listener.
#[derive(Clone, Copy, Debug)]
pub struct ServeOptions {
    /// Connections at the same time. More wait in the kernel's queue.
    pub connections: usize,
    /// How long a request's head may take to arrive, and how long a connection may be idle.
    pub head_time: Duration,
}

impl Default for ServeOptions {
    fn default() -> Self {
        Self { connections: 4096, head_time: Duration::from_secs(30) }
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
) {
    let connections = TaskTracker::new();
    let places = Arc::new(Semaphore::new(options.connections));
    loop {
        let accepted = tokio::select! {
            biased;
            () = soft.cancelled() => break,
            () = hard.cancelled() => break,
            accepted = accept(&listener, &places) => accepted,
        };
        let (stream, place) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                refused(&error).await;
                continue;
            }
        };
        let connection =
            converse(stream, router.clone(), options.head_time, soft.clone(), hard.clone());
        let span = tracing::debug_span!("http.connection");
        connections.spawn(
            async move {
                connection.await;
                drop(place);
            }
            .instrument(span),
        );
    }
    // From here on the kernel turns newcomers away.
    drop(listener);
    connections.close();
    connections.wait().await;
}

async fn accept(
    listener: &TcpListener,
    places: &Arc<Semaphore>,
) -> io::Result<(TcpStream, tokio::sync::OwnedSemaphorePermit)> {
    let place = Arc::clone(places).acquire_owned().await.map_err(io::Error::other)?;
    let (stream, _) = listener.accept().await?;
    Ok((stream, place))
}

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

/// Serves one connection.
async fn converse(
    stream: TcpStream,
    router: Router,
    head_time: Duration,
    soft: CancellationToken,
    hard: CancellationToken,
) {
    // Answers are written whole: waiting for more to send only delays them.
    stream.set_nodelay(true).ok();
    let peer = stream.peer_addr().ok().map(|peer| Peer(peer.ip().to_canonical()));
    let service = service_fn(move |mut request: Request<Incoming>| {
        let router = router.clone();
        if let Some(peer) = peer {
            request.extensions_mut().insert(peer);
        }
        async move { router.oneshot(request.map(Body::new)).await }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(head_time)
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
