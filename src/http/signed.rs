//! Addresses that are opened by a signature instead of a token.
//!
//! `…/qr.png?size=300&signed=…`: the signature is the last parameter, and is over all that stands before it. It is
//! read here and taken off, so that nothing behind sees it, and no log does.

use std::{collections::HashMap, sync::Arc};

use axum::{
    extract::{FromRequestParts, MatchedPath, Request},
    http::{Method, Uri, uri::PathAndQuery},
};
use entity::{id::SessionId, state::Role};

use super::path::SessionPath;

/// The parameter that has the signature.
pub(super) const PARAMETER: &str = "signed";

/// Which routes a signature opens, by path, and the role that its holder has there.
#[derive(Clone, Debug)]
pub(super) struct Signable(Arc<HashMap<&'static str, Role>>);

impl From<HashMap<&'static str, Role>> for Signable {
    fn from(routes: HashMap<&'static str, Role>) -> Self {
        Self(Arc::new(routes))
    }
}

/// What a signed request shows.
#[derive(Clone, Debug)]
pub(super) struct Shown {
    pub(super) session: SessionId,
    /// Path and query without the signature.
    pub(super) address: String,
    pub(super) signature: String,
    pub(super) role: Role,
}

/// An address with this signature.
pub(super) fn with(address: &str, signature: &str) -> String {
    let separator = if address.contains('?') { '&' } else { '?' };
    format!("{address}{separator}{PARAMETER}={signature}")
}

/// Takes the signature off a request for a route that takes one. None, and an untouched request, when there is no
/// such route or no signature.
pub(super) async fn take(signable: &Signable, request: &mut Request) -> Option<Shown> {
    let role = *signable.0.get(request.extensions().get::<MatchedPath>()?.as_str())?;
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return None;
    }
    let (address, signature) = split(request.uri())?;
    let (mut parts, body) = std::mem::take(request).into_parts();
    let session = SessionPath::from_request_parts(&mut parts, &()).await;
    parts.uri = without(&parts.uri, &address).unwrap_or(parts.uri);
    *request = Request::from_parts(parts, body);
    let SessionPath(session) = session.ok()?;
    Some(Shown { session, address, signature, role })
}

/// The address without the signature, and the signature.
fn split(uri: &Uri) -> Option<(String, String)> {
    let query = uri.query()?;
    let (rest, last) = query.rsplit_once('&').map_or(("", query), |(rest, last)| (rest, last));
    let signature = last.strip_prefix(PARAMETER)?.strip_prefix('=')?.to_owned();
    let path = uri.path();
    Some((if rest.is_empty() { path.to_owned() } else { format!("{path}?{rest}") }, signature))
}

fn without(uri: &Uri, address: &str) -> Option<Uri> {
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = Some(PathAndQuery::try_from(address).ok()?);
    Uri::from_parts(parts).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_signature_is_the_last_parameter_and_no_other() {
        let split = |uri: &'static str| split(&Uri::from_static(uri));
        let some = |address: &str| Some((address.to_owned(), "x.y".to_owned()));
        assert_eq!(split("/qr?signed=x.y"), some("/qr"));
        assert_eq!(split("/qr?size=3&signed=x.y"), some("/qr?size=3"));
        assert_eq!(split("/qr?signed=a&signed=x.y"), some("/qr?signed=a"));
        for none in ["/qr", "/qr?size=3", "/qr?signed=x.y&size=3", "/qr?unsigned=x.y", "/qr?signed"]
        {
            assert_eq!(split(none), None, "{none}");
        }
        assert_eq!(with("/qr", "x.y"), "/qr?signed=x.y");
        assert_eq!(with("/qr?size=3", "x.y"), "/qr?size=3&signed=x.y");
    }
}
