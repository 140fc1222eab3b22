//! `/api/campaigns`: bulk sends, so far as their names and their sessions.

use axum::{
    Json,
    extract::State,
    http::HeaderMap,
    response::{IntoResponse, Response},
};
use entity::id::{CampaignId, SessionId};
use schemars::JsonSchema;
use serde::Serialize;

use super::{List, created, ok};
use crate::{
    event::payload::{Timestamp, rfc3339},
    http::{
        auth::Caller, body::JsonObject, error::ApiError, fields::Parameters,
        idempotency::idempotency_key, path::CampaignPath,
    },
    service::{Campaigns, campaigns::Campaign},
};

/// A campaign, as the API shows it.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "Campaign")]
pub(super) struct CampaignView {
    id: CampaignId,
    name: String,
    /// The session that it is sent from. One that takes over from it takes its place.
    session_id: Option<SessionId>,
    created_at: Timestamp,
    updated_at: Timestamp,
}

impl From<Campaign> for CampaignView {
    fn from(campaign: Campaign) -> Self {
        Self {
            id: campaign.row.id,
            name: campaign.row.name,
            session_id: campaign.session_id,
            created_at: rfc3339(campaign.row.created_at),
            updated_at: rfc3339(campaign.row.updated_at),
        }
    }
}

#[tracing::instrument(name = "http.campaigns.create", skip_all)]
pub(super) async fn create(
    State(campaigns): State<Campaigns>,
    Caller(caller): Caller,
    parameters: Parameters,
    headers: HeaderMap,
    JsonObject(mut body): JsonObject,
) -> Result<Response, ApiError> {
    parameters.finish()?;
    let key = idempotency_key(&headers)?;
    let name = body.required_text("name");
    let session_id = body.parsed("sessionId", str::parse::<SessionId>);
    body.finish()?;
    let outcome = campaigns.create(&caller, &name, session_id, key).await?;
    let location = format!("/api/campaigns/{}", outcome.made.row.id);
    Ok(created(&location, outcome.replayed, CampaignView::from(outcome.made)))
}

#[tracing::instrument(name = "http.campaigns.change", skip_all)]
pub(super) async fn change(
    State(campaigns): State<Campaigns>,
    Caller(caller): Caller,
    CampaignPath(id): CampaignPath,
    parameters: Parameters,
    JsonObject(mut body): JsonObject,
) -> Result<impl IntoResponse, ApiError> {
    parameters.finish()?;
    // Looked up before faults are told, so that what is nobody's is not there first of all.
    let there = campaigns.find(&caller, &id).await?;
    let session_id = body.parsed("sessionId", str::parse::<SessionId>);
    body.finish()?;
    let campaign = match session_id {
        Some(session_id) => campaigns.set_session(&caller, &id, session_id).await?,
        None => there,
    };
    Ok(ok(CampaignView::from(campaign)))
}

#[tracing::instrument(name = "http.campaigns.list", skip_all)]
pub(super) async fn list(
    State(campaigns): State<Campaigns>,
    Caller(caller): Caller,
    mut parameters: Parameters,
) -> Result<impl IntoResponse, ApiError> {
    let page = parameters.page();
    let name = parameters.text("name");
    let session = parameters.parsed("sessionId", str::parse::<SessionId>);
    parameters.finish()?;
    let listing = campaigns.list(&caller, name, session.as_ref(), page).await?;
    let data = listing.campaigns.into_iter().map(CampaignView::from);
    Ok(Json(List::new(data, listing.next.as_ref())))
}

#[tracing::instrument(name = "http.campaigns.show", skip_all)]
pub(super) async fn show(
    State(campaigns): State<Campaigns>,
    Caller(caller): Caller,
    CampaignPath(id): CampaignPath,
    parameters: Parameters,
) -> Result<impl IntoResponse, ApiError> {
    parameters.finish()?;
    Ok(ok(CampaignView::from(campaigns.find(&caller, &id).await?)))
}
