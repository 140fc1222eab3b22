//! The log of what Meta told.

use axum::{
    Json,
    extract::State,
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
};
use entity::{id::MetaAccountId, meta::state::MetaEventState};

use super::views::{EventDetailView, EventView, ReprocessedView};
use crate::{
    http::{
        api::{List, ok, webhooks::moment, with},
        auth::Caller,
        body::{JsonObject, Unneeded},
        error::ApiError,
        fields::Parameters,
        idempotency::{idempotency_key, once},
        path::MetaEventPath,
    },
    service::{
        Meta,
        meta::{LogFilter, Reprocessed, Wanted},
    },
};

/// 202: it is carried out soon.
#[tracing::instrument(name = "http.meta.event.reprocess", skip_all)]
pub(super) async fn reprocess_one(
    State(meta): State<Meta>,
    Caller(caller): Caller,
    MetaEventPath(id): MetaEventPath,
    parameters: Parameters,
    headers: HeaderMap,
    Unneeded(body): Unneeded,
) -> Result<Response, ApiError> {
    parameters.finish()?;
    body.finish()?;
    let key = idempotency_key(&headers)?;
    let wanted = Wanted { id: Some(id), ..Wanted::default() };
    Ok(accepted(meta.reprocess(&caller, wanted, key).await?))
}

#[tracing::instrument(name = "http.meta.events.reprocess", skip_all)]
pub(super) async fn reprocess(
    State(meta): State<Meta>,
    Caller(caller): Caller,
    parameters: Parameters,
    headers: HeaderMap,
    JsonObject(mut body): JsonObject,
) -> Result<Response, ApiError> {
    parameters.finish()?;
    let key = idempotency_key(&headers)?;
    let wanted = Wanted {
        id: None,
        state: body.parsed("state", settled),
        event_type: body.parsed("type", storable),
        account: body.parsed("account", str::parse::<MetaAccountId>),
        is_unrouted: body.flag("unrouted"),
        from: body.parsed("from", moment),
        to: body.parsed("to", moment),
    };
    body.finish()?;
    Ok(accepted(meta.reprocess(&caller, wanted, key).await?))
}

fn accepted(done: Reprocessed) -> Response {
    let view = ReprocessedView { events: done.events };
    once(with(StatusCode::ACCEPTED, view), done.replayed)
}

fn settled(word: &str) -> Result<MetaEventState, &'static str> {
    let state = MetaEventState::of_word(word).filter(|it| *it != MetaEventState::Waiting);
    state.ok_or("must be `processed` or `failed`")
}

fn storable(text: &str) -> Result<String, &'static str> {
    if text.contains('\0') { Err("must not contain U+0000") } else { Ok(text.to_owned()) }
}

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
        state: parameters.parsed("state", |word| {
            MetaEventState::of_word(word).ok_or("must be `waiting`, `processed` or `failed`")
        }),
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
