//! Panics of the tasks that work for a session: none of them harms another session, and none goes unseen.

use std::{
    future::Future,
    panic::AssertUnwindSafe,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use futures_util::FutureExt as _;
use tokio_util::sync::CancellationToken;

/// Counts them, over all sessions of a process. Clones share it.
#[derive(Clone, Debug, Default)]
pub(super) struct Panics(Arc<AtomicU64>);

impl Panics {
    pub(super) fn count(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    /// How many there were since the process began.
    pub(super) fn total(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Notices panics in the tasks of one client. What is left of the client then is not known, so it is
/// closed, and the session dials anew. Clones share it.
#[derive(Clone, Debug)]
pub(super) struct Contained(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    all: Panics,
    panicked: CancellationToken,
}

impl Contained {
    pub(super) fn new(all: Panics) -> Self {
        Self(Arc::new(Shared { all, panicked: CancellationToken::new() }))
    }

    /// The same work, which ends when it panics. The panic's hook has told where that was.
    pub(super) fn contain<F>(&self, work: F) -> impl Future<Output = ()> + Send + use<F>
    where
        F: Future<Output = ()> + Send,
    {
        let shared = Arc::clone(&self.0);
        async move {
            if AssertUnwindSafe(work).catch_unwind().await.is_err() {
                shared.all.count();
                shared.panicked.cancel();
            }
        }
    }

    /// Returns when one of the tasks has panicked.
    pub(super) async fn panicked(&self) {
        self.0.panicked.cancelled().await;
    }

    pub(super) fn has_panicked(&self) -> bool {
        self.0.panicked.is_cancelled()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_is_counted_and_told_and_ends_its_task_alone() {
        let all = Panics::default();
        let (one, other) = (Contained::new(all.clone()), Contained::new(all.clone()));
        one.contain(async {}).await;
        assert!(!one.has_panicked());
        one.contain(async { panic!("a bug") }).await;
        assert!(one.has_panicked() && !other.has_panicked());
        one.panicked().await;
        other.contain(async { panic!("another") }).await;
        assert_eq!(all.total(), 2);
    }
}
