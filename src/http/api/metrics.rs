//! `GET /metrics`: figures about the daemon, for Prometheus.

use axum::{extract::State, http::header, response::IntoResponse};

use crate::{
    http::{auth::Caller, error::ApiError, fields::Parameters, traffic::Traffic},
    service::Metrics,
};

/// The text format that Prometheus prefers.
pub(super) const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

#[tracing::instrument(name = "http.metrics.show", skip_all)]
pub(super) async fn show(
    State(metrics): State<Metrics>,
    State(traffic): State<Traffic>,
    Caller(caller): Caller,
    parameters: Parameters,
) -> Result<impl IntoResponse, ApiError> {
    parameters.finish()?;
    let text = metrics.show(&caller, |registry| traffic.register(registry)).await?;
    Ok(([(header::CONTENT_TYPE, CONTENT_TYPE)], text))
}

#[tracing::instrument(name = "http.metrics.show", skip_all)]
pub(super) async fn show_to_anybody(
    State(metrics): State<Metrics>,
    State(traffic): State<Traffic>,
) -> impl IntoResponse {
    let text = metrics.render(|registry| traffic.register(registry)).await;
    ([(header::CONTENT_TYPE, CONTENT_TYPE)], text)
}
