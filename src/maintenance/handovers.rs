//! Sessions that could not hand over at once do so later.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::next;
use crate::store::Store;

/// The distance between two looks, on average. A look is one query; what it finds is rare.
const INTERVAL: Duration = Duration::from_mins(1);

/// Looks at intervals whether sessions wait to hand over, until `stop` is cancelled. A database that is away is
/// asked again next time.
pub async fn look_again(store: Store, stop: CancellationToken) {
    let clock = store.clock().clone();
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = clock.sleep_until(next(&clock, INTERVAL)) => {}
        }
        match store.handovers().sweep().await {
            Ok(0) => {}
            Ok(sessions) => tracing::info!(sessions, "Sessions have handed over after the event"),
            Err(error) => {
                let error: &dyn std::error::Error = &error;
                tracing::warn!(error, "Handovers could not be looked at; trying again later");
            }
        }
    }
}
