//! The routes: one table of all of them, and their handlers, one resource a file.

mod about;
mod audience;
mod audit;
mod campaigns;
mod connect;
mod contacts;
mod dashboard;
mod docs;
mod events;
mod figures;
mod health;
mod list;
mod media;
mod messages;
mod meta;
mod metrics;
mod migrate;
mod organizations;
mod problems;
mod qr;
mod receiver;
mod sessions;
mod status;
mod status_webhook;
mod stream;
mod tokens;
mod webhooks;

use std::fmt::Display;

use axum::{
    Json,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use entity::state::Role::{Admin, Manager, Operator, Viewer};
use schemars::JsonSchema;
use serde::Serialize;

pub(crate) use self::webhooks::moment;
pub use self::{
    audit::EntryView as AuditEntryView, list::Item as ListedSession,
    organizations::OrganizationView, tokens::TokenView,
};
pub(super) use self::{meta::Posts as MetaPosts, receiver::Posts};
use super::{
    Limits,
    idempotency::once,
    page::cursor,
    route::{Access::Anybody, Key, Route, delete, get, patch, post},
};
use crate::service::page::Position;

/// Every route, and the role that it needs.
pub(super) fn routes(limits: &Limits) -> Vec<Route> {
    let metrics = if limits.open_metrics {
        get("/metrics", Anybody, metrics::show_to_anybody, about::daemon::metrics())
    } else {
        get("/metrics", Operator, metrics::show, about::daemon::metrics())
    };
    let mut routes = vec![
        // About the daemon.
        get("/", Viewer, health::index, about::daemon::index()),
        get("/livez", Anybody, health::live, about::daemon::live()).unmetered(),
        get("/readyz", Anybody, health::ready, about::daemon::ready()).unmetered(),
        metrics,
        get("/dashboard", Anybody, dashboard::page, about::daemon::dashboard()),
        get("/dashboard/style.css", Anybody, dashboard::style, about::daemon::dashboard_style()),
        get("/dashboard/app.js", Anybody, dashboard::script, about::daemon::dashboard_script()),
        get("/openapi.json", Anybody, docs::document, about::daemon::openapi()),
        get("/docs", Anybody, docs::page, about::daemon::docs()),
        get("/docs/style.css", Anybody, docs::style, about::daemon::docs_style()),
        get(
            "/docs/swagger-ui.css",
            Anybody,
            docs::library_style,
            about::daemon::docs_library_style(),
        ),
        get("/docs/docs.js", Anybody, docs::script, about::daemon::docs_script()),
        get("/docs/swagger-ui.js", Anybody, docs::library, about::daemon::docs_library()),
        get("/problems", Anybody, problems::list, about::daemon::problems()),
        get("/problems/{code}", Anybody, problems::show, about::daemon::explain_problem()),
        // Tenants, and who may call for them.
        post("/api/organizations", Operator, organizations::create, about::organizations::create()),
        get("/api/organizations", Operator, organizations::list, about::organizations::list()),
        get(
            "/api/organizations/{organizationId}",
            Viewer,
            organizations::show,
            about::organizations::show(),
        ),
        patch(
            "/api/organizations/{organizationId}",
            Operator,
            organizations::change,
            about::organizations::change(),
        ),
        post("/api/tokens", Admin, tokens::create, about::tokens::create()),
        get("/api/tokens", Admin, tokens::list, about::tokens::list()),
        get("/api/tokens/{tokenId}", Admin, tokens::show, about::tokens::show()),
        delete("/api/tokens/{tokenId}", Admin, tokens::revoke, about::tokens::revoke()),
        post("/api/tokens/{tokenId}/rotate", Admin, tokens::rotate, about::tokens::rotate()),
        get("/api/audit", Admin, audit::list, about::audit::list()),
        // Sessions.
        post("/api/whatsapp/session", Manager, sessions::create, about::sessions::create()),
        get("/api/whatsapp/session/list-realtime", Viewer, list::list, about::sessions::list()),
        get(
            "/api/whatsapp/session/status/{sessionId}",
            Viewer,
            status::show,
            about::sessions::status(),
        ),
        get("/api/whatsapp/session/{sessionId}", Viewer, status::show, about::sessions::show()),
        patch(
            "/api/whatsapp/session/{sessionId}",
            Manager,
            sessions::change,
            about::sessions::change(),
        ),
        delete(
            "/api/whatsapp/session/{sessionId}",
            Manager,
            sessions::delete,
            about::sessions::delete(),
        ),
        post(
            "/api/whatsapp/session/{sessionId}/start",
            Manager,
            sessions::start,
            about::sessions::start(),
        ),
        post(
            "/api/whatsapp/session/{sessionId}/stop",
            Manager,
            sessions::stop,
            about::sessions::stop(),
        ),
        post(
            "/api/whatsapp/session/{sessionId}/restart",
            Manager,
            sessions::restart,
            about::sessions::restart(),
        ),
        post(
            "/api/whatsapp/session/{sessionId}/logout",
            Manager,
            sessions::log_out,
            about::sessions::log_out(),
        ),
        post(
            "/api/whatsapp/session/{sessionId}/pair",
            Manager,
            sessions::pair,
            about::sessions::pair(),
        ),
        post(
            "/api/whatsapp/session/{sessionId}/migrate",
            Manager,
            migrate::migrate,
            about::sessions::migrate(),
        ),
        get("/api/whatsapp/session/{sessionId}/qr", Viewer, qr::show, about::sessions::qr())
            .waits(),
        get(
            "/api/whatsapp/session/{sessionId}/qr.png",
            Viewer,
            qr::show,
            about::sessions::qr_png(),
        )
        .waits()
        .signable(),
        get(
            "/api/whatsapp/session/{sessionId}/qr.svg",
            Viewer,
            qr::show,
            about::sessions::qr_svg(),
        )
        .waits()
        .signable(),
        get(
            "/api/whatsapp/session/{sessionId}/qr.txt",
            Viewer,
            qr::show,
            about::sessions::qr_text(),
        )
        .waits(),
        get(
            "/api/whatsapp/session/{sessionId}/qr.json",
            Viewer,
            qr::show,
            about::sessions::qr_json(),
        )
        .waits(),
        post(
            "/api/whatsapp/session/{sessionId}/qr/url",
            Viewer,
            qr::sign,
            about::sessions::sign_qr(),
        ),
        post("/api/whatsapp/connect", Manager, connect::connect, about::external::connect())
            .waits()
            .with_elder_errors(),
        // Sessions that run elsewhere.
        post(
            "/api/whatsapp/webhook/{sessionId}",
            Key::Session(Manager),
            receiver::receive,
            about::external::receive(),
        ),
        get(
            "/api/whatsapp/webhook/{sessionId}",
            Key::Session(Manager),
            receiver::verify,
            about::external::verify(),
        ),
        post(
            "/api/whatsapp/session/{sessionId}/secret/rotate",
            Manager,
            sessions::rotate_secret,
            about::external::rotate(),
        ),
        post(
            "/api/whatsapp/status-webhook",
            Key::Status(Manager),
            status_webhook::report,
            about::external::report_status(),
        )
        .for_all_origins(),
        post(
            "/functions/v1/whatsapp-status-webhook",
            Key::Status(Manager),
            status_webhook::report,
            about::external::report_status_to_function(),
        )
        .for_all_origins(),
        // Messages.
        post(
            "/api/whatsapp/session/{sessionId}/messages",
            Manager,
            messages::send,
            about::messages::send(),
        ),
        get(
            "/api/whatsapp/session/{sessionId}/messages",
            Viewer,
            messages::list,
            about::messages::list(),
        ),
        get(
            "/api/whatsapp/session/{sessionId}/figures",
            Viewer,
            figures::show,
            about::messages::figures(),
        ),
        get(
            "/api/whatsapp/session/{sessionId}/messages/{messageId}",
            Viewer,
            messages::show,
            about::messages::show(),
        ),
        get(
            "/api/whatsapp/session/{sessionId}/messages/{messageId}/media",
            Viewer,
            media::show,
            about::messages::media(),
        )
        .waits()
        .signable(),
        post(
            "/api/whatsapp/session/{sessionId}/messages/{messageId}/media/url",
            Viewer,
            media::sign,
            about::messages::sign_media(),
        ),
        // Campaigns.
        get("/api/contacts", Viewer, contacts::list, about::contacts::list()),
        get(
            "/api/conversations",
            Viewer,
            contacts::conversations,
            about::contacts::conversations(),
        ),
        get(
            "/api/conversations/{conversationId}/messages",
            Viewer,
            contacts::messages,
            about::contacts::messages_of(),
        ),
        post("/api/campaigns", Manager, campaigns::create, about::campaigns::create()),
        get("/api/campaigns", Viewer, campaigns::list, about::campaigns::list()),
        patch(
            "/api/campaigns/{campaignId}",
            Manager,
            campaigns::change,
            about::campaigns::change(),
        ),
        get("/api/campaigns/{campaignId}", Viewer, campaigns::show, about::campaigns::show()),
        post(
            "/api/campaigns/{campaignId}/audience",
            Manager,
            audience::add,
            about::audience::add(),
        ),
        get(
            "/api/campaigns/{campaignId}/audience",
            Viewer,
            audience::list,
            about::audience::list(),
        ),
        get(
            "/api/campaigns/{campaignId}/statistics",
            Viewer,
            audience::statistics,
            about::audience::statistics(),
        ),
        post(
            "/api/campaigns/{campaignId}/recount",
            Manager,
            audience::recount,
            about::audience::recount(),
        ),
        // What happens.
        get("/api/whatsapp/events", Viewer, events::feed, about::events::feed()).waits(),
        get("/api/whatsapp/events/page", Viewer, events::page, about::events::feed_page()).waits(),
        get(
            "/api/whatsapp/session/{sessionId}/events",
            Viewer,
            events::feed,
            about::events::session_feed(),
        )
        .waits(),
        get(
            "/api/whatsapp/session/{sessionId}/events/page",
            Viewer,
            events::page,
            about::events::session_feed_page(),
        )
        .waits(),
    ];
    routes.extend(webhooks::routes());
    routes.extend(meta::routes());
    routes
}

/// Those of the listener that is for the machine's own watchers. They need no token there.
pub(super) fn admin_routes() -> Vec<Route> {
    vec![
        get("/livez", Anybody, health::live, about::daemon::live()).unmetered(),
        get("/readyz", Anybody, health::ready, about::daemon::ready()).unmetered(),
        get("/metrics", Anybody, metrics::show_to_anybody, about::daemon::metrics()).unmetered(),
    ]
}

/// What a request that succeeded is answered with.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(inline)]
struct Success<T> {
    #[schemars(extend("const" = true))]
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
    once(([(header::LOCATION, location)], with(status, data)), replayed)
}

/// A page of a list.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(inline)]
struct List<T> {
    #[schemars(extend("const" = true))]
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
