//! `GET /api/whatsapp/events` and `…/session/{sessionId}/events`: what happens, as it happens.
//!
//! Server-sent events, or a page of the same feed for those who ask for JSON or `…/page`.

use axum::{
    Json,
    extract::{FromRequestParts, RawPathParams, State},
    http::{HeaderMap, HeaderName, HeaderValue, request::Parts},
    response::{IntoResponse, Response, Sse},
};
use entity::id::{EventId, SessionId};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Map, Value, value::RawValue};

use super::stream::Opener;
use crate::{
    event::payload::{Timestamp, rfc3339},
    http::{
        accept::preferred, auth::Caller, code::Code, error::ApiError, fields::Parameters,
        path::SessionPath, problem::Problem,
    },
    service::events::{Gap, Happened, Kind, Scope, Stretch},
};

const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// The longest page, and the usual one.
pub(super) const LONGEST: i64 = 1000;
pub(super) const USUAL: u64 = 100;

/// The session that the feed is about, where the address names one.
#[derive(Debug)]
pub(super) struct About(Option<SessionId>);

impl<S: Send + Sync> FromRequestParts<S> for About {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let names_one = match RawPathParams::from_request_parts(parts, state).await {
            Ok(parameters) => parameters.iter().next().is_some(),
            // It names one that cannot be read; the other extractor says what is wrong.
            Err(_) => true,
        };
        if !names_one {
            return Ok(Self(None));
        }
        let SessionPath(id) = SessionPath::from_request_parts(parts, state).await?;
        Ok(Self(Some(id)))
    }
}

/// An event, as streams and pages show it.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "Event")]
pub(super) struct EventView {
    /// The word of what happened: `message`, `ready`, `session.created`.
    #[schemars(with = "String")]
    event: Kind,
    /// `null` of what is about no session.
    session_id: Option<SessionId>,
    /// What the type of event has: see `GET /api/webhooks/event-types`.
    #[schemars(with = "Map<String, Value>")]
    data: Box<RawValue>,
    timestamp: Timestamp,
    id: EventId,
    seq: i64,
}

impl From<Happened> for EventView {
    fn from(happened: Happened) -> Self {
        Self {
            event: happened.kind,
            session_id: happened.session_id,
            // Written by us, as JSON; a row that somebody else broke is shown without its data.
            data: RawValue::from_string(happened.payload)
                .unwrap_or_else(|_| RawValue::NULL.to_owned()),
            timestamp: rfc3339(happened.at),
            id: happened.id,
            seq: happened.seq,
        }
    }
}

impl EventView {
    pub(super) const fn kind(&self) -> Kind {
        self.event
    }

    pub(super) const fn seq(&self) -> i64 {
        self.seq
    }
}

#[tracing::instrument(name = "http.events.stream", skip_all)]
pub(super) async fn feed(
    State(opener): State<Opener>,
    Caller(caller): Caller,
    About(session): About,
    mut parameters: Parameters,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let is_stream =
        preferred(&headers, &[("text/event-stream", true), ("application/json", false)])
            .ok_or_else(|| Problem::of(Code::NotAcceptable))?;
    let scope = opener.events.scope(&caller, session.as_ref()).await?;
    if !is_stream {
        return Ok(answer(&opener, scope, parameters).await?.into_response());
    }

    let after = parameters.number("after", 0..=i64::MAX);
    parameters.finish()?;
    // After a reconnect the header is newer than the address.
    let after = last_event_id(&headers)?.or(after);
    let feed = opener.open(scope, after).await?;
    let mut response = Sse::new(feed.into_stream()).into_response();
    // A proxy that collects an answer before it passes it on would hold the stream back.
    response.headers_mut().insert("x-accel-buffering", HeaderValue::from_static("no"));
    Ok(response)
}

#[tracing::instrument(name = "http.events.page", skip_all)]
pub(super) async fn page(
    State(opener): State<Opener>,
    Caller(caller): Caller,
    About(session): About,
    parameters: Parameters,
) -> Result<impl IntoResponse, ApiError> {
    let scope = opener.events.scope(&caller, session.as_ref()).await?;
    answer(&opener, scope, parameters).await
}

/// Events after a place, the oldest first.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(inline)]
pub(super) struct Page {
    #[schemars(extend("const" = true))]
    success: bool,
    data: Vec<EventView>,
    /// What to give as `after` for the next page.
    cursor: i64,
    /// What was deleted by retention before it was read: the page begins behind it.
    #[serde(skip_serializing_if = "Option::is_none")]
    gap: Option<GapView>,
}

/// Events that are no longer there, by their numbers.
#[derive(Clone, Copy, Debug, Serialize, JsonSchema)]
#[schemars(rename = "EventGap")]
pub(super) struct GapView {
    after: i64,
    through: i64,
}

impl From<Gap> for GapView {
    fn from(gap: Gap) -> Self {
        Self { after: gap.after, through: gap.through }
    }
}

async fn answer(
    opener: &Opener,
    scope: Scope,
    mut parameters: Parameters,
) -> Result<Json<Page>, ApiError> {
    let after = parameters.number("after", 0..=i64::MAX).unwrap_or(0);
    let limit = parameters.number("limit", 1..=LONGEST).and_then(|limit| limit.try_into().ok());
    let wait = opener.waiting.parameter(&mut parameters);
    let kind = parameters.parsed("type", |name| {
        Kind::of_name(name).ok_or("must be the name of a kind of events, as events have it")
    });
    parameters.finish()?;
    let (limit, scope) = (limit.unwrap_or(USUAL), &scope.of(kind));
    let Stretch { happened, through } = match wait {
        None => opener.events.page(scope, after, limit).await?,
        Some(wait) => {
            let page = opener.events.next_page(scope, after, limit, wait);
            opener.waiting.poll(scope.caller(), page).await?
        }
    };
    let data: Vec<EventView> = happened.into_iter().map(Into::into).collect();
    let gap = opener.events.gap(scope, after, data.first().map(EventView::seq)).await?;
    let begin = gap.map_or(after, |gap| gap.through);
    let cursor = if kind.is_some() {
        // What was looked at in vain is not looked at again.
        begin.max(through)
    } else {
        data.last().map_or(begin, EventView::seq)
    };
    Ok(Json(Page { success: true, data, cursor, gap: gap.map(Into::into) }))
}

/// The number of the last event that the caller has seen.
fn last_event_id(headers: &HeaderMap) -> Result<Option<i64>, ApiError> {
    let Some(id) = headers.get(LAST_EVENT_ID).filter(|id| !id.is_empty()) else { return Ok(None) };
    let number = id.to_str().ok().and_then(|id| id.trim().parse().ok()).filter(|id| *id >= 0);
    number.map(Some).ok_or_else(|| {
        Problem::invalid_field("Last-Event-ID", "must be the number of an event").into()
    })
}
