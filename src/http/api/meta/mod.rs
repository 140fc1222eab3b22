//! Meta's Cloud API: `/api/meta`, where organizations set their numbers up and see what was told, and the
//! addresses that Meta itself calls.

mod about;
mod about_messages;
mod accounts;
mod events;
mod hooks;
mod messages;
mod views;

pub(in crate::http) use self::hooks::Posts;

use entity::state::Role::{Manager, Viewer};

use crate::http::route::{Access::Anybody, Route, delete, get, patch, post};

pub(super) fn routes() -> Vec<Route> {
    vec![
        post("/api/meta/accounts", Manager, accounts::upsert, about::upsert()),
        get("/api/meta/accounts", Viewer, accounts::list, about::list()),
        get("/api/meta/accounts/{accountId}", Viewer, accounts::show, about::show()),
        patch("/api/meta/accounts/{accountId}", Manager, accounts::change, about::change()),
        delete("/api/meta/accounts/{accountId}", Manager, accounts::delete, about::delete()),
        post(
            "/api/meta/accounts/{accountId}/verify-token/rotate",
            Manager,
            accounts::rotate,
            about::rotate(),
        ),
        post(
            "/api/meta/accounts/{accountId}/status",
            Manager,
            accounts::set_status,
            about::set_status(),
        ),
        post(
            "/api/meta/accounts/{accountId}/messages",
            Manager,
            messages::send,
            about_messages::send(),
        ),
        post(
            "/api/conversations/{conversationId}/read",
            Manager,
            messages::mark_read,
            about_messages::mark_read(),
        ),
        get(
            "/api/organizations/{organizationId}/whatsapp",
            Viewer,
            accounts::overview,
            about::overview(),
        ),
        get("/api/meta/events", Viewer, events::list, about::list_events()),
        get("/api/meta/events/{metaEventId}", Viewer, events::show, about::show_event()),
        post("/api/meta/events/reprocess", Manager, events::reprocess, about::reprocess()),
        post(
            "/api/meta/events/{metaEventId}/reprocess",
            Manager,
            events::reprocess_one,
            about::reprocess_one(),
        ),
        // Meta calls from few addresses, and often: how much of it there may be at a time is limited instead.
        get("/api/webhooks/whatsapp", Anybody, hooks::challenge, about::challenge()).unmetered(),
        post("/api/webhooks/whatsapp", Anybody, hooks::receive, about::receive()).unmetered(),
        get("/webhook", Anybody, hooks::challenge, about::challenge_short()).unmetered(),
        post("/webhook", Anybody, hooks::receive, about::receive_short()).unmetered(),
        get(
            "/api/webhooks/whatsapp/{callbackKey}",
            Anybody,
            hooks::challenge,
            about::challenge_own(),
        )
        .unmetered(),
        post("/api/webhooks/whatsapp/{callbackKey}", Anybody, hooks::receive, about::receive_own())
            .unmetered(),
    ]
}
