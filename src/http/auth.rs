//! Who is asking: the bearer token of a request.

use std::net::IpAddr;

use axum::{
    extract::{FromRequestParts, Request, State},
    http::{HeaderMap, HeaderName, header, request::Parts},
    middleware::Next,
    response::{IntoResponse, Response},
};

use entity::state::Role;

use super::{
    client::Client,
    error::ApiError,
    limit::{Guess, Meters, Told},
    signed::{self, Shown, Signable},
};
use crate::service::{self, Organizations, Principal, Signatures, Tokens};

/// The organization that an operator acts in, by its id or its number; his token's own without it.
const ORGANIZATION: HeaderName = HeaderName::from_static("x-organization");

/// What is needed to tell who asks.
#[derive(Clone, Debug)]
pub(super) struct Doorkeeper {
    pub(super) tokens: Tokens,
    pub(super) signatures: Signatures,
    pub(super) signable: Signable,
    pub(super) organizations: Organizations,
    pub(super) meters: Meters,
}

/// Lets nobody pass without a valid token, nor more often than a token may, and says to the rest who it
/// is.
///
/// It surrounds all routes and the fallback, so that what exists is not told to strangers.
pub(super) async fn authenticate(
    State(doorkeeper): State<Doorkeeper>,
    mut request: Request,
    next: Next,
) -> Response {
    let client = request.extensions().get::<Client>().map(|client| client.0);
    // What is signed is that, whatever else it shows.
    let shown = signed::take(&doorkeeper.signable, &mut request).await;
    let identified = match &shown {
        Some(shown) => doorkeeper.recognize(shown, client).await,
        None => doorkeeper.identify(request.headers(), client).await,
    };
    let caller = match identified {
        Ok(caller) => caller,
        Err(error) => return error.into_response(),
    };
    // Before anything else is looked up for it: whatever a token asks for counts.
    let told = meter(&doorkeeper.meters, &caller);
    let mut response = if let Some(refused) = told.as_ref().and_then(Told::refused) {
        refused
    } else {
        let acts = match shown {
            Some(_) => Ok(caller),
            None => doorkeeper.place(caller, request.headers()).await,
        };
        match acts {
            Ok(caller) => {
                request.extensions_mut().insert(caller);
                next.run(request).await
            }
            Err(error) => error.into_response(),
        }
    };
    if let Some(told) = told {
        told.write(response.headers_mut());
    }
    response
}

/// One more request of this caller's token: what is left of how often it may ask. The log says which token it was.
pub(super) fn meter(meters: &Meters, caller: &Principal) -> Option<Told> {
    let token = caller.token_id.as_ref()?;
    tracing::Span::current().record("token.id", token.as_str());
    meters.of_token(token)
}

/// Who shows this secret. It is looked at whatever was shown from the same address before: 256 random bits are not
/// guessed, so nothing is gained by refusing a good token for a neighbour's bad ones. From where too much was shown that
/// opens nothing, the next that opens nothing is told to wait.
pub(super) async fn open(
    tokens: &Tokens,
    meters: &Meters,
    secret: &str,
    client: Option<IpAddr>,
) -> Result<Principal, ApiError> {
    let opened = tokens.authenticate(secret).await;
    if matches!(opened, Err(service::Error::Unauthenticated)) {
        meters.opened_nothing(Guess::Secret, client)?;
    }
    let mut caller = opened?;
    caller.address = client;
    Ok(caller)
}

/// Says who shows a token, and lets pass whoever shows none: the handler asks for something else then. What is not
/// written as our tokens are is none: clients have keys for others, too, and show them to everybody.
pub(super) async fn perhaps(
    State(doorkeeper): State<Doorkeeper>,
    request: Request,
    next: Next,
) -> Response {
    if bearer(request.headers()).is_some_and(Tokens::is_written_so) {
        authenticate(State(doorkeeper), request, next).await
    } else {
        next.run(request).await
    }
}

impl Doorkeeper {
    /// Who asks.
    async fn identify(
        &self,
        headers: &HeaderMap,
        client: Option<IpAddr>,
    ) -> Result<Principal, ApiError> {
        let secret = bearer(headers).ok_or(service::Error::Unauthenticated)?;
        open(&self.tokens, &self.meters, secret, client).await
    }

    /// The same in the organization that he asks for.
    async fn place(&self, caller: Principal, headers: &HeaderMap) -> Result<Principal, ApiError> {
        match headers.get(ORGANIZATION) {
            None => Ok(caller),
            // What is no text names no organization.
            Some(named) => {
                let named = named.to_str().unwrap_or_default();
                Ok(self.organizations.act_in(caller, named).await?)
            }
        }
    }

    /// Who shows a signed address. One that opens nothing counts as a token that opens nothing; one that opens
    /// something is let in whatever was shown from the same address before. It can be told by a look at the session and the
    /// signature, and cannot be guessed.
    async fn recognize(
        &self,
        shown: &Shown,
        client: Option<IpAddr>,
    ) -> Result<Principal, ApiError> {
        let Shown { session, address, signature, role } = shown;
        // A request for the head is one for what it is the head of.
        let opened = self.signatures.open(("GET", address), session, signature, *role).await;
        if matches!(opened, Err(service::Error::SignatureInvalid)) {
            self.meters.opened_nothing(Guess::Secret, client)?;
        }
        let mut caller = opened?;
        caller.address = client;
        Ok(caller)
    }
}

/// Lets nobody pass whose role is below the route's.
pub(super) async fn authorize(
    State(role): State<Role>,
    Caller(caller): Caller,
    request: Request,
    next: Next,
) -> Response {
    match caller.require(role) {
        Ok(()) => next.run(request).await,
        Err(error) => ApiError::from(error).into_response(),
    }
}

/// The same where something else may be shown: of a token that is, the role is what counts.
pub(super) async fn authorize_shown(
    State(role): State<Role>,
    request: Request,
    next: Next,
) -> Response {
    match request.extensions().get::<Principal>().map(|caller| caller.require(role)) {
        None | Some(Ok(())) => next.run(request).await,
        Some(Err(error)) => ApiError::from(error).into_response(),
    }
}

/// The secret in `Authorization: Bearer …`.
pub(super) fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, secret) = headers.get(header::AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    let secret = secret.trim();
    (scheme.eq_ignore_ascii_case("bearer") && !secret.is_empty()).then_some(secret)
}

/// The caller, once [`authenticate`] has let the request pass.
#[derive(Clone, Debug)]
pub(crate) struct Caller(pub(crate) Principal);

impl<S: Sync> FromRequestParts<S> for Caller {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        let caller = parts.extensions.get::<Principal>().cloned();
        caller.map(Self).ok_or_else(|| service::Error::Unauthenticated.into())
    }
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    #[test]
    fn only_bearer_tokens_count() {
        let secret = |value: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::AUTHORIZATION, HeaderValue::from_static(value));
            bearer(&headers).map(ToOwned::to_owned)
        };
        assert_eq!(secret("Bearer wag_x").as_deref(), Some("wag_x"));
        assert_eq!(secret("bearer  wag_x ").as_deref(), Some("wag_x"));
        for other in ["Basic dXNlcg==", "Bearer", "Bearer ", "wag_x", ""] {
            assert_eq!(secret(other), None, "{other}");
        }
    }
}
