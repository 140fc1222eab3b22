//! `GET /docs`: the OpenAPI document as a page, to read and to try. It is Swagger UI, as its makers build
//! it, from our own binary: see `docs/README.md` beside.
//!
//! Like the dashboard, the page holds nothing and needs no token; it asks for one, and then asks the
//! API like any other client.

use axum::{extract::State, http::header, response::IntoResponse};

use super::dashboard::part_under;
use crate::http::openapi::Document;

const PAGE: &str = include_str!("../docs/index.html");
const STYLE: &str = include_str!("../docs/style.css");
const SCRIPT: &str = include_str!("../docs/docs.js");
const LIBRARY: &str = include_str!("../docs/swagger-ui/swagger-ui-bundle.js");
const LIBRARY_STYLE: &str = include_str!("../docs/swagger-ui/swagger-ui.css");

/// As the dashboard's. Besides, Swagger UI shows an image or a sound that it was answered from memory, by a `blob:` address
/// of its own making.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src data: blob:; \
                      media-src blob:; connect-src 'self'; base-uri 'none'; form-action 'none'; \
                      frame-ancestors 'none'";

/// The document itself.
pub(super) async fn document(State(document): State<Document>) -> impl IntoResponse {
    let headers = [(header::CONTENT_TYPE, "application/json"), (header::CACHE_CONTROL, "no-cache")];
    (headers, document.0)
}

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

pub(super) async fn library() -> impl IntoResponse {
    part("text/javascript; charset=utf-8", LIBRARY)
}

pub(super) async fn library_style() -> impl IntoResponse {
    part("text/css; charset=utf-8", LIBRARY_STYLE)
}

fn part(kind: &'static str, text: &'static str) -> impl IntoResponse {
    part_under(POLICY, kind, text)
}
