//! `GET /api/audit`: who changed what, when, and from where.

use axum::{Json, extract::State, response::IntoResponse};
use entity::{
    audit,
    id::{AuditId, TokenId},
    kind::AuditAction,
};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Map, Value, value::RawValue};

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
    detail: Box<RawValue>,
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
            // Written by us, as JSON; a row that somebody else broke is shown without its detail.
            detail: RawValue::from_string(row.detail).unwrap_or_else(|_| RawValue::NULL.to_owned()),
            token_id: row.token_id,
            address: row.address,
        }
    }
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
