//! What a client's tasks run on.

use std::{future::Future, pin::Pin, time::Duration};

use wacore::runtime::{AbortHandle, Runtime};

use super::threads::Threads;
use crate::{device, session::panics::Contained};

/// The tasks of one client. The device knows of them (see `device/tasks.rs`), and their panics are
/// contained. Clones are one and the same.
#[derive(Clone)]
pub(in crate::session) struct Tasks {
    known: device::Tasks,
    contained: Contained,
}

impl Tasks {
    pub(super) fn new(known: device::Tasks, contained: Contained) -> Self {
        Self { known, contained }
    }

    /// The library's work, as one of these.
    pub(super) fn of_the_library<F>(&self, work: F) -> impl Future<Output = ()> + Send + use<F>
    where
        F: Future<Output = ()> + Send + Unpin,
    {
        self.contained.contain(self.known.watch(work))
    }

    /// Work beside it, which may call the library.
    pub(in crate::session) fn beside<F>(&self, work: F) -> impl Future<Output = ()> + Send + use<F>
    where
        F: Future<Output = ()> + Send,
    {
        self.contained.contain(self.known.watch_beside(Box::pin(work)))
    }

    /// Waits until the library has nothing in hand any more.
    pub(super) async fn quiet(&self) {
        self.known.quiet().await;
    }

    /// Returns when one of them has panicked.
    pub(super) async fn panicked(&self) {
        self.contained.panicked().await;
    }

    pub(super) fn have_panicked(&self) -> bool {
        self.contained.has_panicked()
    }
}

/// Tokio, with such tasks.
pub(super) struct Watching(pub(super) Tasks);

impl Runtime for Watching {
    fn spawn(&self, future: Pin<Box<dyn Future<Output = ()> + Send + 'static>>) -> AbortHandle {
        Threads.spawn(Box::pin(self.0.of_the_library(future)))
    }

    fn spawn_detached(&self, future: Pin<Box<dyn Future<Output = ()> + Send + 'static>>) {
        Threads.spawn_detached(Box::pin(self.0.of_the_library(future)));
    }

    fn sleep(&self, duration: Duration) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        Threads.sleep(duration)
    }

    fn spawn_blocking(
        &self,
        work: Box<dyn FnOnce() + Send + 'static>,
    ) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        // Whoever waits for what has panicked there panics, and is one of these tasks.
        Threads.spawn_blocking(work)
    }

    fn yield_now(&self) -> Option<Pin<Box<dyn Future<Output = ()> + Send>>> {
        Threads.yield_now()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::panics::Panics;

    #[tokio::test]
    async fn a_task_of_the_library_that_panics_is_counted_and_holds_nobody_up() {
        let (known, all) = (device::Tasks::default(), Panics::default());
        let tasks = Tasks::new(known.clone(), Contained::new(all.clone()));
        let runtime = Watching(tasks.clone());
        runtime.spawn_detached(Box::pin(async { panic!("a bug of the library's") }));
        tasks.panicked().await;
        assert!(tasks.have_panicked());
        assert_eq!(all.total(), 1);
        // Nothing is left of it among those whose turn a ratchet waits for.
        assert_eq!(format!("{known:?}"), format!("{:?}", device::Tasks::default()));

        let _task = runtime.spawn(Box::pin(async {
            wacore::runtime::blocking(&Watching(tasks), || panic!("on a thread")).await;
        }));
        while all.total() < 2 {
            tokio::task::yield_now().await;
        }
    }
}
