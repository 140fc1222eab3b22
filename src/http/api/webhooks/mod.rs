//! `/api/webhooks`: endpoints of the organization, and what was and is to be sent to them.
//!
//! Members are written with underscores here, as `register` and its payload have them.

mod about;
mod deliveries;
mod endpoints;
mod replays;
mod stats;
mod types;
mod views;

pub(crate) use self::replays::moment;

use entity::state::Role::{Manager, Viewer};

use crate::http::route::{Route, delete, get, patch, post};

/// The longest page, and the usual one.
const LONGEST: i64 = 500;
const USUAL: u64 = 50;

/// Where events go, and what became of them. Whoever may change that reads what everybody is sent.
pub(super) fn routes() -> Vec<Route> {
    vec![
        post("/api/webhooks", Manager, endpoints::create, about::create()),
        get("/api/webhooks", Viewer, endpoints::list, about::list()),
        post("/api/webhooks/register", Manager, endpoints::register, about::register())
            .with_elder_errors(),
        get("/api/webhooks/event-types", Viewer, types::list, about::types()),
        get("/api/webhooks/{webhookId}", Viewer, endpoints::show, about::show()),
        patch("/api/webhooks/{webhookId}", Manager, endpoints::update, about::update()),
        delete("/api/webhooks/{webhookId}", Manager, endpoints::delete, about::delete()),
        post("/api/webhooks/{webhookId}/pause", Manager, endpoints::pause, about::pause()),
        post("/api/webhooks/{webhookId}/resume", Manager, endpoints::resume, about::resume()),
        post(
            "/api/webhooks/{webhookId}/secret/rotate",
            Manager,
            endpoints::rotate,
            about::rotate(),
        ),
        // As long as somebody else takes.
        post("/api/webhooks/{webhookId}/test", Manager, endpoints::test, about::test()).waits(),
        post("/api/webhooks/{webhookId}/replay", Manager, replays::create, about::create_replay()),
        get("/api/webhooks/{webhookId}/replays", Viewer, replays::list, about::list_replays()),
        get("/api/webhooks/replays/{replayId}", Viewer, replays::show, about::show_replay()),
        post(
            "/api/webhooks/replays/{replayId}/cancel",
            Manager,
            replays::cancel,
            about::cancel_replay(),
        ),
        get("/api/webhooks/{webhookId}/events", Viewer, deliveries::list, about::list_deliveries())
            .with_elder_errors(),
        get("/api/webhooks/{webhookId}/stats", Viewer, stats::show, about::show_stats()),
        get("/api/webhooks/events/{deliveryId}", Viewer, deliveries::show, about::show_delivery()),
        get(
            "/api/webhooks/events/{deliveryId}/attempts",
            Viewer,
            deliveries::attempts,
            about::list_attempts(),
        ),
        post(
            "/api/webhooks/events/{deliveryId}/retry",
            Manager,
            deliveries::retry,
            about::retry_delivery(),
        )
        .with_elder_errors(),
    ]
}
