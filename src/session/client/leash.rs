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
/// included. A process that was paused asks here, before any timer has told it how long that was; and
/// nothing that takes time comes after the question.
pub(super) struct Leashed {
    pub(super) inner: Arc<dyn Transport>,
    pub(super) tenure: Arc<Tenure>,
    /// Dropped with the connection.
    pub(super) _open: DropGuard,
}

#[async_trait]
impl Transport for Leashed {
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use entity::{UnixMillis, id::NodeId};
    use futures_util::poll;
    use tokio::sync::Notify;

    use super::{
        super::{
            barrier::Barrier,
            dial::Progress,
            wire::{Watched, Wire},
        },
        *,
    };
    use crate::clock::Clock;

    /// The other end, which says when it was given something.
    #[derive(Default)]
    struct Socket(Notify);

    #[async_trait]
    impl Transport for Socket {
        async fn send(&self, _data: Bytes) -> Result<(), anyhow::Error> {
            self.0.notify_one();
            Ok(())
        }

        async fn disconnect(&self) {}
    }

    /// As when a process is paused between a commit and the frame that waited for it.
    #[tokio::test]
    async fn a_frame_that_waited_for_the_database_is_sent_if_it_is_still_ours_to_send() {
        let clock = Clock::manual(UnixMillis(1_000));
        let node = NodeId::new(UnixMillis(0), 1);
        let until = clock.monotonic() + Duration::from_secs(20);
        let tenure = Arc::new(Tenure::new(node, clock.clone(), Some(until)));
        let socket = Arc::new(Socket::default());
        let open = CancellationToken::new().drop_guard();
        let leashed = Leashed { inner: socket.clone(), tenure, _open: open };
        let barrier = Barrier::default();
        let unrecorded = barrier.unrecorded().clone();
        let transport =
            Watched::new(Arc::new(leashed), Wire::default(), Progress::default(), barrier);

        for ours in [true, false] {
            unrecorded.report(1, true);
            let mut sending = Box::pin(transport.send(Bytes::from_static(b"frame")));
            assert!(poll!(&mut sending).is_pending());
            if !ours {
                clock.advance(Duration::from_secs(20));
            }
            unrecorded.settle(1);
            let sent = sending.await.map_err(|error| error.to_string());
            let was_given = poll!(Box::pin(socket.0.notified())).is_ready();
            assert_eq!(
                (sent, was_given),
                if ours { (Ok(()), true) } else { (Err(NOT_OURS.to_owned()), false) }
            );
        }
    }
}
