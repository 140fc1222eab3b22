//! `GET /api/webhooks/{webhookId}/stats`: how often an endpoint is called, and how quickly it answers.

use axum::{extract::State, response::IntoResponse};
use entity::{UnixMillis, id::EndpointId, webhook::health};
use schemars::JsonSchema;
use serde::Serialize;

use super::replays::moment;
use crate::{
    event::payload::{Timestamp, rfc3339},
    http::{api::ok, auth::Caller, error::ApiError, fields::Parameters, path::EndpointPath},
    service::{Webhooks, webhooks::Figures},
    webhook::durations::percentile,
};

/// Figures of an endpoint.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "WebhookStats")]
pub(super) struct StatsView {
    webhook_id: EndpointId,
    /// What was counted: whole hours.
    since: Timestamp,
    until: Timestamp,
    /// Requests.
    attempts: i64,
    /// Those that were answered 2xx: as many deliveries have arrived.
    delivered: i64,
    /// Those that were not.
    failed: i64,
    /// Deliveries that were given up.
    exhausted: i64,
    /// Of the requests, 0 to 1; none of none.
    success_rate: Option<f64>,
    /// Of all requests, to within a tenth.
    duration_ms: DurationsView,
    /// Now, whatever was asked for: deliveries that wait, and that are being sent.
    pending: i64,
    in_flight: i64,
    /// Since when the first of what should have been sent is due.
    oldest_due_at: Option<Timestamp>,
    oldest_due_seconds: Option<u64>,
    last_success_at: Option<Timestamp>,
    last_failure_at: Option<Timestamp>,
}

#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "WebhookDurations")]
struct DurationsView {
    p50: Option<i32>,
    p95: Option<i32>,
}

impl StatsView {
    fn of(
        id: EndpointId,
        figures: Figures,
        health: Option<health::Model>,
        now: UnixMillis,
    ) -> Self {
        let number = |buckets: &[(i32, i64)]| buckets.iter().map(|(_, number)| number).sum::<i64>();
        let (delivered, failed) = (number(&figures.succeeded), number(&figures.failed));
        let attempts = delivered + failed;
        let all = [figures.succeeded, figures.failed].concat();
        #[expect(clippy::cast_precision_loss, reason = "a share needs no more digits")]
        let success_rate = (attempts > 0).then(|| delivered as f64 / attempts as f64);
        Self {
            webhook_id: id,
            since: rfc3339(figures.since),
            until: rfc3339(figures.until),
            attempts,
            delivered,
            failed,
            exhausted: figures.exhausted,
            success_rate,
            duration_ms: DurationsView { p50: percentile(&all, 500), p95: percentile(&all, 950) },
            pending: figures.pending,
            in_flight: figures.in_flight,
            oldest_due_at: figures.oldest_due.map(rfc3339),
            oldest_due_seconds: figures.oldest_due.map(|at| now.since(at).as_secs()),
            last_success_at: health.as_ref().and_then(|row| row.last_success_at).map(rfc3339),
            last_failure_at: health.and_then(|row| row.last_failure_at).map(rfc3339),
        }
    }
}

#[tracing::instrument(name = "http.webhooks.stats", skip_all)]
pub(super) async fn show(
    State(webhooks): State<Webhooks>,
    Caller(caller): Caller,
    EndpointPath(id): EndpointPath,
    mut parameters: Parameters,
) -> Result<impl IntoResponse, ApiError> {
    let since = parameters.parsed("since", moment);
    let until = parameters.parsed("until", moment);
    parameters.finish()?;
    let (figures, health) = webhooks.stats(&caller, &id, since, until).await?;
    Ok(ok(StatsView::of(id, figures, health, webhooks.now())))
}
