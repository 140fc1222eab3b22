//! Apps whose secrets are tried with what names nobody: some, looked up now and then, as whoever posts it has proved nothing.

use std::{sync::Arc, time::Duration};

use entity::meta::account;
use tokio::sync::Mutex;

use crate::store::{self, Store};

/// How long it is until they are looked up again. Whoever changes an account here has it done at once.
const GOOD_FOR: Duration = Duration::from_secs(5);

/// The most that are looked up. Which ones those are is another matter each time, so whoever posts a body again has all tried.
const MOST: u64 = 64;

/// What was looked up, and when, by the monotonic clock.
type Known = Option<(Duration, Arc<[account::Model]>)>;

/// An account of each app, one of every organization before the second of any. Clones share them.
#[derive(Clone, Debug, Default)]
pub(super) struct Apps(Arc<Mutex<Known>>);

impl Apps {
    /// An account of each. Its secrets are sealed.
    pub(super) async fn rows(&self, store: &Store) -> Result<Arc<[account::Model]>, store::Error> {
        // Held while they are looked up: whoever comes meanwhile waits for the same.
        let mut known = self.0.lock().await;
        let now = store.clock().monotonic();
        if let Some((at, rows)) = &*known
            && now.saturating_sub(*at) < GOOD_FOR
        {
            return Ok(Arc::clone(rows));
        }
        let rows: Arc<[account::Model]> = store.meta().apps(MOST).await?.into();
        *known = Some((now, Arc::clone(&rows)));
        Ok(rows)
    }

    /// Something has changed.
    pub(super) async fn forget(&self) {
        *self.0.lock().await = None;
    }
}
