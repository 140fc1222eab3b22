//! `/api/organizations`: the tenants.

use axum::{
    Json,
    extract::State,
    http::HeaderMap,
    response::{IntoResponse, Response},
};
use entity::{id::OrganizationId, organization};
use schemars::JsonSchema;
use serde::Serialize;

use super::{List, created, ok};
use crate::{
    event::payload::{Timestamp, rfc3339},
    http::{
        auth::Caller,
        body::JsonObject,
        error::ApiError,
        fields::{Fields, Parameters},
        idempotency::idempotency_key,
        path::OrganizationPath,
    },
    service::{
        Organizations,
        organizations::{Changes, Filter, MOST_SESSIONS, NewOrganization},
        sessions::Change,
    },
};

/// An organization, as the API shows it.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "Organization")]
pub struct OrganizationView {
    id: OrganizationId,
    client_id: i64,
    name: String,
    max_sessions: Option<i64>,
    created_at: Timestamp,
}

impl From<organization::Model> for OrganizationView {
    fn from(row: organization::Model) -> Self {
        Self {
            id: row.id,
            client_id: row.client_id,
            name: row.name,
            max_sessions: row.max_sessions,
            created_at: rfc3339(row.created_at),
        }
    }
}

#[tracing::instrument(name = "http.organizations.create", skip_all)]
pub(super) async fn create(
    State(organizations): State<Organizations>,
    Caller(caller): Caller,
    parameters: Parameters,
    headers: HeaderMap,
    JsonObject(mut body): JsonObject,
) -> Result<Response, ApiError> {
    parameters.finish()?;
    let key = idempotency_key(&headers)?;
    let name = body.required_text("name");
    let max_sessions = match max_sessions(&mut body) {
        Change::To(number) => Some(number),
        Change::Keep | Change::Clear => None,
    };
    body.finish()?;
    let new = NewOrganization { name, max_sessions };
    let outcome = organizations.create(&caller, new, key).await?;
    let location = format!("/api/organizations/{}", outcome.made.id);
    Ok(created(&location, outcome.replayed, OrganizationView::from(outcome.made)))
}

#[tracing::instrument(name = "http.organizations.list", skip_all)]
pub(super) async fn list(
    State(organizations): State<Organizations>,
    Caller(caller): Caller,
    mut parameters: Parameters,
) -> Result<impl IntoResponse, ApiError> {
    let page = parameters.page();
    let filter = Filter {
        name: parameters.text("name"),
        client_id: parameters.number("clientId", 1..=i64::MAX),
    };
    parameters.finish()?;
    let listing = organizations.list(&caller, &filter, page).await?;
    let data = listing.organizations.into_iter().map(OrganizationView::from);
    Ok(Json(List::new(data, listing.next.as_ref())))
}

#[tracing::instrument(name = "http.organizations.show", skip_all)]
pub(super) async fn show(
    State(organizations): State<Organizations>,
    Caller(caller): Caller,
    OrganizationPath(id): OrganizationPath,
    parameters: Parameters,
) -> Result<impl IntoResponse, ApiError> {
    parameters.finish()?;
    Ok(ok(OrganizationView::from(organizations.find(&caller, &id).await?)))
}

#[tracing::instrument(name = "http.organizations.change", skip_all)]
pub(super) async fn change(
    State(organizations): State<Organizations>,
    Caller(caller): Caller,
    OrganizationPath(id): OrganizationPath,
    parameters: Parameters,
    JsonObject(mut body): JsonObject,
) -> Result<impl IntoResponse, ApiError> {
    parameters.finish()?;
    let changes = Changes { name: body.text("name"), max_sessions: max_sessions(&mut body) };
    body.finish()?;
    Ok(ok(OrganizationView::from(organizations.change(&caller, &id, changes).await?)))
}

fn max_sessions(body: &mut Fields) -> Change<i64> {
    body.change_number("maxSessions", 0..=MOST_SESSIONS)
}
