//! Figures about webhook deliveries. No label names an endpoint or a tenant.

use entity::webhook::state::EndpointState;
use prometheus_client::{
    metrics::{counter::Counter, gauge::Gauge},
    registry::Registry,
};

use super::{Counters, Gauges};
use crate::{delivery::Stats, store::Store};

/// Counts since the start, and how much is owed. What cannot be read is left out.
pub(super) async fn register(registry: &mut Registry, store: &Store, stats: &Stats) {
    let attempts = Counters::default();
    for (result, count) in &stats.attempts {
        attempts.get_or_create(&[("result", *result)]).inc_by(*count);
    }
    registry.register("wagate_webhook_attempts", "Webhook requests, by result", attempts);
    for (name, help, value) in [
        ("wagate_webhook_exhausted", "Webhook deliveries given up", stats.exhausted),
        ("wagate_webhook_fenced", "Results that came too late to count", stats.fenced),
        (
            "wagate_webhook_reclaimed",
            "Deliveries taken over from who had died with them",
            stats.reclaimed,
        ),
        ("wagate_webhook_disabled", "Webhook endpoints disabled", stats.disabled),
        ("wagate_webhook_failing", "Webhook endpoints that began to fail", stats.failing),
        ("wagate_webhook_recovered", "Webhook endpoints that answer again", stats.recovered),
    ] {
        let counter = Counter::<u64>::default();
        counter.inc_by(value);
        registry.register(name, help, counter);
    }
    let in_flight = Gauge::<i64>::default();
    in_flight.set(i64::try_from(stats.in_flight).unwrap_or(i64::MAX));
    registry.register("wagate_webhook_in_flight", "Webhook requests under way", in_flight);

    let webhooks = store.webhooks();
    let now = store.clock().now();
    let (Ok((pending, claimed)), Ok(oldest), Ok(found)) = (
        webhooks.backlog().await,
        webhooks.oldest_due(now).await,
        webhooks.endpoint_states().await,
    ) else {
        return;
    };
    let (endpoints, failing) = (Gauges::default(), Gauge::<i64>::default());
    for state in [EndpointState::Active, EndpointState::Paused, EndpointState::Disabled] {
        let of_state = found.iter().find(|(it, _, _)| *it == state);
        let number = of_state.map_or(0, |(_, number, _)| *number);
        endpoints.get_or_create(&[("state", state.word())]).set(number);
        if state == EndpointState::Active {
            failing.set(of_state.map_or(0, |(_, _, failing)| *failing));
        }
    }
    registry.register("wagate_webhook_endpoints", "Webhook endpoints, by state", endpoints);
    registry.register(
        "wagate_webhook_endpoints_failing",
        "Active webhook endpoints that fail and whose tenants were told so",
        failing,
    );
    let backlog = Gauges::default();
    backlog.get_or_create(&[("state", "pending")]).set(pending);
    backlog.get_or_create(&[("state", "claimed")]).set(claimed);
    registry.register("wagate_webhook_backlog", "Webhook deliveries that are owed", backlog);
    let age = Gauge::<i64>::default();
    let seconds = oldest.map_or(0, |at| now.since(at).as_secs());
    age.set(i64::try_from(seconds).unwrap_or(i64::MAX));
    registry.register(
        "wagate_webhook_oldest_due_seconds",
        "How long the delivery that has been due for longest has been so",
        age,
    );
}
