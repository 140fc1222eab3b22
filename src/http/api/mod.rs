//! The routes, one resource a file.
//!
//! | Route | File |
//! |---|---|
//! | `GET /`, `/livez`, `/readyz` | `health.rs` |
//! | `GET /dashboard` and its parts | `dashboard.rs` |
//! | `GET /metrics` | `metrics.rs` |
//! | `GET /api/whatsapp/session/status/{sessionId}` | `status.rs` |
//! | `GET /api/whatsapp/session/list-realtime` | `list.rs` |
//! | `POST /api/whatsapp/session`, `GET`, `PATCH`, `DELETE …/{sessionId}`, `POST …/start` and the like | `sessions.rs` |
//! | `GET …/{sessionId}/qr` | `qr.rs` |
//! | `POST` and `GET …/{sessionId}/messages`, `GET …/messages/{messageId}` | `messages.rs` |
//! | `GET /api/whatsapp/events`, `…/{sessionId}/events`, and `…/page` of both | `events.rs`, `stream.rs` |

pub(super) mod dashboard;
mod events;
pub(super) mod health;
mod list;
mod messages;
pub(super) mod metrics;
mod qr;
mod sessions;
mod status;
mod stream;

use axum::{Json, Router, http::StatusCode, response::IntoResponse};
use serde::Serialize;

use super::HttpState;

/// Routes that are answered at once.
///
/// `open_metrics`: `/metrics` is left out here, as it needs no token.
pub(super) fn quick(open_metrics: bool) -> Router<HttpState> {
    let metrics = if open_metrics { Router::new() } else { metrics::router() };
    metrics
        .merge(health::index())
        .merge(status::router())
        .merge(list::router())
        .merge(sessions::router())
        .merge(messages::router())
}

/// Routes that may wait for something to happen.
pub(super) fn waiting() -> Router<HttpState> {
    Router::new().merge(qr::router()).merge(events::router())
}

/// What a request that succeeded is answered with.
#[derive(Debug, Serialize)]
struct Success<T> {
    success: bool,
    data: T,
}

/// 200, with this.
fn ok<T: Serialize>(data: T) -> impl IntoResponse {
    with(StatusCode::OK, data)
}

/// Another status, with this.
fn with<T: Serialize>(status: StatusCode, data: T) -> impl IntoResponse {
    (status, Json(Success { success: true, data }))
}
