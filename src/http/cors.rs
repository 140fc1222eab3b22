//! Pages of other origins that may call us from a browser: none, unless the operator names them.

use std::time::Duration;

use axum::{
    extract::{Request, State},
    http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header},
    middleware::Next,
    response::Response,
};
use tower_http::cors::{AllowOrigin, CorsLayer};

/// How long a browser may remember what it is allowed.
const REMEMBERED: Duration = Duration::from_mins(10);

/// Whose pages may call us.
#[derive(Clone, Debug, Default)]
pub enum Origins {
    #[default]
    None,
    /// Those of these origins, as browsers write them: `https://app.example.com`.
    Named(Vec<HeaderValue>),
    /// All: tokens are what counts, and browsers do not add them by themselves.
    Any,
}

/// The layer of a route that pages of all origins may call, as seed 000 has it.
pub(super) fn for_all() -> CorsLayer {
    CorsLayer::new()
        .allow_origin(AllowOrigin::any())
        .allow_methods([Method::POST, Method::OPTIONS])
        .allow_headers([
            header::AUTHORIZATION,
            header::CONTENT_TYPE,
            HeaderName::from_static("apikey"),
            HeaderName::from_static("idempotency-key"),
            HeaderName::from_static("webhook-secret-key"),
            HeaderName::from_static("x-client-info"),
            HeaderName::from_static("x-webhook-secret"),
        ])
        .max_age(REMEMBERED)
}

impl Origins {
    /// Those that are named; none stands for all.
    pub fn of<'a>(names: impl Iterator<Item = Option<&'a str>>) -> Self {
        let mut origins = Vec::new();
        for name in names {
            let Some(name) = name else { return Self::Any };
            origins.extend(HeaderValue::from_str(name));
        }
        if origins.is_empty() { Self::None } else { Self::Named(origins) }
    }

    /// What a page of this origin is told by an answer that comes about outside of the layer: the value of
    /// `access-control-allow-origin`.
    pub(super) fn allowed(&self, origin: Option<&HeaderValue>) -> Option<HeaderValue> {
        match self {
            Self::None => None,
            Self::Named(origins) => origin.filter(|it| origins.contains(it)).cloned(),
            Self::Any => Some(HeaderValue::from_static("*")),
        }
    }

    /// The layer that answers browsers; none where they are told nothing.
    pub(super) fn layer(&self) -> Option<CorsLayer> {
        let origins = match self {
            Self::None => return None,
            Self::Named(origins) => AllowOrigin::list(origins.iter().cloned()),
            Self::Any => AllowOrigin::any(),
        };
        let layer = CorsLayer::new()
            .allow_origin(origins)
            .allow_methods([Method::GET, Method::POST, Method::PATCH, Method::DELETE])
            .allow_headers([
                header::AUTHORIZATION,
                header::CONTENT_TYPE,
                header::IF_NONE_MATCH,
                HeaderName::from_static("idempotency-key"),
                HeaderName::from_static("last-event-id"),
                HeaderName::from_static("x-organization"),
                HeaderName::from_static("x-request-id"),
            ])
            .expose_headers([
                header::CONTENT_DISPOSITION,
                header::CONTENT_RANGE,
                header::ETAG,
                header::LOCATION,
                header::RETRY_AFTER,
                HeaderName::from_static("idempotency-replayed"),
                HeaderName::from_static("ratelimit"),
                HeaderName::from_static("ratelimit-policy"),
                HeaderName::from_static("x-qr-expires-at"),
                HeaderName::from_static("x-qr-issued-at"),
                HeaderName::from_static("x-qr-sequence"),
                HeaderName::from_static("x-ratelimit-limit"),
                HeaderName::from_static("x-ratelimit-remaining"),
                HeaderName::from_static("x-ratelimit-reset"),
                HeaderName::from_static("x-request-id"),
            ])
            .max_age(REMEMBERED);
        Some(layer)
    }
}

/// Lets pages read that their request was too large, which is said before the layer is come to.
pub(super) async fn tell(State(origins): State<Origins>, request: Request, next: Next) -> Response {
    let origin = request.headers().get(header::ORIGIN).cloned();
    let mut response = next.run(request).await;
    let is_refusal = matches!(
        response.status(),
        StatusCode::URI_TOO_LONG | StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE
    );
    if is_refusal {
        let allowed = origins.allowed(origin.as_ref());
        write(response.headers_mut(), allowed);
    }
    response
}

/// Writes what [`Origins::allowed`] says, unless the layer has.
pub(super) fn write(headers: &mut HeaderMap, allowed: Option<HeaderValue>) {
    let Some(allowed) = allowed else { return };
    if headers.contains_key(header::ACCESS_CONTROL_ALLOW_ORIGIN) {
        return;
    }
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, allowed);
    let exposed = HeaderValue::from_static("x-request-id");
    headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, exposed);
    headers.append(header::VARY, HeaderValue::from_static("origin"));
}
