//! Deliveries: a page of an endpoint's, one of them, and sending it again.

use axum::{Json, extract::State, http::StatusCode, response::IntoResponse};
use entity::{
    id::{AttemptId, DeliveryId},
    webhook::{attempt, delivery, state::DeliveryState},
};

use super::{
    LONGEST, USUAL,
    views::{AttemptView, DeliveryDetailView, DeliveryView, Page, RetriedView, one_of},
};
use crate::{
    event::payload::rfc3339,
    http::{
        api::{ok, with},
        auth::Caller,
        body::Unneeded,
        error::ApiError,
        fields::Parameters,
        path::{DeliveryPath, EndpointPath},
    },
    service::{
        Webhooks,
        webhooks::{Query, Tries},
    },
    webhook::EventType,
};

#[tracing::instrument(name = "http.webhooks.deliveries", skip_all)]
pub(super) async fn list(
    State(webhooks): State<Webhooks>,
    Caller(caller): Caller,
    EndpointPath(id): EndpointPath,
    mut parameters: Parameters,
) -> Result<impl IntoResponse, ApiError> {
    let limit = parameters.number("limit", 1..=LONGEST).and_then(|limit| limit.try_into().ok());
    let query = Query {
        state: parameters.parsed("status", |word| {
            DeliveryState::of_word(word).ok_or_else(|| one_of(DeliveryState::WORDS))
        }),
        event_type: parameters.parsed("type", |name| {
            EventType::of_name(name).ok_or("is no event type: see GET /api/webhooks/event-types")
        }),
        after: parameters.parsed("cursor", str::parse::<DeliveryId>),
    };
    parameters.finish()?;
    let limit = limit.unwrap_or(USUAL);
    let found = webhooks.deliveries(&caller, &id, query, limit + 1).await?;
    let id = |row: &delivery::Model| row.id.to_string();
    Ok(Json(Page::of(found, limit, id, DeliveryView::from)))
}

#[tracing::instrument(name = "http.webhooks.delivery", skip_all)]
pub(super) async fn show(
    State(webhooks): State<Webhooks>,
    Caller(caller): Caller,
    DeliveryPath(id): DeliveryPath,
    parameters: Parameters,
) -> Result<impl IntoResponse, ApiError> {
    parameters.finish()?;
    Ok(ok(DeliveryDetailView::from(webhooks.delivery(&caller, &id).await?)))
}

#[tracing::instrument(name = "http.webhooks.attempts", skip_all)]
pub(super) async fn attempts(
    State(webhooks): State<Webhooks>,
    Caller(caller): Caller,
    DeliveryPath(id): DeliveryPath,
    mut parameters: Parameters,
) -> Result<impl IntoResponse, ApiError> {
    let limit = parameters.number("limit", 1..=LONGEST).and_then(|limit| limit.try_into().ok());
    let tries = Tries {
        has_failed: parameters.flag("failed"),
        after: parameters.parsed("cursor", str::parse::<AttemptId>),
    };
    parameters.finish()?;
    let limit = limit.unwrap_or(USUAL);
    let found = webhooks.attempts(&caller, &id, tries, limit + 1).await?;
    let id = |row: &attempt::Model| row.id.to_string();
    Ok(Json(Page::of(found, limit, id, AttemptView::from)))
}

/// 202: it is due now.
#[tracing::instrument(name = "http.webhooks.retry", skip_all)]
pub(super) async fn retry(
    State(webhooks): State<Webhooks>,
    Caller(caller): Caller,
    DeliveryPath(id): DeliveryPath,
    parameters: Parameters,
    Unneeded(body): Unneeded,
) -> Result<impl IntoResponse, ApiError> {
    parameters.finish()?;
    body.finish()?;
    let (row, held_until) = webhooks.retry(&caller, &id).await?;
    let view = RetriedView { delivery: row.into(), held_until: held_until.map(rfc3339) };
    Ok(with(StatusCode::ACCEPTED, view))
}
