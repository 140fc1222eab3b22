//! `GET /api/whatsapp/session/status/{sessionId}`, and the view of a session that all routes share.

use axum::{
    extract::{FromRef, State},
    response::IntoResponse,
};
use entity::{
    UnixMillis,
    id::SessionId,
    state::{DesiredState, Origin, ReceiverAuth, SessionStatus},
};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Map, Value};

use super::ok;
use crate::{
    event::payload::{Timestamp, rfc3339},
    http::{
        HttpState, auth::Caller, error::ApiError, fields::Parameters, path::SessionPath, signed,
    },
    qr::{Format, Layout, Renderer},
    service::{
        Error, Principal, Sessions, Signatures,
        sessions::{AccountChanged, LastDisconnect, Pairing, StatusView},
        signatures::{self, Subject},
    },
};

#[tracing::instrument(name = "http.status.show", skip_all)]
pub(super) async fn show(
    State(sessions): State<Sessions>,
    State(showing): State<Showing>,
    Caller(caller): Caller,
    SessionPath(id): SessionPath,
    parameters: Parameters,
) -> Result<impl IntoResponse, ApiError> {
    parameters.finish()?;
    let session = sessions.find(&caller, &id).await?;
    Ok(ok(showing.session(&caller, session).await))
}

/// A session as the status endpoint shows it: the members of the seed, in its order, then ours.
#[expect(clippy::struct_excessive_bools, reason = "the flags are the contract")]
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "Session")]
pub(super) struct SessionView {
    session_id: SessionId,
    status: SessionStatus,
    message: String,
    qr: Option<String>,
    qr_image: Option<String>,
    user_id: Option<String>,
    created_at: Timestamp,
    updated_at: Timestamp,
    is_connected: bool,
    #[serde(rename = "needsQR")]
    needs_qr: bool,
    is_loading: bool,
    has_error: bool,

    phone_number: Option<String>,
    push_name: Option<String>,
    loading_percent: Option<i16>,
    qr_issued_at: Option<Timestamp>,
    qr_expires_at: Option<Timestamp>,
    qr_sequence: i64,
    /// Where the code is as an image for a tag of a page, without a token, until five minutes after
    /// this code. `null` without a code.
    qr_url: Option<String>,
    reconnecting: bool,
    since: Timestamp,
    next_attempt_at: Option<Timestamp>,
    last_disconnect: Option<LastDisconnectView>,
    banned_until: Option<Timestamp>,
    pairing: PairingView,
    account_changed: Option<AccountChangedView>,
    desired_state: DesiredState,
    connected_at: Option<Timestamp>,
    last_active_at: Option<Timestamp>,
    /// Messages that could not be read when they came, over all of the session's life. Most come again and
    /// are read then; one that grows and grows tells of keys that do not fit any more.
    undecryptable_messages: i64,
    is_notification: bool,
    /// The organization's own, as it was given.
    ai_config: Option<Map<String, Value>>,
    /// The session that has taken over from this one, which starts no more.
    migrated_to: Option<SessionId>,
    migrated_at: Option<Timestamp>,
    /// Sessions that this one has taken over from, the last first.
    migrated_from: Vec<SessionId>,
    origin: Origin,
    /// What the caller keeps with a session that runs elsewhere.
    #[schemars(with = "Option<serde_json::Map<String, Value>>")]
    session_data: Option<Value>,
    /// How whoever posts the events of a session that runs elsewhere proves that he may.
    webhook_auth: Option<ReceiverAuth>,
}

/// Why and when a session last ended.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "LastDisconnect")]
pub(super) struct LastDisconnectView {
    reason: String,
    code: Option<i32>,
    at: Timestamp,
}

impl From<LastDisconnect> for LastDisconnectView {
    fn from(last: LastDisconnect) -> Self {
        Self { reason: last.reason, code: last.code, at: rfc3339(last.at) }
    }
}

/// How the pairings of a session went.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "Pairing")]
pub(super) struct PairingView {
    attempts: i64,
    last_error: Option<PairingErrorView>,
    last_qr_at: Option<Timestamp>,
}

/// Why and when a pairing failed.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "PairingError")]
pub(super) struct PairingErrorView {
    reason: String,
    at: Timestamp,
}

impl From<Pairing> for PairingView {
    fn from(pairing: Pairing) -> Self {
        let last_error = pairing
            .last_error
            .map(|error| PairingErrorView { reason: error.reason, at: rfc3339(error.at) });
        Self { attempts: pairing.attempts, last_error, last_qr_at: pairing.last_qr_at.map(rfc3339) }
    }
}

