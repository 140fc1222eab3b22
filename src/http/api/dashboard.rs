//! `GET /dashboard`: a page that shows sessions and their QR codes.
//!
//! The page itself holds nothing and needs no token: it asks for one, and then asks the API like any
//! other client. It loads nothing from anywhere else, and its policy forbids it to.

use axum::{
    http::{HeaderName, header},
    response::IntoResponse,
};

const PAGE: &str = include_str!("../dashboard/index.html");
const STYLE: &str = include_str!("../dashboard/style.css");
const SCRIPT: &str = include_str!("../dashboard/app.js");

/// What the browser lets the page do: talk to us, and show the images that we send.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src data:; \
                      connect-src 'self'; base-uri 'none'; form-action 'none'; \
                      frame-ancestors 'none'";

/// The page.
pub(super) async fn page() -> impl IntoResponse {
    part("text/html; charset=utf-8", PAGE)
}

pub(super) async fn style() -> impl IntoResponse {
    part("text/css; charset=utf-8", STYLE)
}

pub(super) async fn script() -> impl IntoResponse {
    part("text/javascript; charset=utf-8", SCRIPT)
}

pub(super) fn part(kind: &'static str, text: &'static str) -> impl IntoResponse {
    part_under(POLICY, kind, text)
}

/// The same, where the browser may let it do something else.
pub(super) fn part_under(
    policy: &'static str,
    kind: &'static str,
    text: &'static str,
) -> impl IntoResponse {
    let headers: [(HeaderName, &str); 4] = [
        (header::CONTENT_TYPE, kind),
        (header::CONTENT_SECURITY_POLICY, policy),
        (header::REFERRER_POLICY, "no-referrer"),
        // Another version of the daemon has another page.
        (header::CACHE_CONTROL, "no-cache"),
    ];
    (headers, text)
}
