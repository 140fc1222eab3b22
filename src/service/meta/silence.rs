//! Watches for accounts that have fallen silent: Meta tells of nothing when an app is no longer subscribed, a token is dead or an
//! address has become wrong, and nobody else would notice.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::Meta;
use crate::store::{self, Store};

/// How long it is between two looks.
const LOOK: Duration = Duration::from_mins(10);

/// Looks for silence. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Watch {
    store: Store,
    after: Duration,
}

impl Meta {
    /// A watch that stands still until it is run.
    pub fn watch(&self) -> Watch {
        Watch { store: self.store.clone(), after: self.options.silent_after }
    }
}

impl Watch {
    /// Looks again and again, until it is stopped. Never, where the operator wants none.
    pub async fn run(self, stop: CancellationToken) {
        if self.after.is_zero() {
            return;
        }
        let clock = self.store.clock().clone();
        loop {
            if let Err(error) = self.look().await {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "Accounts at Meta could not be looked at"
                );
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = clock.sleep(LOOK) => {}
            }
        }
    }

    /// Looks once, and tells what has changed. How much has.
    pub async fn look(&self) -> Result<usize, store::Error> {
        if self.after.is_zero() {
            return Ok(0);
        }
        self.store.meta().look_for_silence(self.after).await
    }
}
