//! Endpoints: their whole life.

use axum::{
    Json,
    extract::State,
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
};
use entity::{
    id::EndpointId,
    webhook::state::{EndpointState, Format, Ordering},
};
use schemars::JsonSchema;
use serde::Serialize;

use super::{
    LONGEST, USUAL,
    views::{DetailView, EndpointView, GapView, Page, RegisteredView, TestView, one_of},
};
use crate::{
    event::payload::{Timestamp, rfc3339},
    http::{
        api::{created, ok, once, with},
        auth::Caller,
        body::{JsonObject, Unneeded},
        error::ApiError,
        fields::{Fields, Parameters},
        idempotency::idempotency_key,
        path::EndpointPath,
    },
    service::{
        Webhooks,
        webhooks::{Endpoint, EndpointFilter, EndpointInput, limits},
    },
    webhook::EventType,
};

/// States that endpoints of a list can be in.
pub(super) const STATES: &[&str] = &["active", "paused", "disabled"];

/// 201 for a new endpoint, with its secret; 200 for one that was registered before.
#[tracing::instrument(name = "http.webhooks.register", skip_all)]
pub(super) async fn register(
    State(webhooks): State<Webhooks>,
    Caller(caller): Caller,
    parameters: Parameters,
    headers: HeaderMap,
    JsonObject(mut body): JsonObject,
) -> Result<Response, ApiError> {
    parameters.finish()?;
    let key = idempotency_key(&headers)?;
    let number = body.required_text("phone_number");
    let url = body.required_text("webhook_url");
    let max_retries = body.number("max_retries", limits::RETRIES);
    body.finish()?;
    let made = webhooks.register(&caller, number, url, max_retries, key).await?;
    let secret = made.secret.map(|secret| secret.reveal());
    let location = format!("/api/webhooks/{}", made.row.id);
    let is_old = secret.is_none() && !made.replayed;
    let view = RegisteredView::of(made.row, secret, made.missed);
    Ok(if is_old {
        ([(header::LOCATION, location)], with(StatusCode::OK, view)).into_response()
    } else {
        created(&location, made.replayed, view)
    })
}

/// An endpoint that was just made, with its secret.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "NewWebhook")]
pub(super) struct CreatedView {
    #[serde(flatten)]
    endpoint: EndpointView,
    /// Shown this once: `null` when an earlier request with the same key has made the endpoint.
    secret: Option<String>,
}

#[tracing::instrument(name = "http.webhooks.create", skip_all)]
pub(super) async fn create(
    State(webhooks): State<Webhooks>,
    Caller(caller): Caller,
    parameters: Parameters,
    headers: HeaderMap,
    JsonObject(body): JsonObject,
) -> Result<Response, ApiError> {
    parameters.finish()?;
    let key = idempotency_key(&headers)?;
    let made = webhooks.create(&caller, input(body)?, key).await?;
    let location = format!("/api/webhooks/{}", made.row.id);
    let endpoint = Endpoint { row: made.row, health: None };
    let view = CreatedView {
        endpoint: EndpointView::of(endpoint, webhooks.now()),
        secret: made.secret.map(|secret| secret.reveal()),
    };
    Ok(created(&location, made.replayed, view))
}

/// The members of a body that makes or changes an endpoint.
fn input(mut body: Fields) -> Result<EndpointInput, ApiError> {
    let format = |word: &str| Format::of_word(word).ok_or_else(|| one_of(Format::WORDS));
    let ordering = |word: &str| Ordering::of_word(word).ok_or_else(|| one_of(Ordering::WORDS));
    let description = match body.change("description") {
        crate::service::sessions::Change::Keep => None,
        crate::service::sessions::Change::Clear => Some(None),
        crate::service::sessions::Change::To(text) => Some(Some(text)),
    };
    let input = EndpointInput {
        url: body.text("url"),
        description,
        format: body.parsed("format", format),
        event_types: body.texts("event_types"),
        session_ids: body.texts("session_ids"),
        phone_numbers: body.texts("phone_numbers"),
        headers: body.named_texts("headers"),
        ordering: body.parsed("ordering", ordering),
        max_in_flight: body.number("max_in_flight", limits::IN_FLIGHT).flatten(),
        rate_per_second: body.number("rate_per_second", limits::RATE),
        timeout_ms: body.number("timeout_ms", limits::TIMEOUT_MS).flatten(),
        max_retries: body.number("max_retries", limits::RETRIES),
        max_age_seconds: body.number("max_age_seconds", 0..=i64::from(i32::MAX)).flatten(),
    };
    body.finish()?;
    Ok(input)
}

#[tracing::instrument(name = "http.webhooks.list", skip_all)]
pub(super) async fn list(
    State(webhooks): State<Webhooks>,
    Caller(caller): Caller,
    mut parameters: Parameters,
) -> Result<impl IntoResponse, ApiError> {
    let limit = parameters.number("limit", 1..=LONGEST).and_then(|limit| limit.try_into().ok());
    let after = parameters.parsed("cursor", str::parse::<EndpointId>);
    let filter = EndpointFilter {
        state: parameters.parsed("state", |word| {
            let state = EndpointState::of_word(word).filter(|it| *it != EndpointState::Deleted);
            state.ok_or_else(|| one_of(STATES))
        }),
        format: parameters
            .parsed("format", |word| Format::of_word(word).ok_or_else(|| one_of(Format::WORDS))),
    };
    parameters.finish()?;
    let limit = limit.unwrap_or(USUAL);
    let found = webhooks.list(&caller, filter, after, limit + 1).await?;
    let now = webhooks.now();
    let id = |it: &Endpoint| it.row.id.to_string();
    Ok(Json(Page::of(found, limit, id, |it| EndpointView::of(it, now))))
}

