//! Threads for what computes for long, the library's and ours.
//!
//! A task can be dropped where it waits; a thread goes on. So what such work was given of a shared
//! [`Budget`](crate::session::history::Budget) is held by the thread, and given back when that ends.

use std::{future::Future, pin::Pin, time::Duration};

use tokio::task::JoinHandle;
use wacore::runtime::{AbortHandle, Runtime};
use whatsapp_rust::TokioRuntime;

use crate::session::history::Share;

tokio::task_local! {
    static HELD: Vec<Share>;
}

/// Does `work`. Threads that it begins, also within the library, hold `shares` as long as it does, and as
/// long as they take.
pub(super) async fn holding<T>(shares: Vec<Share>, work: impl Future<Output = T>) -> T {
    HELD.scope(shares, work).await
}

/// Does `work` on a thread of its own.
pub(super) fn spawn<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
    let held = HELD.try_with(Clone::clone).unwrap_or_default();
    tokio::task::spawn_blocking(move || {
        let done = work();
        drop(held);
        done
    })
}

/// The library's runtime on tokio, with such threads.
pub(super) struct Threads;

impl Runtime for Threads {
    fn spawn(&self, future: Pin<Box<dyn Future<Output = ()> + Send + 'static>>) -> AbortHandle {
        TokioRuntime.spawn(future)
    }

    fn spawn_detached(&self, future: Pin<Box<dyn Future<Output = ()> + Send + 'static>>) {
        TokioRuntime.spawn_detached(future);
    }

    fn sleep(&self, duration: Duration) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        TokioRuntime.sleep(duration)
    }

    fn spawn_blocking(
        &self,
        work: Box<dyn FnOnce() + Send + 'static>,
    ) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        // Not begun by the future: the library polls that from a task of its own.
        let thread = spawn(work);
        Box::pin(async move {
            // A panic is reported by its hook, and its answer is missing.
            thread.await.ok();
        })
    }

    fn yield_now(&self) -> Option<Pin<Box<dyn Future<Output = ()> + Send>>> {
        TokioRuntime.yield_now()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use futures_util::FutureExt as _;

    use super::*;
    use crate::session::history::{Budget, Settings};

    /// A budget for one reader, which is at work on a thread that ends when it is told to; whoever waits for
    /// it is dropped.
    async fn abandoned(
        begin: impl FnOnce(Box<dyn FnOnce() + Send>) -> Pin<Box<dyn Future<Output = ()> + Send>>,
    ) -> (Budget, mpsc::Sender<()>) {
        let budget = Budget::new(&Settings { concurrency: 1, ..Settings::default() });
        let shares = vec![budget.memory(2048).await.unwrap(), budget.reader().await.unwrap()];
        let (end, told) = mpsc::channel();
        let work = Box::new(move || {
            told.recv().ok();
        });
        let waiting = holding(shares, async { begin(work).await });
        assert!(waiting.now_or_never().is_none(), "the thread is at work");
        (budget, end)
    }

    async fn is_held_until_the_thread_ends(budget: Budget, end: mpsc::Sender<()>) {
        assert_eq!((budget.stats().bytes, budget.stats().reading), (2048, 1));
        assert!(budget.reader().now_or_never().is_none(), "nobody else begins");
        drop(end);
        budget.reader().await.expect("its place is free");
    }

    #[tokio::test]
    async fn a_thread_of_ours_holds_its_shares_when_nobody_waits_for_it_any_more() {
        let begin = |work| Box::pin(spawn(work).map(drop)) as _;
        let (budget, end) = abandoned(begin).await;
        is_held_until_the_thread_ends(budget, end).await;
    }

    #[tokio::test]
    async fn a_thread_of_the_library_holds_its_shares_when_nobody_waits_for_it_any_more() {
        let (budget, end) = abandoned(|work| Threads.spawn_blocking(work)).await;
        is_held_until_the_thread_ends(budget, end).await;
    }

    #[tokio::test]
    async fn a_thread_that_panics_gives_back_what_it_held() {
        let budget = Budget::new(&Settings::default());
        let shares = vec![budget.memory(2048).await.unwrap()];
        let read = holding(shares, async { spawn(|| panic!("damaged beyond words")).await });
        let read: Result<(), _> = read.await;
        assert!(read.is_err());
        assert_eq!(budget.stats().bytes, 0);
    }
}
