//! The log of what Meta told.

use axum::{Json, extract::State, response::IntoResponse};
use entity::id::MetaAccountId;

use super::views::{EventDetailView, EventView};
use crate::{
    http::{
        api::{List, ok, webhooks::moment},
        auth::Caller,
        error::ApiError,
        fields::Parameters,
        path::MetaEventPath,
    },
    service::{Meta, meta::LogFilter},
};

#[tracing::instrument(name = "http.meta.events", skip_all)]
pub(super) async fn list(
    State(meta): State<Meta>,
    Caller(caller): Caller,
    mut parameters: Parameters,
) -> Result<impl IntoResponse, ApiError> {
    let page = parameters.page();
    let filter = LogFilter {
        processed: parameters.flag("processed"),
        event_type: parameters.text("type"),
        account: parameters.parsed("account", str::parse::<MetaAccountId>),
        is_unrouted: parameters.flag("unrouted"),
        from: parameters.parsed("from", moment),
        to: parameters.parsed("to", moment),
    };
    parameters.finish()?;
    let listing = meta.events(&caller, &filter, page).await?;
    let data = listing.events.into_iter().map(EventView::from);
    Ok(Json(List::new(data, listing.next.as_ref())))
}

#[tracing::instrument(name = "http.meta.event", skip_all)]
pub(super) async fn show(
    State(meta): State<Meta>,
    Caller(caller): Caller,
    MetaEventPath(id): MetaEventPath,
    parameters: Parameters,
) -> Result<impl IntoResponse, ApiError> {
    parameters.finish()?;
    Ok(ok(EventDetailView::from(meta.event(&caller, &id).await?)))
}
