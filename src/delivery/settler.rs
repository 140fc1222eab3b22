//! Writes down what came of tries: all that have ended while the last ones were being written.

use std::{collections::HashSet, sync::Arc};

use entity::{UnixMillis, id::EventId};
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
        Ok(settlement) => {
            tell_all(&batch, &settlement);
            return note(shared, &settlement);
        }
        Err(error) => error,
    };
    if batch.len() > 1 && !matches!(error, store::Error::Stopped) {
        for settled in batch {
            match webhooks.settle(vec![settled.clone()], disable_after).await {
                Ok(settlement) => {
                    tell_all(&[settled], &settlement);
                    note(shared, &settlement);
                }
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

/// Says what became of tries that are written down, and not of what somebody else has by then.
fn tell_all(batch: &[Settled], settlement: &Settlement) {
    batch.iter().filter(|it| !settlement.lost.contains(&it.delivery)).for_each(tell);
}

/// Says what became of a try that is written down. Where the receiver is, and what it said, is in the database alone.
fn tell(settled: &Settled) {
    let Settled { delivery, endpoint, ending, .. } = settled;
    let event = settled.event.as_ref().map(EventId::as_str);
    let attempt = settled.attempts.saturating_add(i32::from(settled.attempt.is_some()));
    let (result, status) = (word(settled), settled.attempt.as_ref().and_then(|it| it.status));
    match ending {
        Ending::Succeeded => tracing::debug!(
            event.id = event,
            webhook.delivery = %delivery,
            webhook.endpoint = %endpoint,
            attempt,
            status,
            "Delivered an event"
        ),
        Ending::Retry(at) => tracing::info!(
            event.id = event,
            webhook.delivery = %delivery,
            webhook.endpoint = %endpoint,
            attempt,
            result,
            status,
            next_at_ms = at.0,
            "A delivery has failed, and is tried again"
        ),
        Ending::Exhausted => tracing::warn!(
            event.id = event,
            webhook.delivery = %delivery,
            webhook.endpoint = %endpoint,
            attempt,
            result,
            status,
            "A delivery is given up"
        ),
        Ending::Released(_) => tracing::debug!(
            event.id = event,
            webhook.delivery = %delivery,
            webhook.endpoint = %endpoint,
            "A delivery is put back, untried"
        ),
    }
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

/// Every word under which a try is counted.
pub(super) const WORDS: [&str; 20] = [
    SUCCESS,
    "http_status",
    "gone",
    "redirect_not_followed",
    "timeout",
    "connect_timeout",
    "connect_failed",
    "connection_refused",
    "connection_reset",
    "unreachable",
    "dns_error",
    "tls_error",
    "protocol_error",
    "request_invalid",
    "blocked_address",
    "url_refused",
    "expired",
    "event_retired",
    "not_tried",
    "unknown",
];

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
            event: None,
            endpoint: EndpointId::new(UnixMillis(1), endpoint),
            organization: OrganizationId::new(UnixMillis(1), 1),
            order_key: None,
            claim: 1,
            attempts: 0,
            ending: Ending::Succeeded,
            error: None,
            attempt: None,
            sign: Some(sign),
            called: None,
        }
    }

    #[test]
    fn every_word_for_a_failure_is_counted_from_the_start() {
        let texts =
            [include_str!("answer.rs"), include_str!("attempt.rs"), include_str!("settler.rs")];
        let code = texts.map(|text| text.split("#[cfg(test)]").next().unwrap_or_default()).concat();
        // What stands where an error's word does.
        let named =
            code.split("Some(\"").chain(code.split("refused(\"")).chain(code.split("=> \""));
        let mut found = 0;
        for word in named.skip(1).filter_map(|text| text.split_once('"').map(|(word, _)| word)) {
            let is_word =
                !word.is_empty() && word.bytes().all(|it| it.is_ascii_lowercase() || it == b'_');
            if is_word {
                found += 1;
                assert!(WORDS.contains(&word), "{word} is not counted from the start");
            }
        }
        assert!(found > 10, "{found}");
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
