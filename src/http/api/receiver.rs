//! `/api/whatsapp/webhook/{sessionId}`: the events of a session that runs elsewhere.
//!
//! What is shown is looked at before a byte of the body is read. A signature is over the body, so there it is looked at
//! whether any can be good, and the body is read in one of few places. What opens nothing is counted, but does not stand
//! in the way of what does: one client whose secret is old must not cost those beside it their events.

use std::net::IpAddr;

use axum::{
    extract::{FromRef, FromRequestParts, Request, State},
    http::{HeaderMap, StatusCode, request::Parts},
    response::{IntoResponse, Response},
};
use entity::{
    id::SessionId,
    state::{ReceiverAuth, SessionStatus},
};
use schemars::JsonSchema;
use serde::Serialize;

use super::{ok, with};
use crate::{
    clock::Clock,
    event::payload::{Timestamp, rfc3339},
    http::{
        HttpState, Limits,
        body::Posted,
        client::Client,
        error::ApiError,
        fields::Parameters,
        idempotency::idempotency_key,
        limit::{Guess, Meters, Places, Share},
        path::SessionPath,
    },
    service::{
        self, External, Principal,
        external::{Admitted, Called, Outcome, Proof, Receipt},
    },
};

/// Where a secret may be shown beside the address.
pub(super) const SECRET_HEADERS: [&str; 2] = ["x-webhook-secret", "webhook-secret-key"];

/// The parameter of the address with the secret.
const PARAMETER: &str = "secret";

/// The longest secret that is looked at.
const LONGEST: usize = 256;

/// What became of an event.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "EventReceipt")]
pub(super) struct ReceiptView {
    session_id: SessionId,
    /// The event's name, as its client has it.
    event: String,
    /// It is in the feed now.
    recorded: bool,
    /// It was there before, or more than it: nothing has changed.
    duplicate: bool,
    /// Something newer is known of the session's state, which stays as it is.
    outdated: bool,
    /// Its number in the feed.
    sequence: Option<i64>,
    /// What the session is then.
    status: SessionStatus,
}

impl From<Receipt> for ReceiptView {
    fn from(receipt: Receipt) -> Self {
        let sequence = match receipt.outcome {
            Outcome::Recorded { seq } => Some(seq),
            Outcome::Duplicate | Outcome::Older | Outcome::Nothing => None,
        };
        Self {
            session_id: receipt.session_id,
            event: receipt.event,
            recorded: sequence.is_some(),
            duplicate: receipt.outcome == Outcome::Duplicate,
            outdated: receipt.outcome == Outcome::Older,
            sequence,
            status: receipt.status,
        }
    }
}

/// What is posted by whoever has proved nothing yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Lane {
    /// Signed events.
    Events,
    /// Reports of the status webhook.
    Reports,
}

impl Lane {
    pub(super) const fn with_share(self) -> (Self, Share) {
        (self, Share::Most)
    }
}

/// Bodies that are in memory at a time, of whoever has proved nothing yet.
#[derive(Clone, Debug)]
pub(crate) struct Posts(pub(super) Places<Lane>);

impl Posts {
    pub(crate) fn new(limits: &Limits, clock: &Clock) -> Self {
        Self(Places::new(limits.posts, limits.turn, clock.clone()))
    }
}

/// What bodies are read with.
#[derive(Clone, Debug)]
pub(super) struct Desk {
    pub(super) meters: Meters,
    pub(super) posts: Places<Lane>,
    pub(super) limits: Limits,
}

impl FromRef<HttpState> for Desk {
    fn from_ref(state: &HttpState) -> Self {
        let Posts(posts) = FromRef::from_ref(state);
        Self { meters: FromRef::from_ref(state), posts, limits: FromRef::from_ref(state) }
    }
}

