//! Replays go on beside the loop: what is sent never waits for what is to be sent again.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::store::{Store, webhooks::REPLAYS};

/// The distance between rounds.
const EVERY: Duration = Duration::from_secs(1);

/// Has replays go on, until it is stopped.
pub(super) async fn run(store: Store, stop: CancellationToken) {
    let clock = store.clock().clone();
    let webhooks = store.webhooks();
    loop {
        let next = clock.monotonic() + EVERY;
        let stepped = tokio::select! {
            biased;
            () = stop.cancelled() => return,
            stepped = webhooks.step_replays() => stepped,
        };
        match stepped {
            // There may be more that are due.
            Ok(stepped) if stepped >= REPLAYS => continue,
            Ok(_) => {}
            Err(error) => tracing::warn!(
                error = &error as &dyn std::error::Error,
                "Replays of webhooks have to wait for the database"
            ),
        }
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            () = clock.sleep_until_monotonic(next) => {}
        }
    }
}
