//! Answers that nobody takes: a connection on which nothing can be written for too long ends.
//!
//! A client that asks for much and reads nothing would keep its place, and what was to be written to it, for as long as
//! it likes. What counts is progress: whoever is slow and takes something now and then is served. Below TLS, so that
//! what TLS writes by itself counts as well.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Sleep, sleep},
};

use super::traffic::Connections;

/// A connection whose other side is to take what is written to it.
#[derive(Debug)]
pub(super) struct Impatient<S> {
    inner: S,
    /// How long nothing may be taken.
    patience: Duration,
    /// Runs while something waits to be written and nothing is taken.
    waits: Option<Pin<Box<Sleep>>>,
    counts: Connections,
}

impl<S> Impatient<S> {
    pub(super) fn new(inner: S, patience: Duration, counts: Connections) -> Self {
        Self { inner, patience, waits: None, counts }
    }

    /// What comes of a write that came to this.
    fn after<T>(
        &mut self,
        cx: &mut Context<'_>,
        written: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.waits = None;
            return written;
        }
        let patience = self.patience;
        let waits = self.waits.get_or_insert_with(|| Box::pin(sleep(patience)));
        ready!(waits.as_mut().poll(cx));
        self.counts.was_stalled();
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Impatient<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(cx, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Impatient<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.inner).poll_write(cx, buffer);
        self.after(cx, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffers: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.inner).poll_write_vectored(cx, buffers);
        self.after(cx, written)
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
    use futures_util::poll;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};

    use super::*;

    #[tokio::test]
    async fn whoever_takes_something_now_and_then_is_waited_for_anew_each_time() {
        let (ours, mut theirs) = duplex(4);
        let counts = Connections::default();
        let mut ours = Impatient::new(ours, Duration::from_hours(1), counts.clone());
        for _ in 0..3 {
            ours.write_all(b"abcd").await.unwrap();
            assert!(ours.waits.is_none());
            assert!(poll!(Box::pin(ours.write(b"e"))).is_pending());
            assert!(ours.waits.is_some());
            theirs.read_exact(&mut [0; 4]).await.unwrap();
            ours.write_all(b"e").await.unwrap();
            assert!(ours.waits.is_none());
            theirs.read_exact(&mut [0; 1]).await.unwrap();
        }
        assert_eq!(counts.stalled(), 0);
    }

    #[tokio::test]
    async fn whoever_takes_nothing_is_not_waited_for() {
        let (ours, _theirs) = duplex(4);
        let counts = Connections::default();
        let mut ours = Impatient::new(ours, Duration::from_millis(1), counts.clone());
        let error = ours.write_all(b"abcde").await.unwrap_err();
        assert_eq!((error.kind(), counts.stalled()), (io::ErrorKind::TimedOut, 1));
    }
}
