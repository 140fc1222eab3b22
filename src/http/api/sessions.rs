//! `/api/whatsapp/session`: the session as a resource, and what can be done with it.

use axum::{
    extract::State,
    http::{HeaderMap, header},
    response::{IntoResponse, Response},
};
use entity::{
    id::SessionId,
    state::{Origin, ReceiverAuth},
};
use schemars::JsonSchema;
use serde::Serialize;

use super::{
    created, ok, once,
    status::{SessionView, Showing},
};
use crate::{
    event::payload::{Timestamp, rfc3339},
    http::{
        auth::Caller,
        body::{JsonObject, Unneeded},
        error::ApiError,
        fields::{Fields, Parameters},
        idempotency::idempotency_key,
        path::SessionPath,
    },
    service::{
        Principal, Sessions,
        sessions::{ChangeSession, CreateExternal, CreateSession, WithSecret},
    },
    webhook::SigningSecret,
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
    let external = external(&mut body);
    let start = body.flag("start");
    if external.is_some() && start == Some(true) {
        body.fault::<()>("start", "a session that runs elsewhere is started there");
    }
    let create = CreateSession {
        session_id: body.parsed("sessionId", str::parse::<SessionId>),
        user_id: body.text("userId"),
        phone_number: body.text("phoneNumber"),
        stopped: start == Some(false),
        is_notification: body.flag("isNotification"),
        ai_config: body.object("aiConfig"),
        external,
    };
    body.finish()?;
    let outcome = sessions.create(&caller, create, key).await?;
    let location = format!("/api/whatsapp/session/{}", outcome.made.session.session_id);
    let view = MadeView::of(&showing, &caller, outcome.made).await;
    Ok(created(&location, outcome.replayed, view))
}

/// What the body says of a session that runs elsewhere; nothing of one that runs here.
fn external(body: &mut Fields) -> Option<CreateExternal> {
    let origin = body.parsed("origin", |word| {
        let origin: Option<Origin> = serde_json::from_value(word.into()).ok();
        // Numbers at Meta's are set up as accounts.
        origin.filter(|it| *it != Origin::Cloud).ok_or("must be `embedded` or `external`")
    });
    let (data, auth) = (body.object("sessionData"), receiver_auth(body));
    if origin == Some(Origin::External) {
        return Some(CreateExternal { data, auth: auth.unwrap_or(ReceiverAuth::Token) });
    }
    for (name, is_there) in [("sessionData", data.is_some()), ("webhookAuth", auth.is_some())] {
        if is_there {
            body.fault::<()>(name, "is for sessions that run elsewhere");
        }
    }
    None
}

fn receiver_auth(body: &mut Fields) -> Option<ReceiverAuth> {
    body.parsed("webhookAuth", |word| {
        serde_json::from_value(word.into()).map_err(|_| "must be `token`, `secret` or `signature`")
    })
}

/// A session as it was made or changed.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "MadeSession")]
pub(super) struct MadeView {
    #[serde(flatten)]
    session: SessionView,
    /// Of a session that runs elsewhere: what was made for its events, shown this once.
    #[serde(skip_serializing_if = "Option::is_none")]
    secret: Option<String>,
    /// Of a session that runs elsewhere: where its events go, with the secret if it stands there.
    #[serde(skip_serializing_if = "Option::is_none")]
    webhook_url: Option<String>,
}

impl MadeView {
    async fn of(showing: &Showing, caller: &Principal, made: WithSecret) -> Self {
        let WithSecret { session, secret } = made;
        let url = session.receiver_auth.map(|auth| {
            receiver_url(
                &session.session_id,
                secret.as_ref().filter(|_| auth == ReceiverAuth::Secret),
            )
        });
        Self {
            session: showing.session(caller, session).await,
            secret: secret.map(|secret| secret.reveal()),
            webhook_url: url,
        }
    }
}

/// Where events of a session are posted. The secret needs no escapes.
fn receiver_url(id: &SessionId, secret: Option<&SigningSecret>) -> String {
    let url = format!("/api/whatsapp/webhook/{id}");
    secret.map_or_else(|| url.clone(), |secret| format!("{url}?secret={}", secret.reveal()))
}

/// A new secret of a session that runs elsewhere.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "SessionSecret")]
pub(super) struct SecretView {
    /// Shown this once: `null` when an earlier request with the same key was answered with it.
    secret: Option<String>,
    /// Where events go, with the secret where that is shown. For those who sign, without what stands behind `?`.
    url: String,
    /// Until when the secret before is as good.
    old_secret_until: Timestamp,
}

#[tracing::instrument(name = "http.sessions.rotate_secret", skip_all)]
pub(super) async fn rotate_secret(
    State(sessions): State<Sessions>,
    Caller(caller): Caller,
    SessionPath(id): SessionPath,
    parameters: Parameters,
    headers: HeaderMap,
    Unneeded(mut body): Unneeded,
) -> Result<Response, ApiError> {
    parameters.finish()?;
    let key = idempotency_key(&headers)?;
    let overlap = body.overlap("overlapSeconds");
    body.finish()?;
    let (secret, until) = sessions.rotate_secret(&caller, &id, overlap, key).await?;
    let url = receiver_url(&id, secret.as_ref());
    let replayed = secret.is_none();
    let secret = secret.map(|secret| secret.reveal());
    let view = SecretView { secret, url, old_secret_until: rfc3339(until) };
    Ok(once(([(header::CACHE_CONTROL, "no-store")], ok(view)), replayed))
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
        data: body.change_object("sessionData"),
        auth: receiver_auth(&mut body),
    };
    body.finish()?;
    let changed = sessions.change(&caller, &id, change).await?;
    Ok(ok(MadeView::of(&showing, &caller, changed).await))
}

#[tracing::instrument(name = "http.sessions.start", skip_all)]
pub(super) async fn start(
    State(sessions): State<Sessions>,
    State(showing): State<Showing>,
    Caller(caller): Caller,
    SessionPath(id): SessionPath,
    parameters: Parameters,
    Unneeded(body): Unneeded,
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
    Unneeded(body): Unneeded,
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
    Unneeded(body): Unneeded,
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
    Unneeded(mut body): Unneeded,
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
