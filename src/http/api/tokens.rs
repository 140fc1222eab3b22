//! `/api/tokens`: who may call, for an organization. The secret is in one answer, and never again.

use axum::{
    Json,
    extract::State,
    http::{HeaderMap, HeaderValue, header},
    response::{IntoResponse, Response},
};
use entity::{UnixMillis, id::TokenId, state::Role, token};
use schemars::JsonSchema;
use serde::Serialize;

use super::{List, created, ok};
use crate::{
    event::payload::{Timestamp, rfc3339},
    http::{
        auth::Caller,
        body::{JsonObject, Unneeded},
        error::ApiError,
        fields::Parameters,
        idempotency::idempotency_key,
        path::TokenPath,
    },
    service::{
        Tokens,
        created::Created,
        tokens::{CreateToken, State as TokenState},
    },
};

/// A token, as the API shows it.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "Token")]
pub struct TokenView {
    id: TokenId,
    role: Role,
    label: String,
    created_at: Timestamp,
    expires_at: Option<Timestamp>,
    revoked_at: Option<Timestamp>,
    /// To the minute.
    last_used_at: Option<Timestamp>,
}

impl From<token::Model> for TokenView {
    fn from(row: token::Model) -> Self {
        Self {
            id: row.id,
            role: row.role,
            label: row.label,
            created_at: rfc3339(row.created_at),
            expires_at: row.expires_at.map(rfc3339),
            revoked_at: row.revoked_at.map(rfc3339),
            last_used_at: row.last_used_at.map(rfc3339),
        }
    }
}

/// A token that was made, with what its holder shows.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "NewToken")]
pub(super) struct NewTokenView {
    #[serde(flatten)]
    token: TokenView,
    /// `null` when an earlier request with the same key was answered with it: it is not kept.
    secret: Option<String>,
}

#[tracing::instrument(name = "http.tokens.create", skip_all)]
pub(super) async fn create(
    State(tokens): State<Tokens>,
    Caller(caller): Caller,
    parameters: Parameters,
    headers: HeaderMap,
    JsonObject(mut body): JsonObject,
) -> Result<Response, ApiError> {
    parameters.finish()?;
    let key = idempotency_key(&headers)?;
    let role = body.required_text("role");
    let role = serde_json::from_value::<Role>(role.clone().into()).ok().or_else(|| {
        if !role.is_empty() {
            body.fault::<()>("role", "must be `viewer`, `manager`, `admin` or `operator`");
        }
        None
    });
    let label = body.text("label").unwrap_or_default();
    let expires_at = body.parsed("expiresAt", point_in_time);
    body.finish()?;
    // A role that could not be read has ended the reading.
    let create = CreateToken { role: role.unwrap_or(Role::Viewer), label, expires_at };
    let (outcome, secret) = tokens.create(&caller, create, key).await?;
    Ok(made(outcome, secret))
}

#[tracing::instrument(name = "http.tokens.list", skip_all)]
pub(super) async fn list(
    State(tokens): State<Tokens>,
    Caller(caller): Caller,
    mut parameters: Parameters,
) -> Result<impl IntoResponse, ApiError> {
    let page = parameters.page();
    let role = parameters.parsed("role", |word| {
        serde_json::from_value(word.into())
            .map_err(|_| "must be `viewer`, `manager`, `admin` or `operator`")
    });
    let state = parameters.parsed("state", |word| match word {
        "active" => Ok(TokenState::Active),
        "expired" => Ok(TokenState::Expired),
        "revoked" => Ok(TokenState::Revoked),
        _ => Err("must be `active`, `expired` or `revoked`"),
    });
    parameters.finish()?;
    let listing = tokens.list(&caller, (role, state), page).await?;
    let data = listing.tokens.into_iter().map(TokenView::from);
    Ok(Json(List::new(data, listing.next.as_ref())))
}

#[tracing::instrument(name = "http.tokens.show", skip_all)]
pub(super) async fn show(
    State(tokens): State<Tokens>,
    Caller(caller): Caller,
    TokenPath(id): TokenPath,
    parameters: Parameters,
) -> Result<impl IntoResponse, ApiError> {
    parameters.finish()?;
    Ok(ok(TokenView::from(tokens.find(&caller, &id).await?)))
}

/// Revoked at once; asked for twice, it is the same.
#[tracing::instrument(name = "http.tokens.revoke", skip_all)]
pub(super) async fn revoke(
    State(tokens): State<Tokens>,
    Caller(caller): Caller,
    TokenPath(id): TokenPath,
    parameters: Parameters,
) -> Result<impl IntoResponse, ApiError> {
    parameters.finish()?;
    Ok(ok(TokenView::from(tokens.revoke(&caller, &id).await?)))
}

/// 201 with the new one; 200 when an earlier request with the same key made it.
#[tracing::instrument(name = "http.tokens.rotate", skip_all)]
pub(super) async fn rotate(
    State(tokens): State<Tokens>,
    Caller(caller): Caller,
    TokenPath(id): TokenPath,
    parameters: Parameters,
    headers: HeaderMap,
    Unneeded(mut body): Unneeded,
) -> Result<Response, ApiError> {
    parameters.finish()?;
    let key = idempotency_key(&headers)?;
    let overlap = body.overlap("overlapSeconds");
    body.finish()?;
    let (outcome, secret) = tokens.rotate(&caller, &id, overlap, key).await?;
    Ok(made(outcome, secret))
}

/// The answer with a new token.
fn made(outcome: Created<token::Model>, secret: Option<String>) -> Response {
    let location = format!("/api/tokens/{}", outcome.made.id);
    let view = NewTokenView { token: outcome.made.into(), secret };
    let mut response = created(&location, outcome.replayed, view);
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

fn point_in_time(text: &str) -> Result<UnixMillis, &'static str> {
    let wrong = "must be a point in time as RFC 3339 writes it, such as 2030-01-31T00:00:00Z";
    let at = time::OffsetDateTime::parse(text, &time::format_description::well_known::Rfc3339)
        .map_err(|_| wrong)?;
    i64::try_from(at.unix_timestamp_nanos() / 1_000_000).map(UnixMillis).map_err(|_| wrong)
}
