//! `GET /api/whatsapp/session/list-realtime`: all sessions, and how many are in which state.

use axum::{Json, extract::State, response::IntoResponse};
use entity::{id::SessionId, state::SessionStatus};
use schemars::JsonSchema;
use serde::Serialize;

use crate::{
    event::payload::{Timestamp, rfc3339},
    http::{
        auth::Caller,
        error::ApiError,
        fields::Parameters,
        page::{cursor, position},
    },
    service::{
        Sessions,
        page::Page,
        sessions::{Filter, Group, Migrated, StatusFilter, StatusView, Summary},
        text,
    },
};

/// The longest page.
pub(super) const LONGEST: i64 = 1000;

/// The length of a page that has a cursor but no limit.
const USUAL: u64 = 100;

/// A session as the list shows it: exactly the seed's members, and two more of one that has handed over.
#[expect(clippy::struct_excessive_bools, reason = "the flags are the contract")]
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "ListedSession")]
pub struct Item {
    session_id: SessionId,
    status: SessionStatus,
    message: String,
    qr: Option<String>,
    user_id: Option<String>,
    created_at: Timestamp,
    updated_at: Timestamp,
    is_connected: bool,
    #[serde(rename = "needsQR")]
    needs_qr: bool,
    is_loading: bool,
    has_error: bool,
    #[serde(rename = "hasQR")]
    has_qr: bool,
    last_updated: Timestamp,
    /// The session that has taken over from this one; not there if none has.
    #[serde(skip_serializing_if = "Option::is_none")]
    migrated_to: Option<SessionId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    migrated_at: Option<Timestamp>,
}

impl From<StatusView> for Item {
    fn from(session: StatusView) -> Self {
        Self {
            session_id: session.session_id,
            status: session.status,
            message: session.message,
            has_qr: session.qr.is_some(),
            qr: session.qr,
            user_id: session.user_id,
            created_at: rfc3339(session.created_at),
            updated_at: rfc3339(session.updated_at),
            is_connected: session.is_connected,
            needs_qr: session.needs_qr,
            is_loading: session.is_loading,
            has_error: session.has_error,
            last_updated: rfc3339(session.updated_at),
            migrated_to: session.handover.to,
            migrated_at: session.handover.at.map(rfc3339),
        }
    }
}

/// How many sessions are in each group.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "SessionCounts")]
struct Counts {
    connected: u64,
    disconnected: u64,
    loading: u64,
    #[serde(rename = "needsQR")]
    needs_qr: u64,
    error: u64,
    total: u64,
}

impl From<Summary> for Counts {
    fn from(summary: Summary) -> Self {
        Self {
            connected: summary.connected,
            disconnected: summary.disconnected,
            loading: summary.loading,
            needs_qr: summary.needs_qr,
            error: summary.error,
            total: summary.total(),
        }
    }
}

/// The list, or a page of it.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(inline)]
pub(super) struct List {
    #[schemars(extend("const" = true))]
    success: bool,
    data: Vec<Item>,
    summary: Counts,
    timestamp: Timestamp,
    /// Not there when no page was asked for; `null` after the last.
    #[serde(skip_serializing_if = "Next::is_unpaged")]
    #[schemars(with = "Option<String>")]
    next_cursor: Next,
}

/// Where the next page begins.
#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Next {
    /// No page was asked for: the member is not there.
    Unpaged,
    /// After the last page: `null`.
    End,
    At(String),
}

impl Next {
    const fn is_unpaged(&self) -> bool {
        matches!(self, Self::Unpaged)
    }
}

#[tracing::instrument(name = "http.sessions.list", skip_all)]
pub(super) async fn list(
    State(sessions): State<Sessions>,
    Caller(caller): Caller,
    mut parameters: Parameters,
) -> Result<impl IntoResponse, ApiError> {
    let user_id = parameters
        .parsed("userId", |user| text::user_id("userId", user).map_err(|error| error.detail));
    let status = parameters.parsed("status", status_filter);
    let migrated = parameters.parsed("migrated", |word| match word {
        "true" => Ok(Migrated::Only),
        "false" => Ok(Migrated::Without),
        "include" => Ok(Migrated::With),
        _ => Err("must be `true`, `false` or `include`"),
    });
    let limit = parameters.number("limit", 1..=LONGEST).and_then(|limit| limit.try_into().ok());
    let after = parameters.parsed("cursor", position);
    parameters.finish()?;

    let is_paged = limit.is_some() || after.is_some();
    let limit = limit.or_else(|| after.is_some().then_some(USUAL));
    let filter = Filter { user_id, status, migrated: migrated.unwrap_or_default() };
    let listing = sessions.list(&caller, &filter, &Page { after, limit }).await?;
    Ok(Json(List {
        success: true,
        data: listing.sessions.into_iter().map(Into::into).collect(),
        summary: listing.summary.into(),
        timestamp: rfc3339(listing.at),
        next_cursor: match &listing.next {
            _ if !is_paged => Next::Unpaged,
            None => Next::End,
            Some(position) => Next::At(cursor(position)),
        },
    }))
}

/// A summary group, or a stored word.
///
/// `loading` and `error` are both: the group is meant, so that a list is as long as the summary
/// says.
fn status_filter(word: &str) -> Result<StatusFilter, &'static str> {
    let group = Group::ALL.into_iter().find(|group| group.word() == word);
    if let Some(group) = group {
        return Ok(StatusFilter::Group(group));
    }
    serde_json::from_value(word.into()).map(StatusFilter::Word).map_err(|_| {
        "must be `connected`, `disconnected`, `loading`, `needsQR`, `error`, or a status as \
         sessions have it"
    })
}
