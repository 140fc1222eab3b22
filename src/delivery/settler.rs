//! Writes down what came of tries: all that have ended while the last ones were being written.

use std::{collections::HashSet, sync::Arc};

use entity::UnixMillis;
use tokio::sync::mpsc;

use super::{engine::Shared, lanes::Lanes};
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
        for settled in &batch {
            shared.count(settled);
        }
        leave_out(&mut shared.lanes(), &mut batch, now);
        write(&shared, std::mem::take(&mut batch)).await;
        let mut lanes = shared.lanes();
        for (delivery, endpoint) in &ended {
            lanes.end(delivery, endpoint);
        }
        drop(lanes);
        shared.freed.notify_one();
    }
}

/// Leaves out successes that say nothing new of their endpoints. Between failures they do: ten failures are
/// no ten in a row.
fn leave_out(lanes: &mut Lanes, batch: &mut [Settled], now: UnixMillis) {
    let fails = batch.iter().filter(|it| matches!(it.sign, Some(Sign::Failure { .. })));
    let failing: HashSet<_> = fails.map(|it| it.endpoint.clone()).collect();
    for settled in batch.iter_mut().filter(|it| it.sign == Some(Sign::Success)) {
        let is_new = lanes.notes_success(&settled.endpoint, now);
        if !is_new && !failing.contains(&settled.endpoint) {
            settled.sign = None;
        }
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

#[cfg(test)]
mod tests {
    use entity::{
        id::{DeliveryId, EndpointId, OrganizationId},
        webhook::health,
    };

    use super::*;

    const FAILURE: Sign =
        Sign::Failure { throttle: None, gone: false, exhausted: false, probe: false };

    fn settled(endpoint: u128, sign: Sign) -> Settled {
        Settled {
            delivery: DeliveryId::new(UnixMillis(1), rand::random()),
            endpoint: EndpointId::new(UnixMillis(1), endpoint),
            organization: OrganizationId::new(UnixMillis(1), 1),
            order_key: None,
            claim: 1,
            attempts: 0,
            ending: Ending::Succeeded,
            error: None,
            attempt: None,
            sign: Some(sign),
            version: None,
        }
    }

    #[test]
    fn a_success_between_failures_is_never_left_out() {
        let mut lanes = Lanes::default();
        let now = UnixMillis(1_000);
        for endpoint in [1, 2] {
            let it = settled(endpoint, Sign::Success);
            lanes.begin(&it.delivery, &it.endpoint, &it.organization);
            lanes.learn_health(&health::Model {
                endpoint_id: it.endpoint.clone(),
                consecutive_failures: 0,
                first_failure_at: None,
                last_failure_at: None,
                last_success_at: Some(now),
                hold_until: None,
                opens: 0,
                alerted: 0,
                exhausted_alert_at: None,
            });
            assert!(lanes.notes_success(&it.endpoint, now));
        }
        let mut batch = [
            settled(1, FAILURE),
            settled(2, Sign::Success),
            settled(1, Sign::Success),
            settled(1, FAILURE),
        ];
        leave_out(&mut lanes, &mut batch, now);
        let signs = batch.map(|it| it.sign);
        assert_eq!(signs, [Some(FAILURE), None, Some(Sign::Success), Some(FAILURE)]);
    }
}
