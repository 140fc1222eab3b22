//! `GET /api/audit`: who changed what, when, and from where.

use axum::{Json, extract::State, response::IntoResponse};
use entity::{
    UnixMillis, audit,
    id::{AuditId, TokenId},
    kind::AuditAction,
};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{
    Map, Value, json,
    value::{RawValue, to_raw_value},
};

use super::{List, webhooks::moment};
use crate::{
    event::payload::{Timestamp, rfc3339},
    http::{auth::Caller, error::ApiError, fields::Parameters},
    service::{Audit, audit::Filter},
};

/// An entry, as the API shows it.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "AuditEntry")]
pub struct EntryView {
    id: AuditId,
    at: Timestamp,
    action: AuditAction,
    /// The id of what was changed.
    target: String,
    #[schemars(with = "Map<String, Value>")]
    pub(crate) detail: Box<RawValue>,
    token_id: Option<TokenId>,
    address: Option<String>,
}

impl From<audit::Model> for EntryView {
    fn from(row: audit::Model) -> Self {
        Self {
            id: row.id,
            at: rfc3339(row.at),
            action: row.action,
            target: row.target,
            detail: told(row.detail),
            token_id: row.token_id,
            address: row.address,
        }
    }
}

/// What an entry has in detail, with times as the API writes them: rows have them in milliseconds. Written by us, as JSON;
/// what somebody else broke is not shown.
fn told(detail: String) -> Box<RawValue> {
    let none = || RawValue::NULL.to_owned();
    let Ok(mut members) = serde_json::from_str::<Map<String, Value>>(&detail) else {
        return RawValue::from_string(detail).unwrap_or_else(|_| none());
    };
    for (name, value) in &mut members {
        let is_time = ["At", "Until"].iter().any(|end| name.ends_with(end));
        if let Some(millis) = value.as_i64().filter(|_| is_time) {
            *value = json!(rfc3339(UnixMillis(millis)));
        }
    }
    to_raw_value(&members).unwrap_or_else(|_| none())
}

#[tracing::instrument(name = "http.audit.list", skip_all)]
pub(super) async fn list(
    State(audit): State<Audit>,
    Caller(caller): Caller,
    mut parameters: Parameters,
) -> Result<impl IntoResponse, ApiError> {
    let page = parameters.page();
    let filter = Filter {
        action: parameters.parsed("action", |word| {
            serde_json::from_value(word.into()).map_err(|_| "must be an action as entries have it")
        }),
        target: parameters.text("target"),
        token_id: parameters.parsed("tokenId", str::parse::<TokenId>),
        since: parameters.parsed("since", moment),
        until: parameters.parsed("until", moment),
    };
    parameters.finish()?;
    let listing = audit.list(&caller, &filter, page).await?;
    let data = listing.entries.into_iter().map(EntryView::from);
    Ok(Json(List::new(data, listing.next.as_ref())))
}
