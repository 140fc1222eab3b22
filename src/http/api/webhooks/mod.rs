//! `/api/webhooks`: endpoints of the organization, and what was and is to be sent to them.
//!
//! Members are written with underscores here, as `register` and its payload have them.

mod deliveries;
mod endpoints;
mod replays;
mod stats;
mod types;
mod views;

use entity::state::Role::{Manager, Viewer};

use crate::http::route::{Route, delete, get, patch, post};

/// The longest page, and the usual one.
const LONGEST: i64 = 500;
const USUAL: u64 = 50;

/// Where events go, and what became of them. Whoever may change that reads what everybody is sent.
pub(super) fn routes() -> Vec<Route> {
    vec![
        post("/api/webhooks", Manager, endpoints::create),
        get("/api/webhooks", Viewer, endpoints::list),
        post("/api/webhooks/register", Manager, endpoints::register),
        get("/api/webhooks/event-types", Viewer, types::list),
        get("/api/webhooks/{webhookId}", Viewer, endpoints::show),
        patch("/api/webhooks/{webhookId}", Manager, endpoints::update),
        delete("/api/webhooks/{webhookId}", Manager, endpoints::delete),
        post("/api/webhooks/{webhookId}/pause", Manager, endpoints::pause),
        post("/api/webhooks/{webhookId}/resume", Manager, endpoints::resume),
        post("/api/webhooks/{webhookId}/secret/rotate", Manager, endpoints::rotate),
        // As long as somebody else takes.
        post("/api/webhooks/{webhookId}/test", Manager, endpoints::test).waits(),
        post("/api/webhooks/{webhookId}/replay", Manager, replays::create),
        get("/api/webhooks/replays/{replayId}", Viewer, replays::show),
        post("/api/webhooks/replays/{replayId}/cancel", Manager, replays::cancel),
        get("/api/webhooks/{webhookId}/events", Viewer, deliveries::list),
        get("/api/webhooks/{webhookId}/stats", Viewer, stats::show),
        get("/api/webhooks/events/{deliveryId}", Viewer, deliveries::show),
        post("/api/webhooks/events/{deliveryId}/retry", Manager, deliveries::retry),
    ]
}