/// 200; 202 for an event that is new and has no name here.
#[tracing::instrument(name = "http.receiver.receive", skip_all)]
pub(super) async fn receive(
    State(external): State<External>,
    State(desk): State<Desk>,
    SessionPath(id): SessionPath,
    Poster { proof, client, parameters }: Poster,
    request: Request,
) -> Result<Response, ApiError> {
    let key = idempotency_key(request.headers());
    let (admitted, body) = match &proof {
        Proof::Signature { timestamp, .. } => {
            // Nothing of this session can be signed so: its body needs no reading.
            counted(&desk.meters, client, external.may_sign(&id, *timestamp).await)?;
            let has_failed = desk.meters.has_failed(Guess::Secret, client);
            let place = desk.posts.enter(Lane::Events.with_share(), client, has_failed).await?;
            let body = place.read(Posted::read(request, &desk.limits)).await?;
            let admitted = external.admit(&proof, &id, &body.0).await;
            let admitted = counted(&desk.meters, client, admitted)?;
            if let Admitted::Session(row) = &admitted {
                place.was_good(row.organization_id.clone());
            }
            (admitted, body)
        }
        Proof::Token(_) | Proof::Secret(_) | Proof::Nothing => {
            let admitted = external.admit(&proof, &id, b"").await;
            let admitted = counted(&desk.meters, client, admitted)?;
            (admitted, Posted::read(request, &desk.limits).await?)
        }
    };
    parameters.finish()?;
    let key = key?;
    let members = body.members()?;
    // Who signs his requests numbers them.
    let called = match (key, &proof) {
        (Some(key), _) => Some(Called::Key(key)),
        (None, Proof::Signature { id, .. }) => Some(Called::Id(id.clone())),
        (None, _) => None,
    };
    let receipt = external.receive(admitted, &members, called).await?;
    let is_new = matches!(receipt.outcome, Outcome::Recorded { .. });
    let status = if is_new && !receipt.is_known { StatusCode::ACCEPTED } else { StatusCode::OK };
    Ok(with(status, ReceiptView::from(receipt)).into_response())
}

/// Where events may be posted, and how.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "Receiver")]
pub(super) struct ReceiverView {
    session_id: SessionId,
    /// How whoever posts proves that he may.
    webhook_auth: Option<ReceiverAuth>,
    status: SessionStatus,
    message: &'static str,
    timestamp: Timestamp,
}

#[tracing::instrument(name = "http.receiver.verify", skip_all)]
pub(super) async fn verify(
    State(external): State<External>,
    State(meters): State<Meters>,
    SessionPath(id): SessionPath,
    poster: Poster,
) -> Result<impl IntoResponse, ApiError> {
    let Poster { proof, client, parameters } = poster;
    let session = counted(&meters, client, external.verify(&proof, &id, b"").await)?;
    parameters.finish()?;
    Ok(ok(ReceiverView {
        session_id: session.session_id,
        webhook_auth: session.receiver_auth,
        status: session.status,
        message: "Events of this session are received here",
        timestamp: rfc3339(external.now()),
    }))
}

/// Counts what opened nothing.
fn counted<T>(
    meters: &Meters,
    client: Option<IpAddr>,
    admitted: Result<T, service::Error>,
) -> Result<T, ApiError> {
    if matches!(admitted, Err(service::Error::Unauthenticated)) {
        meters.opened_nothing(Guess::Secret, client)?;
    }
    Ok(admitted?)
}

/// Who posts, and what he shows for it.
#[derive(Debug)]
pub(super) struct Poster {
    proof: Proof,
    client: Option<IpAddr>,
    /// What else stands in the address.
    parameters: Parameters,
}

impl<S: Send + Sync> FromRequestParts<S> for Poster {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let mut parameters = Parameters::from_request_parts(parts, state).await?;
        let caller = parts.extensions.get::<Principal>().cloned();
        let client = parts.extensions.get::<Client>().map(|Client(address)| *address);
        let proof = proof(caller, &mut parameters, &parts.headers);
        Ok(Self { proof, client, parameters })
    }
}

/// What whoever posts shows: a token, a secret or a signature, the first of these that is there.
fn proof(caller: Option<Principal>, parameters: &mut Parameters, headers: &HeaderMap) -> Proof {
    let in_address = parameters.text(PARAMETER);
    if let Some(caller) = caller {
        return Proof::Token(caller);
    }
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let secret = in_address.or_else(|| secret_header(headers).map(ToOwned::to_owned));
    if let Some(secret) = secret.filter(|secret| secret.len() <= LONGEST) {
        return Proof::Secret(secret.into());
    }
    let timestamp = header("webhook-timestamp").and_then(|timestamp| timestamp.parse().ok());
    match (header("webhook-id"), timestamp, header("webhook-signature")) {
        (Some(id), Some(timestamp), Some(signatures)) if id.len() <= LONGEST => {
            Proof::Signature { id: id.to_owned(), timestamp, signatures: signatures.to_owned() }
        }
        _ => Proof::Nothing,
    }
}

/// The secret in a header.
pub(super) fn secret_header(headers: &HeaderMap) -> Option<&str> {
    SECRET_HEADERS.iter().find_map(|name| headers.get(*name)?.to_str().ok())
}
