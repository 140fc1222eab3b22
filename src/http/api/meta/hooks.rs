//! What Meta calls: a challenge, and events. No token: a request proves itself, or is refused.

use axum::{
    extract::{FromRequestParts, Query, Request, State},
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header, request::Parts},
    response::{IntoResponse, Response},
};
use entity::id::OrganizationId;

use crate::{
    clock::Clock,
    http::{
        HttpState, Limits, body,
        client::Client,
        code::Code,
        error::ApiError,
        limit::{Guess, Meters, Places, Share},
        path::parameter,
        problem::Problem,
    },
    service::{
        self, Meta, Thing,
        meta::{Door, Place, Refusal, Signature},
    },
};

const SIGNATURE: HeaderName = HeaderName::from_static("x-hub-signature-256");

/// Whose bodies share places.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Lane {
    /// On the addresses that many share.
    Shared,
    /// On an organization's own.
    Own(OrganizationId),
}

/// Bodies that are in memory at a time.
///
/// What Meta may send is not bounded by address: it calls for everybody from a few. An address that has shown too
/// much that opens nothing waits longer, and is still listened to (see [`Places`]).
#[derive(Clone, Debug)]
pub(crate) struct Posts(Places<Lane>);

impl Posts {
    pub(crate) fn new(limits: &Limits, clock: &Clock) -> Self {
        Self(Places::new(limits.meta_posts, limits.turn, clock.clone()))
    }
}

/// `{callbackKey}`, or an address without it.
#[derive(Debug)]
pub(super) struct At(Place);

impl FromRequestParts<HttpState> for At {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &HttpState) -> Result<Self, ApiError> {
        // What is not UTF-8 is nobody's address.
        let key = parameter(parts, state, "callbackKey").await;
        Ok(Self(match key {
            Ok(key) if key.is_empty() => Place::Shared,
            key => Place::Own(key.unwrap_or_default()),
        }))
    }
}

/// The challenge, said back. Parameters that are not known are Meta's affair.
#[tracing::instrument(name = "http.meta.challenge", skip_all)]
pub(super) async fn challenge(
    State(meta): State<Meta>,
    State(meters): State<Meters>,
    At(place): At,
    request: Request,
) -> Result<Response, ApiError> {
    let client = request.extensions().get::<Client>().map(|client| client.0);
    // Tokens are not to be guessed. Events are not refused for it, whoever shares Meta's way to us.
    meters.may_try(Guess::VerifyToken, client)?;
    let pairs = Query::<Vec<(String, String)>>::try_from_uri(request.uri());
    let pairs = pairs.map(|Query(pairs)| pairs).unwrap_or_default();
    let one = |name: &str| {
        let mut found =
            pairs.iter().filter(|(key, _)| key == name).map(|(_, value)| value.as_str());
        found.next().filter(|_| found.next().is_none()).unwrap_or_default()
    };
    let said = (one("hub.mode"), one("hub.verify_token"), one("hub.challenge"));
    let door = meta.door(&place).await.map_err(awaited)?;
    match meta.challenge(&door, said, client).await {
        Ok(challenge) => {
            let plain = HeaderValue::from_static("text/plain; charset=utf-8");
            let fresh = HeaderValue::from_static("no-store");
            let headers = [(header::CONTENT_TYPE, plain), (header::CACHE_CONTROL, fresh)];
            Ok((headers, challenge).into_response())
        }
        Err(error) => {
            if matches!(error, service::Error::Meta(Refusal::Challenge)) {
                meters.opened_nothing(Guess::VerifyToken, client)?;
            }
            Err(awaited(error).into())
        }
    }
}

/// 200 when it is on disk.
#[tracing::instrument(name = "http.meta.receive", skip_all)]
pub(super) async fn receive(
    State(meta): State<Meta>,
    State(meters): State<Meters>,
    State(limits): State<Limits>,
    State(Posts(posts)): State<Posts>,
    At(place): At,
    request: Request,
) -> Result<StatusCode, ApiError> {
    let client = request.extensions().get::<Client>().map(|client| client.0);
    // What opens nothing is counted, and not looked at any less: one owner's wrong secret is no other's fault.
    let counted = |error: service::Error| -> ApiError {
        match error {
            error @ (service::Error::Meta(Refusal::Signature | Refusal::OwnSignature)
            | service::Error::NotFound(Thing::MetaAccount)) => meters
                .opened_nothing(Guess::Secret, client)
                .map_or_else(Into::into, |()| error.into()),
            error => awaited(error).into(),
        }
    };
    let (parts, body) = request.into_parts();
    let signature = signature(&parts.headers).ok_or_else(|| {
        let refusal = match &place {
            Place::Shared => Refusal::Signature,
            Place::Own(_) => Refusal::OwnSignature,
        };
        counted(refusal.into())
    })?;
    if body::is_encoded(&parts.headers) {
        // What is signed is what is on the wire.
        return Err(Problem::of(Code::UnsupportedMediaType).into());
    }
    let door = meta.door(&place).await.map_err(&counted)?;
    let lane = match &door {
        Door::Nobody => return Err(counted(service::Error::NotFound(Thing::MetaAccount))),
        Door::Shared => (Lane::Shared, Share::Most),
        Door::Own(row) => (Lane::Own(row.organization_id.clone()), Share::Quarter),
    };
    let has_failed = meters.has_failed(Guess::Secret, client);
    let turn = posts.enter(lane, client, has_failed).await?;
    let bytes = turn.read(body::whole(body, limits.meta_body, limits.body_time)).await?;
    for owner in meta.receive(&door, &signature, &bytes).await.map_err(&counted)? {
        turn.was_good(owner);
    }
    Ok(StatusCode::OK)
}

/// The one signature of a request.
fn signature(headers: &HeaderMap) -> Option<Signature> {
    let mut all = headers.get_all(SIGNATURE).iter();
    let header = all.next().filter(|_| all.next().is_none())?;
    Signature::parse(header.as_bytes())
}

/// Whatever is wrong with the database, it is ours: Meta is to send it again.
fn awaited(error: service::Error) -> service::Error {
    match error {
        service::Error::Store(error) => service::Error::StoreUnavailable(error),
        error => error,
    }
}
