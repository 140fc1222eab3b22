//! `GET /metrics`: figures about the daemon, for Prometheus.

use axum::{
    Router,
    extract::{FromRef, State},
    http::header,
    response::IntoResponse,
    routing::get,
};

use crate::{
    http::{auth::Caller, error::ApiError, fields::Parameters},
    service::Metrics,
};

/// The text format that Prometheus prefers.
const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// For the operator.
pub(super) fn router<S>() -> Router<S>
where
    S: Clone + Send + Sync + 'static,
    Metrics: FromRef<S>,
{
    Router::new().route("/metrics", get(show))
}

/// For anybody, as the operator has decided.
pub(in crate::http) fn open<S>() -> Router<S>
where
    S: Clone + Send + Sync + 'static,
    Metrics: FromRef<S>,
{
    Router::new().route("/metrics", get(show_to_anybody))
}

#[tracing::instrument(name = "http.metrics.show", skip_all)]
async fn show(
    State(metrics): State<Metrics>,
    Caller(caller): Caller,
    parameters: Parameters,
) -> Result<impl IntoResponse, ApiError> {
    parameters.finish()?;
    Ok(([(header::CONTENT_TYPE, CONTENT_TYPE)], metrics.show(&caller).await?))
}

#[tracing::instrument(name = "http.metrics.show", skip_all)]
async fn show_to_anybody(State(metrics): State<Metrics>) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, CONTENT_TYPE)], metrics.render().await)
}
