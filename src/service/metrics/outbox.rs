//! Figures of what linked devices have to send.

use prometheus_client::{metrics::gauge::Gauge, registry::Registry};

use crate::store::Store;

/// Adds them. What cannot be read while the database is away is left out.
pub(super) async fn register(registry: &mut Registry, store: &Store) {
    let outbox = match store.messages().outbox().await {
        Ok(outbox) => outbox,
        Err(error) => {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "What waits to be sent could not be looked at"
            );
            return;
        }
    };
    let now = store.clock().now();
    let age = outbox.oldest.map_or(0, |at| now.0.saturating_sub(at.0).max(0) / 1000);
    let mut show = |name: &str, help: &str, value| {
        let gauge = Gauge::<i64>::default();
        gauge.set(value);
        registry.register(name, help, gauge);
    };
    let help = "Messages that wait to be sent by linked devices, those without a connection too";
    show("wagate_outbox_waiting", help, outbox.waiting);
    let help =
        "Age of the oldest message that waits to be sent by a linked device that is connected";
    show("wagate_outbox_oldest_seconds", help, age);
}
