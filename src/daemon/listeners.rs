//! The sockets that requests come by: bound here, or handed over by whoever started the process.

use std::net::{self, SocketAddr};

use tokio::net::TcpListener;
use tokio_util::sync::DropGuard;

use super::StartError;
use crate::{config, http};

/// Sockets that listen already (systemd's socket activation). One that is there is used in place of the
/// configured address.
#[derive(Debug, Default)]
pub struct Listeners {
    /// For everything.
    pub http: Option<net::TcpListener>,
    /// For `/livez`, `/readyz` and `/metrics` alone.
    pub admin: Option<net::TcpListener>,
}

/// A socket, and where it listens.
pub(super) type Open = (TcpListener, SocketAddr);

impl Listeners {
    /// All that there are to be: for everything, and, if wanted, for watchers.
    pub(super) async fn open(
        self,
        config: &config::Http,
    ) -> Result<(Open, Option<Open>), StartError> {
        let http = match self.http {
            Some(given) => taken_over(given)?,
            None => bound(config.listen).await?,
        };
        let admin = match (self.admin, config.admin_listen) {
            (Some(given), _) => Some(taken_over(given)?),
            (None, Some(address)) => Some(bound(address).await?),
            (None, None) => None,
        };
        Ok((http, admin))
    }
}

async fn bound(address: SocketAddr) -> Result<Open, StartError> {
    let cannot = |source| StartError::Listen { address, source };
    let listener = TcpListener::bind(address).await.map_err(cannot)?;
    let address = listener.local_addr().map_err(cannot)?;
    Ok((listener, address))
}

fn taken_over(given: net::TcpListener) -> Result<Open, StartError> {
    let opened = given.set_nonblocking(true).and_then(|()| {
        let listener = TcpListener::from_std(given)?;
        let address = listener.local_addr()?;
        Ok((listener, address))
    });
    opened.map_err(StartError::HandedOver)
}

/// Answers requests to the end. The guard speaks up then, even after a panic.
pub(super) async fn serve(
    serving: impl Future<Output = Result<(), http::TlsError>>,
    guard: DropGuard,
) {
    if let Err(error) = serving.await {
        let error: &dyn std::error::Error = &error;
        tracing::error!(error, "HTTP cannot be served");
    }
    drop(guard);
}
