//! The routes: one table of all of them, and their handlers, one resource a file.

mod audit;
mod dashboard;
mod events;
mod health;
mod list;
mod messages;
mod metrics;
mod organizations;
mod qr;
mod sessions;
mod status;
mod stream;
mod tokens;
mod webhooks;

use std::fmt::Display;

use axum::{
    Json,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use entity::state::Role::{Admin, Manager, Operator, Viewer};
use serde::Serialize;

use super::{
    Limits,
    idempotency::IDEMPOTENCY_REPLAYED,
    page::cursor,
    route::{Access::Anybody, Route, delete, get, patch, post},
};
use crate::service::page::Position;

/// Every route, and the role that it needs.
pub(super) fn routes(limits: &Limits) -> Vec<Route> {
    let metrics = if limits.open_metrics {
        get("/metrics", Anybody, metrics::show_to_anybody)
    } else {
        get("/metrics", Operator, metrics::show)
    };
    let mut routes = vec![
        // About the daemon.
        get("/", Viewer, health::index),
        get("/livez", Anybody, health::live).unmetered(),
        get("/readyz", Anybody, health::ready).unmetered(),
        metrics,
        get("/dashboard", Anybody, dashboard::page),
        get("/dashboard/style.css", Anybody, dashboard::style),
        get("/dashboard/app.js", Anybody, dashboard::script),
        // Tenants, and who may call for them.
        post("/api/organizations", Operator, organizations::create),
        get("/api/organizations", Operator, organizations::list),
        get("/api/organizations/{organizationId}", Viewer, organizations::show),
        patch("/api/organizations/{organizationId}", Operator, organizations::change),
        post("/api/tokens", Admin, tokens::create),
        get("/api/tokens", Admin, tokens::list),
        get("/api/tokens/{tokenId}", Admin, tokens::show),
        delete("/api/tokens/{tokenId}", Admin, tokens::revoke),
        get("/api/audit", Admin, audit::list),
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
    ];
    routes.extend(webhooks::routes());
    routes
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

/// 201 with this, which is at `location`; 200 when an earlier request with the same key made it.
fn created<T: Serialize>(location: &str, replayed: bool, data: T) -> Response {
    let status = if replayed { StatusCode::OK } else { StatusCode::CREATED };
    let mut response = ([(header::LOCATION, location)], with(status, data)).into_response();
    if replayed {
        response.headers_mut().insert(IDEMPOTENCY_REPLAYED, HeaderValue::from_static("true"));
    }
    response
}

/// A page of a list.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct List<T> {
    success: bool,
    data: Vec<T>,
    /// `null` after the last.
    next_cursor: Option<String>,
}

impl<T> List<T> {
    fn new<Id: Display>(data: impl Iterator<Item = T>, next: Option<&Position<Id>>) -> Self {
        Self { success: true, data: data.collect(), next_cursor: next.map(cursor) }
    }
}
