//! Replays: sending a range of events again, as a job.

use axum::{
    Json,
    extract::State,
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
};
use entity::{
    UnixMillis,
    id::{EndpointId, ReplayId},
    webhook::{replay, state::ReplayState},
};
use schemars::JsonSchema;
use serde::Serialize;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use super::{
    LONGEST, USUAL,
    views::{Page, one_of},
};
use crate::{
    event::payload::{Timestamp, rfc3339},
    http::{
        api::{created, ok},
        auth::Caller,
        body::{JsonObject, Unneeded},
        error::ApiError,
        fields::Parameters,
        idempotency::idempotency_key,
        path::{EndpointPath, ReplayPath},
    },
    service::{
        Webhooks,
        webhooks::{Range, limits},
    },
};

/// A replay.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Replay")]
pub(super) struct ReplayView {
    id: ReplayId,
    webhook_id: EndpointId,
    /// `running`, `done`, `cancelled`, or `stopped`: the endpoint was disabled.
    state: ReplayState,
    after_sequence: i64,
    through_sequence: i64,
    /// How far it has come.
    at_sequence: i64,
    /// 0 to 100.
    percent: i64,
    /// Deliveries that came of it so far.
    deliveries: i64,
    /// Only of events that the endpoint was not told of.
    undelivered_only: bool,
    /// What it has not come to, if it ended before.
    remaining: Option<RemainingView>,
    rate_per_second: i32,
    created_at: Timestamp,
    finished_at: Option<Timestamp>,
}

/// What a replay has not come to: another one can begin there.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "ReplayRemainder")]
pub(super) struct RemainingView {
    after_sequence: i64,
    through_sequence: i64,
}

impl From<replay::Model> for ReplayView {
    fn from(row: replay::Model) -> Self {
        let (all, done) = (row.through_seq - row.after_seq, row.cursor_seq - row.after_seq);
        let ended = row.state != ReplayState::Running && row.cursor_seq < row.through_seq;
        let remaining = ended.then_some(RemainingView {
            after_sequence: row.cursor_seq,
            through_sequence: row.through_seq,
        });
        Self {
            id: row.id,
            webhook_id: row.endpoint_id,
            state: row.state,
            after_sequence: row.after_seq,
            through_sequence: row.through_seq,
            at_sequence: row.cursor_seq,
            percent: if all == 0 { 100 } else { done.saturating_mul(100) / all },
            deliveries: row.owed,
            undelivered_only: row.undelivered_only,
            remaining,
            rate_per_second: row.rate_per_second,
            created_at: rfc3339(row.created_at),
            finished_at: row.finished_at.map(rfc3339),
        }
    }
}

/// A time, as requests give one.
pub(crate) fn moment(text: &str) -> Result<UnixMillis, &'static str> {
    let at = OffsetDateTime::parse(text, &Rfc3339)
        .map_err(|_| "must be a time, as in `2025-01-20T10:00:00Z`")?;
    let millis = i64::try_from(at.unix_timestamp_nanos() / 1_000_000).unwrap_or(i64::MAX);
    Ok(UnixMillis(millis.max(0)))
}

/// 202: it goes on by itself.
#[tracing::instrument(name = "http.webhooks.replay", skip_all)]
pub(super) async fn create(
    State(webhooks): State<Webhooks>,
    Caller(caller): Caller,
    EndpointPath(id): EndpointPath,
    parameters: Parameters,
    headers: HeaderMap,
    JsonObject(mut body): JsonObject,
) -> Result<Response, ApiError> {
    parameters.finish()?;
    let key = idempotency_key(&headers)?;
    let range = Range {
        since: body.parsed("since", moment),
        until: body.parsed("until", moment),
        after: body.number("after_sequence", 0..=i64::MAX).flatten(),
        through: body.number("through_sequence", 0..=i64::MAX).flatten(),
        rate_per_second: body.number("rate_per_second", limits::REPLAY_RATE).flatten(),
        undelivered_only: body.flag("undelivered_only"),
    };
    body.finish()?;
    let outcome = webhooks.replay(&caller, &id, range, key).await?;
    let location = format!("/api/webhooks/replays/{}", outcome.made.id);
    let mut response = created(&location, outcome.replayed, ReplayView::from(outcome.made));
    if !outcome.replayed {
        *response.status_mut() = StatusCode::ACCEPTED;
    }
    Ok(response)
}

#[tracing::instrument(name = "http.webhooks.replays", skip_all)]
pub(super) async fn list(
    State(webhooks): State<Webhooks>,
    Caller(caller): Caller,
    EndpointPath(id): EndpointPath,
    mut parameters: Parameters,
) -> Result<impl IntoResponse, ApiError> {
    let limit = parameters.number("limit", 1..=LONGEST).and_then(|limit| limit.try_into().ok());
    let state = parameters.parsed("state", |word| {
        ReplayState::of_word(word).ok_or_else(|| one_of(ReplayState::WORDS))
    });
    let before = parameters.parsed("cursor", str::parse::<ReplayId>);
    parameters.finish()?;
    let limit = limit.unwrap_or(USUAL);
    let found = webhooks.replays(&caller, &id, state, before, limit + 1).await?;
    let id = |row: &replay::Model| row.id.to_string();
    Ok(Json(Page::of(found, limit, id, ReplayView::from)))
}

#[tracing::instrument(name = "http.webhooks.replay.show", skip_all)]
pub(super) async fn show(
    State(webhooks): State<Webhooks>,
    Caller(caller): Caller,
    ReplayPath(id): ReplayPath,
    parameters: Parameters,
) -> Result<impl IntoResponse, ApiError> {
    parameters.finish()?;
    Ok(ok(ReplayView::from(webhooks.find_replay(&caller, &id).await?)))
}

#[tracing::instrument(name = "http.webhooks.replay.cancel", skip_all)]
pub(super) async fn cancel(
    State(webhooks): State<Webhooks>,
    Caller(caller): Caller,
    ReplayPath(id): ReplayPath,
    parameters: Parameters,
    Unneeded(body): Unneeded,
) -> Result<impl IntoResponse, ApiError> {
    parameters.finish()?;
    body.finish()?;
    Ok(ok(ReplayView::from(webhooks.cancel_replay(&caller, &id).await?)))
}
