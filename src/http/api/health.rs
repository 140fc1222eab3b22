//! Whether the daemon is alive and ready, without a word more; and what is to be found here.

use axum::{Extension, Json, extract::State, http::StatusCode, response::IntoResponse};
use schemars::JsonSchema;
use serde::Serialize;

use crate::{
    http::{error::ApiError, fields::Parameters, request::Bare},
    service::Health,
};

/// The runtime turns: it has run this.
pub(super) async fn live() -> StatusCode {
    StatusCode::NO_CONTENT
}

#[tracing::instrument(name = "http.health.ready", skip_all)]
pub(super) async fn ready(State(health): State<Health>) -> impl IntoResponse {
    let status = match health.ready().await {
        Ok(()) => StatusCode::NO_CONTENT,
        Err(error) => {
            tracing::warn!(error = &*error as &dyn std::error::Error, "Not ready");
            StatusCode::SERVICE_UNAVAILABLE
        }
    };
    (Extension(Bare), status)
}

/// What is at the root: where to begin.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Index")]
pub(super) struct IndexView {
    name: &'static str,
    version: &'static str,
    sessions: &'static str,
    events: &'static str,
    openapi: &'static str,
    docs: &'static str,
}

/// What is at the root, for those who may know.
pub(super) async fn index(parameters: Parameters) -> Result<impl IntoResponse, ApiError> {
    parameters.finish()?;
    Ok(Json(IndexView {
        name: "wagate",
        version: env!("CARGO_PKG_VERSION"),
        sessions: "/api/whatsapp/session/list-realtime",
        events: "/api/whatsapp/events",
        openapi: "/openapi.json",
        docs: "/docs",
    }))
}
