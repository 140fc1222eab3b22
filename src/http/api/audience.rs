//! `/api/campaigns/{campaignId}/audience` and what comes of it.

use axum::{
    Json,
    extract::State,
    http::HeaderMap,
    response::{IntoResponse, Response},
};
use entity::{audience, id::AudienceId, state::AudienceState};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Map, Value};

use super::{ok, once};
use crate::{
    event::payload::{Timestamp, rfc3339},
    http::{
        auth::Caller,
        body::{LargeJsonOrTable, Unneeded},
        error::ApiError,
        fields::{Fields, LONGEST_PAGE, Parameters, USUAL_PAGE},
        idempotency::idempotency_key,
        path::CampaignPath,
    },
    service::{
        Campaigns,
        audience::{Added, Counts, Drift, MOST, MemberInput, of_csv},
    },
};

/// One to whom a campaign goes.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "AudienceMember")]
pub(super) struct MemberView {
    id: AudienceId,
    phone_number: String,
    name: Option<String>,
    /// Meta's id of the message to them.
    message_id: Option<String>,
    state: AudienceState,
    /// Meta's code of why it failed.
    error: Option<String>,
    sent_at: Option<Timestamp>,
    delivered_at: Option<Timestamp>,
    read_at: Option<Timestamp>,
    played_at: Option<Timestamp>,
    failed_at: Option<Timestamp>,
    created_at: Timestamp,
    updated_at: Timestamp,
}

impl From<audience::Model> for MemberView {
    fn from(row: audience::Model) -> Self {
        Self {
            id: row.id,
            phone_number: row.phone_number,
            name: row.name,
            message_id: row.wa_id,
            state: row.state,
            error: row.error,
            sent_at: row.sent_at.map(rfc3339),
            delivered_at: row.delivered_at.map(rfc3339),
            read_at: row.read_at.map(rfc3339),
            played_at: row.played_at.map(rfc3339),
            failed_at: row.failed_at.map(rfc3339),
            created_at: rfc3339(row.created_at),
            updated_at: rfc3339(row.updated_at),
        }
    }
}

/// A page of an audience, in the order in which they were added.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(inline)]
pub(super) struct MemberList {
    #[schemars(extend("const" = true))]
    success: bool,
    data: Vec<MemberView>,
    /// `null` after the last.
    next_cursor: Option<AudienceId>,
}

/// What came of adding.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "AudienceAdded")]
pub(super) struct AddedView {
    /// Who was not there before.
    added: u64,
    /// Whose message was not known before.
    attached: u64,
    /// Who was there as it is said.
    unchanged: u64,
}

/// How many have come how far. Whoever has read has also been delivered to and sent to.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "CampaignStatistics")]
pub(super) struct StatisticsView {
    audience: i64,
    /// Those whose message is known.
    attached: i64,
    sent: i64,
    delivered: i64,
    read: i64,
    played: i64,
    /// Those whose message has failed, and is not known to have been delivered.
    failed: i64,
}

impl From<Counts> for StatisticsView {
    fn from(counts: Counts) -> Self {
        let Counts { audience, attached, sent, delivered, read, played, failed } = counts;
        Self { audience, attached, sent, delivered, read, played, failed }
    }
}

/// What counting anew came to.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "CampaignRecount")]
pub(super) struct DriftView {
    /// Whether the sums were wrong.
    drift: bool,
    before: StatisticsView,
    statistics: StatisticsView,
}

#[tracing::instrument(name = "http.audience.add", skip_all)]
pub(super) async fn add(
    State(campaigns): State<Campaigns>,
    Caller(caller): Caller,
    CampaignPath(id): CampaignPath,
    parameters: Parameters,
    headers: HeaderMap,
    LargeJsonOrTable(mut body): LargeJsonOrTable,
) -> Result<Response, ApiError> {
    parameters.finish()?;
    let key = idempotency_key(&headers)?;
    match (body.has("members"), body.has("csv")) {
        (false, false) => body.fault::<()>("members", "is missing: this or `csv` must be there"),
        (true, true) => body.fault("csv", "must not be there beside `members`"),
        _ => None,
    };
    let listed = body.objects("members");
    let table = body.parsed("csv", of_csv);
    let members = listed.map(|all| each(&mut body, all)).or(table).unwrap_or_default();
    body.finish()?;
    let done = campaigns.add_audience(&caller, &id, members, key).await?;
    let Added { added, attached, unchanged } = done.made;
    Ok(once(ok(AddedView { added, attached, unchanged }), done.replayed))
}

fn each(body: &mut Fields, all: Vec<Map<String, Value>>) -> Vec<MemberInput> {
    if all.len() > MOST {
        body.fault::<()>("members", format!("must be 1 to {MOST}"));
        return Vec::new();
    }
    let mut members = Vec::with_capacity(all.len());
    for (n, members_of) in all.into_iter().enumerate() {
        let mut fields = Fields::new(members_of);
        let member = MemberInput {
            phone_number: fields.required_text("phoneNumber"),
            name: fields.text("name"),
            message_id: fields.text("messageId"),
        };
        body.adopt(&format!("members/{n}"), fields);
        members.push(member);
    }
    members
}

#[tracing::instrument(name = "http.audience.list", skip_all)]
pub(super) async fn list(
    State(campaigns): State<Campaigns>,
    Caller(caller): Caller,
    CampaignPath(id): CampaignPath,
    mut parameters: Parameters,
) -> Result<impl IntoResponse, ApiError> {
    let limit =
        parameters.number("limit", 1..=LONGEST_PAGE).and_then(|limit| limit.try_into().ok());
    let state = parameters.parsed("state", |word| {
        AudienceState::of_word(word).ok_or("must be a state of an audience's member")
    });
    let after = parameters.parsed("cursor", str::parse::<AudienceId>);
    parameters.finish()?;
    let limit = limit.unwrap_or(USUAL_PAGE);
    let page = campaigns.audience(&caller, &id, state, after.as_ref(), limit).await?;
    let data = page.members.into_iter().map(MemberView::from).collect();
    Ok(Json(MemberList { success: true, data, next_cursor: page.next }))
}

#[tracing::instrument(name = "http.campaigns.statistics", skip_all)]
pub(super) async fn statistics(
    State(campaigns): State<Campaigns>,
    Caller(caller): Caller,
    CampaignPath(id): CampaignPath,
    parameters: Parameters,
) -> Result<impl IntoResponse, ApiError> {
    parameters.finish()?;
    Ok(ok(StatisticsView::from(campaigns.statistics(&caller, &id).await?)))
}

#[tracing::instrument(name = "http.campaigns.recount", skip_all)]
pub(super) async fn recount(
    State(campaigns): State<Campaigns>,
    Caller(caller): Caller,
    CampaignPath(id): CampaignPath,
    parameters: Parameters,
    Unneeded(body): Unneeded,
) -> Result<impl IntoResponse, ApiError> {
    parameters.finish()?;
    body.finish()?;
    let Drift { before, counted } = campaigns.recount(&caller, &id).await?;
    let drift = before != counted;
    Ok(ok(DriftView { drift, before: before.into(), statistics: counted.into() }))
}
