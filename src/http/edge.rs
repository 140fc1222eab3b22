//! What stands between us and those who ask: proxies, browsers, and what browsers are told.

use axum::{
    extract::Request,
    http::{HeaderMap, HeaderName, HeaderValue, header},
    middleware::Next,
    response::Response,
};

use super::{client::Proxies, cors::Origins};

/// What the operator has put in front of the daemon.
#[derive(Clone, Debug, Default)]
pub struct Edge {
    pub proxies: Proxies,
    pub origins: Origins,
}

/// Marks a request that came over TLS.
#[derive(Clone, Copy, Debug)]
pub(super) struct Secure;

/// What browsers are told of every answer that says nothing else of its own: to guess no types, to
/// keep nothing, to run nothing in it and to show it in no frame, to tell nobody where they have been.
const USUAL: [(HeaderName, &str); 3] = [
    (header::CACHE_CONTROL, "no-store"),
    (header::CONTENT_SECURITY_POLICY, "default-src 'none'; frame-ancestors 'none'"),
    (header::REFERRER_POLICY, "no-referrer"),
];

/// A year, as is usual.
const HSTS: HeaderValue = HeaderValue::from_static("max-age=31536000");

/// Writes the headers that protect those who ask with a browser.
pub(super) async fn protect(request: Request, next: Next) -> Response {
    let secure = request.extensions().get::<Secure>().is_some();
    let mut response = next.run(request).await;
    guard(response.headers_mut(), secure);
    response
}

/// The same for what no request has come to.
pub(super) fn guard(headers: &mut HeaderMap, secure: bool) {
    for (name, value) in USUAL {
        headers.entry(name).or_insert(HeaderValue::from_static(value));
    }
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
    if secure {
        // Over plain HTTP it means nothing; behind a proxy it is the proxy's to say.
        headers.insert(header::STRICT_TRANSPORT_SECURITY, HSTS);
    }
}
