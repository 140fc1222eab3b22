//! `GET /metrics`: figures about the daemon, for Prometheus.

use axum::{extract::State, http::header, response::IntoResponse};

use crate::{
    http::{auth::Caller, error::ApiError, fields::Parameters},
    service::Metrics,
};

/// The text format that Prometheus prefers.
pub(super) const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

#[tracing::instrument(name = "http.metrics.show", skip_all)]
pub(super) async fn show(
    State(metrics): State<Metrics>,
    Caller(caller): Caller,
    parameters: Parameters,
) -> Result<impl IntoResponse, ApiError> {
    parameters.finish()?;
    Ok(([(header::CONTENT_TYPE, CONTENT_TYPE)], metrics.show(&caller).await?))
}

#[tracing::instrument(name = "http.metrics.show", skip_all)]
pub(super) async fn show_to_anybody(State(metrics): State<Metrics>) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, CONTENT_TYPE)], metrics.render().await)
}
