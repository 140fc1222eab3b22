//! Whether the daemon is alive and ready, without a word more; and what is to be found here.

use axum::{
    Extension, Json, Router,
    extract::{FromRef, State},
    http::StatusCode,
    response::IntoResponse,
    routing::get,
};
use serde_json::json;

use crate::{http::request::Bare, service::Health};

/// The two routes that need no token, and so say nothing but yes or no.
pub(in crate::http) fn router<S>() -> Router<S>
where
    S: Clone + Send + Sync + 'static,
    Health: FromRef<S>,
{
    Router::new().route("/livez", get(live)).route("/readyz", get(ready))
}

/// What is at the root, for those who may know.
pub(super) fn index<S: Clone + Send + Sync + 'static>() -> Router<S> {
    Router::new().route("/", get(show))
}

/// The runtime turns: it has run this.
async fn live() -> StatusCode {
    StatusCode::NO_CONTENT
}

#[tracing::instrument(name = "http.health.ready", skip_all)]
async fn ready(State(health): State<Health>) -> impl IntoResponse {
    let status = match health.ready().await {
        Ok(()) => StatusCode::NO_CONTENT,
        Err(error) => {
            tracing::warn!(error = &error as &dyn std::error::Error, "Not ready");
            StatusCode::SERVICE_UNAVAILABLE
        }
    };
    (Extension(Bare), status)
}

async fn show() -> impl IntoResponse {
    Json(json!({
        "name": "wagate",
        "version": env!("CARGO_PKG_VERSION"),
        "sessions": "/api/whatsapp/session/list-realtime",
        "events": "/api/whatsapp/events",
    }))
}
