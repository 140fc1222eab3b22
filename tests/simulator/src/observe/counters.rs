//! Numbers: how much went through, and what it cost.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use serde::Serialize;

use crate::clock::thread_cpu;

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident),+ $(,)?) => {
        /// Counters, each only ever growing.
        #[derive(Debug, Default)]
        pub(crate) struct Counters { $(pub(crate) $name: Count),+ }

        /// A snapshot of the simulator's counters.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
        #[non_exhaustive]
        pub struct Info {
            $($(#[$doc])* pub $name: u64,)+
            /// Sockets that are open now, with and without a login.
            pub sockets: u64,
            /// The most sockets that were open at once.
            pub most_sockets: u64,
            /// Devices connected and logged in now.
            pub online: u64,
            /// Stanzas sent or to be sent whose receipt or ack is still owed by a client.
            pub unacknowledged: u64,
        }

        impl Counters {
            pub(crate) fn snapshot(&self) -> Info {
                Info { $($name: self.$name.get(),)+ ..Info::default() }
            }
        }
    };
}

counters! {
    /// TCP connections accepted.
    connections,
    /// Logins answered with `<success>`.
    logins,
    /// Pairings completed.
    pairings,
    /// Stanzas received.
    stanzas_in,
    /// Those of them that came on connections that a fault had made the server deaf on.
    stanzas_unheard,
    /// Stanzas sent.
    stanzas_out,
    /// Bytes of encrypted frames received.
    bytes_in,
    /// Bytes of encrypted frames sent.
    bytes_out,
    /// `<message>` stanzas received from clients.
    messages_in,
    /// `<message>` stanzas put into the queue of a client.
    messages_out,
    /// Receipts received from clients, each id counted.
    receipts_in,
    /// Receipts put into the queue of a client.
    receipts_out,
    /// Ciphertexts made by simulated devices.
    encrypted,
    /// Ciphertexts read by simulated devices.
    decrypted,
    /// Ciphertexts passed on between real clients.
    relayed,
    /// Requests to the media host.
    media_requests,
    /// Bytes the media host was asked for.
    media_bytes,
    /// Files that phones were asked to upload again.
    reuploads,
    /// Requests for something the simulator only knows how to answer with nothing.
    unknown_iqs,
    /// CPU time spent in the simulator's own tasks and calls, in nanoseconds.
    cpu_nanos,
}

/// One counter.
#[derive(Debug, Default)]
pub(crate) struct Count(AtomicU64);

impl Count {
    pub(crate) fn one(&self) {
        self.add(1);
    }

    pub(crate) fn add(&self, amount: usize) {
        self.0.fetch_add(amount as u64, Ordering::Relaxed);
    }

    fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Counters {
    /// Runs a future and books the CPU time of its polls as the simulator's own.
    ///
    /// Simulator, client and test share a process and its threads; only this tells whose work a
    /// benchmark has measured.
    pub(crate) fn metered<'a, T>(
        self: &Arc<Self>,
        work: impl Future<Output = T> + Send + 'a,
    ) -> Metered<'a, T> {
        Metered { counters: Arc::clone(self), work: Box::pin(work) }
    }

    /// Does something at once and books its CPU time.
    pub(crate) fn book<T>(&self, work: impl FnOnce() -> T) -> T {
        let before = thread_cpu();
        let done = work();
        let spent = thread_cpu().saturating_sub(before);
        let nanos = u64::try_from(spent.as_nanos()).unwrap_or(u64::MAX);
        self.cpu_nanos.0.fetch_add(nanos, Ordering::Relaxed);
        done
    }
}

/// A future whose CPU time is counted.
pub(crate) struct Metered<'a, T> {
    counters: Arc<Counters>,
    work: Pin<Box<dyn Future<Output = T> + Send + 'a>>,
}

impl<T> Future for Metered<'_, T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        let Self { counters, work } = &mut *self;
        counters.book(|| work.as_mut().poll(cx))
    }
}
