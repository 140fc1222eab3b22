//! Writes down what came of tries: all that have ended while the last ones were being written.

use std::sync::Arc;

use tokio::sync::mpsc;

use super::engine::Shared;
use crate::{
    store::{
        self,
        webhooks::{Ending, Settled, Settlement},
    },
    webhook::health::Sign,
};

/// Tries of one transaction.
const BATCH: usize = 256;

/// Runs until nobody can send anything any more.
pub(super) async fn run(shared: Arc<Shared>, mut tries: mpsc::UnboundedReceiver<Settled>) {
    let mut batch = Vec::with_capacity(BATCH);
    while tries.recv_many(&mut batch, BATCH).await > 0 {
        let ended: Vec<_> =
            batch.iter().map(|it| (it.delivery.clone(), it.endpoint.clone())).collect();
        let now = shared.store.clock().now();
        {
            let mut lanes = shared.lanes();
            for settled in &mut batch {
                shared.count(settled);
                let nothing_new = settled.sign == Some(Sign::Success)
                    && !lanes.notes_success(&settled.endpoint, now);
                if nothing_new {
                    settled.sign = None;
                }
            }
        }
        write(&shared, std::mem::take(&mut batch)).await;
        let mut lanes = shared.lanes();
        for (delivery, endpoint) in &ended {
            lanes.end(delivery, endpoint);
        }
        drop(lanes);
        shared.freed.notify_one();
    }
}

/// Writes some down, together if possible: one that the database refuses does not take others with it.
async fn write(shared: &Shared, batch: Vec<Settled>) {
    let webhooks = shared.store.webhooks();
    let disable_after = shared.options.disable_after;
    let error = match webhooks.settle(batch.clone(), disable_after).await {
        Ok(settlement) => return note(shared, &settlement),
        Err(error) => error,
    };
    if batch.len() > 1 && !matches!(error, store::Error::Stopped) {
        for settled in batch {
            match webhooks.settle(vec![settled], disable_after).await {
                Ok(settlement) => note(shared, &settlement),
                Err(error) => complain(&error),
            }
        }
    } else {
        complain(&error);
    }
}

fn note(shared: &Shared, settlement: &Settlement) {
    shared.note(settlement);
    let mut lanes = shared.lanes();
    settlement.health.iter().for_each(|row| lanes.learn_health(row));
}

/// What is not written down is sent again, once its lease is over.
fn complain(error: &store::Error) {
    tracing::error!(
        error = error as &dyn std::error::Error,
        "What came of a webhook delivery could not be written down"
    );
}

/// The word for a try that the receiver took.
pub(super) const SUCCESS: &str = "success";

/// The word under which a try is counted.
pub(super) fn word(settled: &Settled) -> &'static str {
    match (&settled.attempt, settled.ending) {
        (_, Ending::Succeeded) => SUCCESS,
        (Some(attempt), _) => attempt.error.unwrap_or("unknown"),
        (None, _) => settled.error.unwrap_or("not_tried"),
    }
}
