//! The routes: one table of all of them, and their handlers, one resource a file.

mod dashboard;
mod events;
mod health;
mod list;
mod messages;
mod metrics;
mod qr;
mod sessions;
mod status;
mod stream;

use axum::{Json, http::StatusCode, response::IntoResponse};
use entity::state::Role::{Manager, Operator, Viewer};
use serde::Serialize;

use super::{
    Limits,
    route::{Access::Anybody, Route, delete, get, patch, post},
};

/// Every route, and the role that it needs.
pub(super) fn routes(limits: &Limits) -> Vec<Route> {
    let metrics = if limits.open_metrics {
        get("/metrics", Anybody, metrics::show_to_anybody)
    } else {
        get("/metrics", Operator, metrics::show)
    };
    vec![
        // About the daemon.
        get("/", Viewer, health::index),
        get("/livez", Anybody, health::live),
        get("/readyz", Anybody, health::ready),
        metrics,
        get("/dashboard", Anybody, dashboard::page),
        get("/dashboard/style.css", Anybody, dashboard::style),
        get("/dashboard/app.js", Anybody, dashboard::script),
        // Sessions.
        post("/api/whatsapp/session", Manager, sessions::create),
        get("/api/whatsapp/session/list-realtime", Viewer, list::list),
        get("/api/whatsapp/session/status/{sessionId}", Viewer, status::show),
        get("/api/whatsapp/session/{sessionId}", Viewer, status::show),
        patch("/api/whatsapp/session/{sessionId}", Manager, sessions::change),
        delete("/api/whatsapp/session/{sessionId}", Manager, sessions::delete),
        post("/api/whatsapp/session/{sessionId}/start", Manager, sessions::start),
        post("/api/whatsapp/session/{sessionId}/stop", Manager, sessions::stop),
        post("/api/whatsapp/session/{sessionId}/restart", Manager, sessions::restart),
        post("/api/whatsapp/session/{sessionId}/logout", Manager, sessions::log_out),
        post("/api/whatsapp/session/{sessionId}/pair", Manager, sessions::pair),
        get("/api/whatsapp/session/{sessionId}/qr", Viewer, qr::show).waits(),
        get("/api/whatsapp/session/{sessionId}/qr.png", Viewer, qr::show).waits(),
        get("/api/whatsapp/session/{sessionId}/qr.svg", Viewer, qr::show).waits(),
        get("/api/whatsapp/session/{sessionId}/qr.txt", Viewer, qr::show).waits(),
        get("/api/whatsapp/session/{sessionId}/qr.json", Viewer, qr::show).waits(),
        // Messages.
        post("/api/whatsapp/session/{sessionId}/messages", Manager, messages::send),
        get("/api/whatsapp/session/{sessionId}/messages", Viewer, messages::list),
        get("/api/whatsapp/session/{sessionId}/messages/{messageId}", Viewer, messages::show),
        // What happens.
        get("/api/whatsapp/events", Viewer, events::feed).waits(),
        get("/api/whatsapp/events/page", Viewer, events::page).waits(),
        get("/api/whatsapp/session/{sessionId}/events", Viewer, events::feed).waits(),
        get("/api/whatsapp/session/{sessionId}/events/page", Viewer, events::page).waits(),
    ]
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
