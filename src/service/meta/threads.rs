//! Work on what somebody has posted, where that keeps nobody else from his turn.
//!
//! To hash or to take apart 4 MiB takes some milliseconds, and whoever sends them may have proved nothing. So what takes long is done
//! on threads of its own, of which there are few; what takes no time is done at once.

use std::{sync::Arc, thread::available_parallelism};

use tokio::{sync::Semaphore, task::spawn_blocking};

/// Bytes that are taken apart at once: less than a millisecond.
const READ_AT_ONCE: usize = 64 << 10;

/// Threads for such work. Clones share them: what is posted has some, and what is carried out has others, so that neither
/// waits for the other.
#[derive(Clone, Debug)]
pub(super) struct Threads(Arc<Semaphore>);

impl Default for Threads {
    /// As many as half of the processors.
    fn default() -> Self {
        Self::of(available_parallelism().map_or(1, |all| (all.get() / 2).max(1)))
    }
}

impl Threads {
    pub(super) fn of(number: usize) -> Self {
        Self(Arc::new(Semaphore::new(number)))
    }

    /// Does it on a thread, when there is one. None if there will be none: the process is on its way out, or it has panicked.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Option<T> {
        let thread = Arc::clone(&self.0).acquire_owned().await.ok()?;
        let done = spawn_blocking(move || {
            // Let go of when it has ended, whether or not anybody waits for it.
            let _thread = thread;
            work()
        });
        done.await.ok()
    }

    /// Takes a body of so many bytes apart: at once if it is short.
    pub(super) async fn read<T: Send + 'static>(
        &self,
        length: usize,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Option<T> {
        if length <= READ_AT_ONCE { Some(work()) } else { self.run(work).await }
    }

    /// How many are free.
    #[cfg(test)]
    pub(super) fn free(&self) -> usize {
        self.0.available_permits()
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    /// On a runtime of one thread, which is the test's own.
    #[tokio::test]
    async fn a_short_body_is_read_at_once_and_a_long_one_on_a_thread_of_its_own() {
        let threads = Threads::of(1);
        let here = thread::current().id();
        let mut where_is = std::pin::pin!(threads.read(READ_AT_ONCE, || thread::current().id()));
        let std::task::Poll::Ready(short) = futures_util::poll!(&mut where_is) else {
            panic!("it is read at once");
        };
        assert_eq!(short, Some(here));
        let long = threads.read(READ_AT_ONCE + 1, || thread::current().id()).await;
        assert_ne!(long, Some(here));
    }

    /// Whoever goes away leaves his thread when it has ended and not before: so there are never more of them.
    #[tokio::test]
    async fn there_are_never_more_at_work_than_there_are_threads() {
        let threads = Threads::of(1);
        let (go, wait) = std::sync::mpsc::channel::<()>();
        let (starts, started) = std::sync::mpsc::channel::<()>();
        {
            let work = move || (starts.send(()), wait.recv());
            let mut left = std::pin::pin!(threads.run(work));
            assert!(futures_util::poll!(&mut left).is_pending());
        }
        started.recv().unwrap();
        assert_eq!(threads.free(), 0);
        let mut next = std::pin::pin!(threads.read(READ_AT_ONCE + 1, || ()));
        assert!(futures_util::poll!(&mut next).is_pending());
        go.send(()).unwrap();
        assert_eq!(next.await, Some(()));
    }

    #[tokio::test]
    async fn what_panics_costs_no_thread() {
        let threads = Threads::of(1);
        let panicked = threads.run::<()>(|| std::panic::resume_unwind(Box::new(()))).await;
        assert_eq!(panicked, None);
        assert_eq!(threads.free(), 1);
    }
}
