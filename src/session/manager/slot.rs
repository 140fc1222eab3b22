//! One session's place among those that were asked for.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use tokio::sync::{Mutex, MutexGuard};

use super::run::Run;

/// A session's place. Whoever starts or stops the session holds it.
pub(super) type Slot = Arc<Place>;

/// What is in a place.
#[derive(Debug, Default)]
pub(super) struct Place {
    run: Mutex<Option<Run>>,
    /// Whoever holds it closes the session's client, which may take its time.
    closing: AtomicBool,
}

impl Place {
    /// Holds the place: nobody else starts or stops the session meanwhile.
    pub(super) async fn lock(&self) -> MutexGuard<'_, Option<Run>> {
        self.run.lock().await
    }

    /// Says that the client is being closed, until what this gives is dropped. The caller holds the place.
    pub(super) fn closing(&self) -> Closing<'_> {
        self.closing.store(true, Ordering::SeqCst);
        Closing(&self.closing)
    }

    /// Whether its client is being closed: nothing that is asked of it would be done.
    pub(super) fn is_closing(&self) -> bool {
        self.closing.load(Ordering::SeqCst)
    }
}

/// A client is being closed.
#[derive(Debug)]
pub(super) struct Closing<'a>(&'a AtomicBool);

impl Drop for Closing<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::SeqCst);
    }
}
