//! What deleted sessions have left goes in the background.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::next;
use crate::store::{self, Store};

/// The distance between two looks, on average. A look is one query, of an index that is mostly empty.
const INTERVAL: Duration = Duration::from_secs(10);

/// Deletes what deleted sessions have left, at the start and at intervals, until `stop` is cancelled. A database that is away
/// is asked again next time.
pub async fn clear_deleted(store: Store, stop: CancellationToken) {
    let clock = store.clock().clone();
    loop {
        if let Err(error) = clear(&store, &stop).await {
            let error: &dyn std::error::Error = &error;
            tracing::warn!(
                error,
                "What deleted sessions have left could not be deleted; trying again later"
            );
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = clock.sleep_until(next(&clock, INTERVAL)) => {}
        }
    }
}

async fn clear(store: &Store, stop: &CancellationToken) -> Result<(), store::Error> {
    let mut failed = None;
    for key in store.sessions().deleted().await? {
        match store.sessions().clear(&key, || !stop.is_cancelled()).await {
            Ok(true) => {
                tracing::info!(session.key = %key, "Nothing is left of a session that was deleted");
            }
            Ok(false) => {}
            // One that cannot be cleared keeps no other from it.
            Err(error) => failed = failed.or(Some(error)),
        }
    }
    failed.map_or(Ok(()), Err)
}
