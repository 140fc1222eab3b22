//! `/api/whatsapp/session`: the session as a resource, and what can be done with it.

use axum::{
    extract::State,
    http::{HeaderMap, header},
    response::{IntoResponse, Response},
};
use entity::id::SessionId;
use schemars::JsonSchema;
use serde::Serialize;

use super::{
    created, ok,
    status::{SessionView, Showing},
};
use crate::{
    event::payload::{Timestamp, rfc3339},
    http::{
        auth::Caller, body::JsonObject, error::ApiError, fields::Parameters,
        idempotency::idempotency_key, path::SessionPath,
    },
    service::{
        Sessions,
        sessions::{Change, ChangeSession, CreateSession},
    },
};

#[tracing::instrument(name = "http.sessions.create", skip_all)]
pub(super) async fn create(
    State(sessions): State<Sessions>,
    State(showing): State<Showing>,
    Caller(caller): Caller,
    parameters: Parameters,
    headers: HeaderMap,
    JsonObject(mut body): JsonObject,
) -> Result<Response, ApiError> {
    parameters.finish()?;
    let key = idempotency_key(&headers)?;
    let create = CreateSession {
        session_id: body.parsed("sessionId", str::parse::<SessionId>),
        user_id: body.text("userId"),
        phone_number: body.text("phoneNumber"),
        stopped: body.flag("start") == Some(false),
        is_notification: body.flag("isNotification"),
        ai_config: match body.change_object("aiConfig") {
            Change::To(object) => Some(object),
            Change::Keep | Change::Clear => None,
        },
    };
    body.finish()?;
    let outcome = sessions.create(&caller, create, key).await?;
    let location = format!("/api/whatsapp/session/{}", outcome.made.session_id);
    let view = showing.session(&caller, outcome.made).await;
    Ok(created(&location, outcome.replayed, view))
}

#[tracing::instrument(name = "http.sessions.change", skip_all)]
pub(super) async fn change(
    State(sessions): State<Sessions>,
    State(showing): State<Showing>,
    Caller(caller): Caller,
    SessionPath(id): SessionPath,
    parameters: Parameters,
    JsonObject(mut body): JsonObject,
) -> Result<impl IntoResponse, ApiError> {
    parameters.finish()?;
    let change = ChangeSession {
        user_id: body.change("userId"),
        phone_number: body.change("phoneNumber"),
        is_notification: body.change_flag("isNotification"),
        ai_config: body.change_object("aiConfig"),
    };
    body.finish()?;
    let session = sessions.change(&caller, &id, change).await?;
    Ok(ok(showing.session(&caller, session).await))
}

#[tracing::instrument(name = "http.sessions.start", skip_all)]
pub(super) async fn start(
    State(sessions): State<Sessions>,
    State(showing): State<Showing>,
    Caller(caller): Caller,
    SessionPath(id): SessionPath,
    parameters: Parameters,
    JsonObject(body): JsonObject,
) -> Result<impl IntoResponse, ApiError> {
    parameters.finish()?;
    body.finish()?;
    Ok(ok(showing.session(&caller, sessions.start(&caller, &id).await?).await))
}

#[tracing::instrument(name = "http.sessions.stop", skip_all)]
pub(super) async fn stop(
    State(sessions): State<Sessions>,
    State(showing): State<Showing>,
    Caller(caller): Caller,
    SessionPath(id): SessionPath,
    parameters: Parameters,
    JsonObject(body): JsonObject,
) -> Result<impl IntoResponse, ApiError> {
    parameters.finish()?;
    body.finish()?;
    Ok(ok(showing.session(&caller, sessions.stop(&caller, &id).await?).await))
}

#[tracing::instrument(name = "http.sessions.restart", skip_all)]
pub(super) async fn restart(
    State(sessions): State<Sessions>,
    State(showing): State<Showing>,
    Caller(caller): Caller,
    SessionPath(id): SessionPath,
    parameters: Parameters,
    JsonObject(body): JsonObject,
) -> Result<impl IntoResponse, ApiError> {
    parameters.finish()?;
    body.finish()?;
    Ok(ok(showing.session(&caller, sessions.restart(&caller, &id).await?).await))
}

/// A session after a logout, and whether WhatsApp knows of it.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "LoggedOutSession")]
pub(super) struct LoggedOutView {
    #[serde(flatten)]
    session: SessionView,
    unlinked: bool,
}

#[tracing::instrument(name = "http.sessions.log_out", skip_all)]
pub(super) async fn log_out(
    State(sessions): State<Sessions>,
    State(showing): State<Showing>,
    Caller(caller): Caller,
    SessionPath(id): SessionPath,
    parameters: Parameters,
    JsonObject(mut body): JsonObject,
) -> Result<impl IntoResponse, ApiError> {
    parameters.finish()?;
    let forget = body.flag("forgetAccount").unwrap_or(false);
    body.finish()?;
    let (session, unlinked) = sessions.log_out(&caller, &id, forget).await?;
    let session = showing.session(&caller, session).await;
    Ok(ok(LoggedOutView { session, unlinked: unlinked.0 }))
}

/// A code to type on the phone, under "Link with phone number".
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "PairingCode")]
pub(super) struct CodeView {
    code: String,
    expires_at: Timestamp,
}

#[tracing::instrument(name = "http.sessions.pair", skip_all)]
pub(super) async fn pair(
    State(sessions): State<Sessions>,
    Caller(caller): Caller,
    SessionPath(id): SessionPath,
    parameters: Parameters,
    JsonObject(mut body): JsonObject,
) -> Result<impl IntoResponse, ApiError> {
    parameters.finish()?;
    let phone_number = body.required_text("phoneNumber");
    body.finish()?;
    let pairing = sessions.pair(&caller, &id, &phone_number).await?;
    Ok((
        [(header::CACHE_CONTROL, "no-store")],
        ok(CodeView { code: pairing.code, expires_at: rfc3339(pairing.expires_at) }),
    ))
}

/// A session that is no more, and whether WhatsApp knows of it.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "DeletedSession")]
pub(super) struct DeletedView {
    session_id: SessionId,
    deleted: bool,
    /// The phone no longer lists the device. `false` when that could not be told.
    unlinked: bool,
}

#[tracing::instrument(name = "http.sessions.delete", skip_all)]
pub(super) async fn delete(
    State(sessions): State<Sessions>,
    Caller(caller): Caller,
    SessionPath(id): SessionPath,
    mut parameters: Parameters,
) -> Result<impl IntoResponse, ApiError> {
    let unlink = parameters.flag("logout").unwrap_or(true);
    parameters.finish()?;
    let unlinked = sessions.delete(&caller, &id, unlink).await?;
    Ok(ok(DeletedView { session_id: id, deleted: true, unlinked: unlinked.0 }))
}