/// When a session came to belong to another account, and whose it was before.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "AccountChanged")]
pub(super) struct AccountChangedView {
    previous_phone_number: Option<String>,
    at: Timestamp,
}

impl From<AccountChanged> for AccountChangedView {
    fn from(changed: AccountChanged) -> Self {
        Self { previous_phone_number: changed.previous_phone_number, at: rfc3339(changed.at) }
    }
}

/// What views of sessions are made with.
#[derive(Clone, Debug)]
pub(in crate::http) struct Showing {
    renderer: Renderer,
    signatures: Signatures,
}

impl FromRef<HttpState> for Showing {
    fn from_ref(state: &HttpState) -> Self {
        Self { renderer: FromRef::from_ref(state), signatures: FromRef::from_ref(state) }
    }
}

impl Showing {
    /// The view for this caller, with the code as an image, and where it is as one, if there is one.
    pub(super) async fn session(&self, caller: &Principal, session: StatusView) -> SessionView {
        let (mut qr_image, mut qr_url) = (None, None);
        if let Some(code) = &session.qr {
            qr_image = image(code, Layout::default(), &self.renderer).await;
            qr_url = self.qr_url(caller, &session).await;
        }
        SessionView::of(session, qr_image, qr_url)
    }

    /// As with the image: one that cannot be made is logged, and is no error. It is the same for as long as
    /// the code is, so that a page that asks again and again does not load its image anew each time.
    async fn qr_url(&self, caller: &Principal, session: &StatusView) -> Option<String> {
        let until = session.qr_expires_at? + signatures::USUAL;
        let address = format!("/api/whatsapp/session/{}/qr.png", session.session_id);
        let signed = self.sign(caller, session, &address, until).await;
        signed
            .unwrap_or_else(|error| {
                let error: &dyn std::error::Error = &error;
                tracing::error!(error, "The address of a QR code could not be signed");
                None
            })
            .map(|(url, _)| url)
    }

    /// The address with its signature, and until when it is good.
    pub(super) async fn sign(
        &self,
        caller: &Principal,
        session: &StatusView,
        address: &str,
        until: UnixMillis,
    ) -> Result<Option<(String, Timestamp)>, Error> {
        let subject = Subject { method: "GET", address, session_made_at: session.created_at };
        let signed = self.signatures.sign(caller, subject, until).await?;
        Ok(signed.map(|it| (signed::with(address, &it.signature), rfc3339(it.expires_at))))
    }
}

impl SessionView {
    fn of(session: StatusView, qr_image: Option<String>, qr_url: Option<String>) -> Self {
        Self {
            session_id: session.session_id,
            status: session.status,
            message: session.message,
            qr: session.qr,
            qr_image,
            qr_url,
            user_id: session.user_id,
            created_at: rfc3339(session.created_at),
            updated_at: rfc3339(session.updated_at),
            is_connected: session.is_connected,
            needs_qr: session.needs_qr,
            is_loading: session.is_loading,
            has_error: session.has_error,
            phone_number: session.phone_number,
            push_name: session.push_name,
            loading_percent: session.loading_percent,
            qr_issued_at: session.qr_issued_at.map(rfc3339),
            qr_expires_at: session.qr_expires_at.map(rfc3339),
            qr_sequence: session.qr_sequence,
            reconnecting: session.reconnecting,
            since: rfc3339(session.since),
            next_attempt_at: session.next_attempt_at.map(rfc3339),
            last_disconnect: session.last_disconnect.map(Into::into),
            banned_until: session.banned_until.map(rfc3339),
            pairing: session.pairing.into(),
            account_changed: session.account_changed.map(Into::into),
            desired_state: session.desired_state,
            connected_at: session.connected_at.map(rfc3339),
            last_active_at: session.last_active_at.map(rfc3339),
            undecryptable_messages: session.undecryptable,
            is_notification: session.is_notification,
            ai_config: session.ai_config,
            migrated_to: session.handover.to,
            migrated_at: session.handover.at.map(rfc3339),
            migrated_from: session.handover.from,
            origin: session.origin,
            session_data: session.session_data.and_then(|json| serde_json::from_str(&json).ok()),
            webhook_auth: session.receiver_auth,
        }
    }
}

/// The code as a data URL. The contract: a code that cannot be rendered is logged, and is no error.
pub(super) async fn image(code: &str, layout: Layout, renderer: &Renderer) -> Option<String> {
    match renderer.render(code, Format::DataUrl, layout).await {
        Ok(url) => String::from_utf8(url.into()).ok(),
        Err(error) => {
            let error: &dyn std::error::Error = &error;
            tracing::error!(error, "A QR code could not be rendered");
            None
        }
    }
}
