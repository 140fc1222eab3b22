//! What a client's tasks run on.

use std::{future::Future, pin::Pin, time::Duration};

use wacore::runtime::{AbortHandle, Runtime};

use super::threads::Threads;
use crate::device::Tasks;

/// Tokio, with tasks that the device knows of: see `device/tasks.rs`.
pub(super) struct Watching(Tasks);

impl Watching {
    pub(super) fn new(tasks: Tasks) -> Self {
        Self(tasks)
    }
}

impl Runtime for Watching {
    fn spawn(&self, future: Pin<Box<dyn Future<Output = ()> + Send + 'static>>) -> AbortHandle {
        Threads.spawn(Box::pin(self.0.watch(future)))
    }

    fn spawn_detached(&self, future: Pin<Box<dyn Future<Output = ()> + Send + 'static>>) {
        Threads.spawn_detached(Box::pin(self.0.watch(future)));
    }

    fn sleep(&self, duration: Duration) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        Threads.sleep(duration)
    }

    fn spawn_blocking(
        &self,
        work: Box<dyn FnOnce() + Send + 'static>,
    ) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        Threads.spawn_blocking(work)
    }

    fn yield_now(&self) -> Option<Pin<Box<dyn Future<Output = ()> + Send>>> {
        Threads.yield_now()
    }
}
