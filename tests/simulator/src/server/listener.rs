//! Accepting connections.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tracing::{debug_span, info_span};

use super::Hub;
use crate::Error;

/// A listener at work.
#[derive(Clone, Debug)]
pub(crate) struct Listening {
    pub(crate) address: SocketAddr,
    closed: CancellationToken,
    ended: CancellationToken,
}

impl Listening {
    /// Stops accepting; the address is free again when this returns.
    pub(crate) async fn close(&self) {
        self.closed.cancel();
        self.ended.cancelled().await;
    }
}

impl Hub {
    /// Binds an address and accepts there until it is closed or the simulator ends.
    pub(crate) async fn listen(self: &Arc<Self>, address: SocketAddr) -> Result<Listening, Error> {
        if self.stopped.is_cancelled() {
            return Err(Error::Stopped);
        }
        let listener = TcpListener::bind(address).await.map_err(Error::Listen)?;
        let bound = listener.local_addr().map_err(Error::Listen)?;
        let closed = CancellationToken::new();
        let ended = CancellationToken::new();
        let (hub, closing, ending) = (Arc::clone(self), closed.clone(), ended.clone());
        self.spawn(info_span!("listener", %bound), async move {
            let _ended = ending.drop_guard();
            closing.run_until_cancelled(hub.accept(listener)).await;
        });
        Ok(Listening { address: bound, closed, ended })
    }

    async fn accept(self: Arc<Self>, listener: TcpListener) {
        loop {
            let (stream, peer) = match listener.accept().await {
                Ok(accepted) => accepted,
                Err(error) => {
                    // Out of descriptors, most likely: give connections time to end.
                    tracing::warn!(%error, "cannot accept");
                    tokio::time::sleep(std::time::Duration::from_millis(50)).await;
                    continue;
                }
            };
            self.counters.connections.one();
            let id = self.number();
            let hub = Arc::clone(&self);
            let opened = self.sockets.open(id, peer);
            self.spawn(debug_span!("connection", id), async move {
                if asks_for_media(&stream).await {
                    drop(opened);
                    return hub.pass_to_media(stream).await;
                }
                let _opened = opened;
                hub.serve(id, stream).await;
            });
        }
    }
}

impl Hub {
    /// Hands a connection to the media host.
    async fn pass_to_media(&self, mut stream: TcpStream) {
        let Some(address) = self.media.address() else { return };
        if let Ok(mut media) = TcpStream::connect(address).await {
            // It ends when either side has had enough.
            tokio::io::copy_bidirectional(&mut stream, &mut media).await.ok();
        }
    }
}

/// Whether what comes first is a request for a file, and no WebSocket.
async fn asks_for_media(stream: &TcpStream) -> bool {
    const REQUEST: &[u8] = b"GET /v/";
    let mut head = [0; REQUEST.len()];
    loop {
        match stream.peek(&mut head).await {
            Ok(count) if count == REQUEST.len() => return head == *REQUEST,
            Ok(count) if count > 0 && head[..count] == REQUEST[..count] => {
                // The rest of it is on its way.
                tokio::time::sleep(std::time::Duration::from_millis(1)).await;
            }
            Ok(_) | Err(_) => return false,
        }
    }
}
