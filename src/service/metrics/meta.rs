//! Figures of Meta's webhooks.

use prometheus_client::{
    metrics::{counter::Counter, gauge::Gauge},
    registry::Registry,
};

use crate::{service::meta::Counted, store::Store};

/// Adds them. What cannot be read while the database is away is left out.
pub(super) async fn register(registry: &mut Registry, store: &Store, figures: Counted) {
    let mut count = |name: &str, help: &str, value| {
        let counter = Counter::<u64>::default();
        counter.inc_by(value);
        registry.register(name, help, counter);
    };
    let Counted { received, processed, failed, put_off, sent, refused, unknown } = figures;
    count(
        "wagate_meta_received",
        "Bodies of Meta's that were verified and kept or known, each time they came",
        received,
    );
    count(
        "wagate_meta_processed",
        "Things that Meta told, carried out, each time they were",
        processed,
    );
    count(
        "wagate_meta_failed",
        "Things that Meta told, given up or refused, each time they were",
        failed,
    );
    let help = "Tries to carry out what Meta told that failed, and are made again";
    count("wagate_meta_put_off", help, put_off);
    count("wagate_meta_sent", "Messages that Meta has taken", sent);
    count("wagate_meta_not_sent", "Messages for Meta that were given up, not sent", refused);
    let help = "Messages for Meta of which nobody knows whether they were sent";
    count("wagate_meta_outcome_unknown", help, unknown);
    match store.meta().outgoing().await {
        Ok((waiting, oldest)) => {
            let now = store.clock().now();
            let mut show = |name: &str, help: &str, value| {
                let gauge = Gauge::<i64>::default();
                gauge.set(value);
                registry.register(name, help, gauge);
            };
            show("wagate_meta_outgoing", "Messages that wait to be sent through Meta", waiting);
            let age = oldest.map_or(0, |at| now.0.saturating_sub(at.0).max(0) / 1000);
            let help = "Age of the oldest message that waits to be sent through Meta";
            show("wagate_meta_outgoing_age_seconds", help, age);
        }
        Err(error) => tracing::warn!(
            error = &error as &dyn std::error::Error,
            "What is to be sent through Meta could not be looked at"
        ),
    }
    match store.meta().silent_accounts().await {
        Ok(count) => {
            let silent = Gauge::<i64>::default();
            silent.set(count.try_into().unwrap_or(i64::MAX));
            let help = "Accounts of which Meta told every day, and tells nothing any more";
            registry.register("wagate_meta_silent_accounts", help, silent);
        }
        Err(error) => tracing::warn!(
            error = &error as &dyn std::error::Error,
            "Silent accounts at Meta could not be counted"
        ),
    }
    match store.meta().oldest_waiting().await {
        Ok(oldest) => {
            let lag = Gauge::<i64>::default();
            let now = store.clock().now();
            lag.set(oldest.map_or(0, |at| now.0.saturating_sub(at.0).max(0) / 1000));
            let help = "Age of the oldest thing that Meta told and nobody has carried out";
            registry.register("wagate_meta_lag_seconds", help, lag);
        }
        Err(error) => tracing::warn!(
            error = &error as &dyn std::error::Error,
            "What waits of Meta's could not be looked at"
        ),
    }
}