#[tracing::instrument(name = "http.webhooks.show", skip_all)]
pub(super) async fn show(
    State(webhooks): State<Webhooks>,
    Caller(caller): Caller,
    EndpointPath(id): EndpointPath,
    parameters: Parameters,
) -> Result<impl IntoResponse, ApiError> {
    parameters.finish()?;
    let detail = webhooks.find(&caller, &id).await?;
    Ok(ok(DetailView::of(detail, webhooks.now())))
}

#[tracing::instrument(name = "http.webhooks.update", skip_all)]
pub(super) async fn update(
    State(webhooks): State<Webhooks>,
    Caller(caller): Caller,
    EndpointPath(id): EndpointPath,
    parameters: Parameters,
    JsonObject(body): JsonObject,
) -> Result<impl IntoResponse, ApiError> {
    parameters.finish()?;
    let detail = webhooks.update(&caller, &id, input(body)?).await?;
    Ok(ok(DetailView::of(detail, webhooks.now())))
}

#[tracing::instrument(name = "http.webhooks.delete", skip_all)]
pub(super) async fn delete(
    State(webhooks): State<Webhooks>,
    Caller(caller): Caller,
    EndpointPath(id): EndpointPath,
    parameters: Parameters,
) -> Result<impl IntoResponse, ApiError> {
    parameters.finish()?;
    webhooks.delete(&caller, &id).await?;
    Ok(StatusCode::NO_CONTENT)
}

#[tracing::instrument(name = "http.webhooks.pause", skip_all)]
pub(super) async fn pause(
    State(webhooks): State<Webhooks>,
    Caller(caller): Caller,
    EndpointPath(id): EndpointPath,
    parameters: Parameters,
    Unneeded(body): Unneeded,
) -> Result<impl IntoResponse, ApiError> {
    parameters.finish()?;
    body.finish()?;
    let detail = webhooks.pause(&caller, &id).await?;
    Ok(ok(DetailView::of(detail, webhooks.now())))
}

/// An endpoint that is called again.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "ResumedWebhook")]
pub(super) struct ResumedView {
    #[serde(flatten)]
    endpoint: DetailView,
    /// What it was not owed meanwhile, and can be sent now.
    missed: Option<GapView>,
}

#[tracing::instrument(name = "http.webhooks.resume", skip_all)]
pub(super) async fn resume(
    State(webhooks): State<Webhooks>,
    Caller(caller): Caller,
    EndpointPath(id): EndpointPath,
    parameters: Parameters,
    Unneeded(body): Unneeded,
) -> Result<impl IntoResponse, ApiError> {
    parameters.finish()?;
    body.finish()?;
    let (detail, gap) = webhooks.resume(&caller, &id).await?;
    let endpoint = DetailView::of(detail, webhooks.now());
    Ok(ok(ResumedView { endpoint, missed: gap.map(Into::into) }))
}

/// A new secret.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "RotatedSecret")]
pub(super) struct RotatedView {
    /// Shown this once: `null` when an earlier request with the same key was answered with it.
    secret: Option<String>,
    /// Until when the old ones sign beside it.
    old_secrets_until: Timestamp,
}

#[tracing::instrument(name = "http.webhooks.rotate", skip_all)]
pub(super) async fn rotate(
    State(webhooks): State<Webhooks>,
    Caller(caller): Caller,
    EndpointPath(id): EndpointPath,
    parameters: Parameters,
    headers: HeaderMap,
    Unneeded(mut body): Unneeded,
) -> Result<Response, ApiError> {
    parameters.finish()?;
    let key = idempotency_key(&headers)?;
    let overlap = body.overlap("overlap_seconds");
    body.finish()?;
    let (secret, until) = webhooks.rotate(&caller, &id, overlap, key).await?;
    let (replayed, secret) = (secret.is_none(), secret.map(|secret| secret.reveal()));
    Ok(once(ok(RotatedView { secret, old_secrets_until: rfc3339(until) }), replayed))
}

#[tracing::instrument(name = "http.webhooks.test", skip_all)]
pub(super) async fn test(
    State(webhooks): State<Webhooks>,
    Caller(caller): Caller,
    EndpointPath(id): EndpointPath,
    parameters: Parameters,
    Unneeded(mut body): Unneeded,
) -> Result<impl IntoResponse, ApiError> {
    parameters.finish()?;
    let kind = body.parsed("type", |name| {
        EventType::of_name(name).ok_or("is no event type: see GET /api/webhooks/event-types")
    });
    body.finish()?;
    let tested = webhooks.test(&caller, &id, kind).await?;
    Ok(ok(TestView::from(tested)))
}
