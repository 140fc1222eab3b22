//! A connection that ends with our right to it.

use std::{io, net::Shutdown, sync::Arc};

use async_trait::async_trait;
use bytes::Bytes;
use tokio::net::TcpStream;
use tokio_util::{
    sync::{CancellationToken, DropGuard},
    task::TaskTracker,
};
use wacore::net::Transport;
use whatsapp_rust::anyhow;

use crate::session::ownership::Tenure;

/// What the client is told of a session that may be somebody else's.
pub(super) const NOT_OURS: &str = "the session may have another owner by now";

/// Has the socket shut down at the end of the tenure, whatever its client is doing then: a client
/// that waits for the database closes nothing. Until the guard is dropped.
pub(super) fn cut_with(
    tenure: &Tenure,
    tcp: TcpStream,
    tracker: &TaskTracker,
) -> io::Result<(TcpStream, DropGuard)> {
    let open = CancellationToken::new();
    if tenure.is_endless() {
        // There is nothing to shut it down for, and a second handle is a second descriptor.
        return Ok((tcp, open.drop_guard()));
    }
    let tcp = tcp.into_std()?;
    let second = tcp.try_clone()?;
    let (over, closed) = (tenure.over().clone(), open.clone());
    tracker.spawn(async move {
        if closed.run_until_cancelled(over.cancelled()).await.is_some() {
            // It may be closed already.
            second.shutdown(Shutdown::Both).ok();
        }
    });
    Ok((TcpStream::from_std(tcp)?, open.drop_guard()))
}

/// A transport that sends nothing for a session that may be somebody else's, acknowledgements
/// included. A process that was paused asks here first of all, before any timer has told it how long
/// that was.
pub(super) struct Leashed<T> {
    pub(super) inner: T,
    pub(super) tenure: Arc<Tenure>,
    /// Dropped with the connection.
    pub(super) _open: DropGuard,
}

#[async_trait]
impl<T: Transport> Transport for Leashed<T> {
    async fn send(&self, data: Bytes) -> Result<(), anyhow::Error> {
        anyhow::ensure!(self.tenure.holds(), NOT_OURS);
        self.inner.send(data).await
    }

    async fn disconnect(&self) {
        self.inner.disconnect().await;
    }

    fn resource_report(&self) -> Option<wacore::stats::TransportResourceReport> {
        self.inner.resource_report()
    }
}
