//! `GET /api/whatsapp/session/{sessionId}/qr`: the code to scan, as an image, as text or as JSON.

use std::{ops::RangeInclusive, time::Duration};

use axum::{
    extract::State,
    http::{HeaderMap, HeaderValue, StatusCode, header, request::Parts},
    response::{IntoResponse, Response},
};
use entity::{id::SessionId, state::SessionStatus};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::json;

use super::{
    ok,
    status::{self, Showing},
};
use crate::{
    event::payload::{Timestamp, rfc3339},
    http::{
        accept::preferred, auth::Caller, body::Unneeded, code::Code as ProblemCode,
        error::ApiError, fields::Parameters, path::SessionPath, problem::Problem, waiting::Waiting,
    },
    qr::{Format, Layout, Renderer},
    service::{
        self, Sessions,
        sessions::{Code, NoCode, Qr},
        signatures::{LONGEST, USUAL},
    },
};

/// What the code is answered as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shape {
    Png,
    Svg,
    Text,
    Json,
}

impl Shape {
    /// By the suffix of the address, else by `Accept`.
    fn of(parts: &Parts) -> Option<Self> {
        match parts.uri.path().rsplit_once("/qr.").map(|(_, suffix)| suffix) {
            Some("png") => Some(Self::Png),
            Some("svg") => Some(Self::Svg),
            Some("txt") => Some(Self::Text),
            Some("json") => Some(Self::Json),
            _ => preferred(
                &parts.headers,
                &[
                    ("image/png", Self::Png),
                    ("image/svg+xml", Self::Svg),
                    ("text/plain", Self::Text),
                    ("application/json", Self::Json),
                ],
            ),
        }
    }

    const fn format(self) -> Format {
        match self {
            Self::Png => Format::Png,
            Self::Svg => Format::Svg,
            Self::Text => Format::Text,
            Self::Json => Format::DataUrl,
        }
    }

    const fn media_type(self) -> &'static str {
        match self {
            Self::Png => "image/png",
            Self::Svg => "image/svg+xml",
            Self::Text => "text/plain; charset=utf-8",
            Self::Json => "application/json",
        }
    }
}

#[tracing::instrument(name = "http.qr.show", skip_all)]
pub(super) async fn show(
    State(sessions): State<Sessions>,
    State(renderer): State<Renderer>,
    State(waiting): State<Waiting>,
    Caller(caller): Caller,
    SessionPath(id): SessionPath,
    mut parameters: Parameters,
    parts: Parts,
) -> Result<Response, ApiError> {
    let layout = layout(&mut parameters);
    let after = parameters.number("after", 0..=i64::MAX);
    let wait = waiting.parameter(&mut parameters);
    parameters.finish()?;
    let shape = Shape::of(&parts).ok_or_else(|| Problem::of(ProblemCode::NotAcceptable))?;

    let known = known(&parts.headers);
    let tag = |code: &Code| Renderer::etag(&code.qr, shape.format(), layout);
    let is_known = |code: &Code| known.iter().any(|known| *known == "*" || *known == tag(code));
    let is_old = |code: &Code| after.is_some_and(|after| code.sequence <= after);

    let qr = match wait {
        None => sessions.qr(&caller, &id).await?,
        Some(wait) => {
            let seen = |code: &Code| is_known(code) || is_old(code);
            waiting.poll(&caller, sessions.next_qr(&caller, &id, seen, wait)).await?
        }
    };
    match qr {
        Qr::Code(code) if is_known(&code) => Ok(unchanged(&tag(&code))),
        Qr::Code(code) if is_old(&code) => {
            Err(none(NoCode::Unchanged, SessionStatus::QrGenerated).into())
        }
        Qr::Code(code) => answer(&id, &code, shape, layout, &renderer).await,
        Qr::None { why: NoCode::Unchanged, .. } if !known.is_empty() => Ok(unchanged(known[0])),
        Qr::None { why, status } => Err(none(why, status).into()),
    }
}

/// Seconds that a signed address may be good.
pub(super) const LIFETIMES: RangeInclusive<i64> = 1..=LONGEST.as_secs().cast_signed();

/// The same limits, as fields are read.
pub(super) fn limits(range: RangeInclusive<u32>) -> RangeInclusive<i64> {
    i64::from(*range.start())..=i64::from(*range.end())
}

fn layout(parameters: &mut Parameters) -> Layout {
    let number = |number: Option<i64>| number.and_then(|number| u32::try_from(number).ok());
    let usual = Layout::default();
    Layout {
        size: number(parameters.number("size", limits(Layout::SIZES))).unwrap_or(usual.size),
        margin: number(parameters.number("margin", limits(Layout::MARGINS)))
            .unwrap_or(usual.margin),
    }
}

/// An address that opens without a token, and until when.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "SignedUrl")]
pub(super) struct SignedUrlView {
    /// Relative to the daemon's address.
    pub(super) url: String,
    pub(super) expires_at: Timestamp,
}

/// Signs the address of the code as an image.
#[tracing::instrument(name = "http.qr.sign", skip_all)]
pub(super) async fn sign(
    State(sessions): State<Sessions>,
    State(showing): State<Showing>,
    State(waiting): State<Waiting>,
    Caller(caller): Caller,
    SessionPath(id): SessionPath,
    parameters: Parameters,
    Unneeded(mut body): Unneeded,
) -> Result<impl IntoResponse, ApiError> {
    parameters.finish()?;
    let format = body.parsed("format", |word| match word {
        "png" | "svg" => Ok(word.to_owned()),
        _ => Err("must be `png` or `svg`"),
    });
    let mut query = Vec::new();
    for (name, limits) in [
        ("size", limits(Layout::SIZES)),
        ("margin", limits(Layout::MARGINS)),
        ("wait", 0..=waiting.longest()),
    ] {
        if let Some(Some(number)) = body.number(name, limits) {
            query.push(format!("{name}={number}"));
        }
    }
    let lifetime = body.number("expiresIn", LIFETIMES).flatten();
    body.finish()?;

    let session = sessions.find(&caller, &id).await?;
    let format = format.as_deref().unwrap_or("png");
    let query = if query.is_empty() { String::new() } else { format!("?{}", query.join("&")) };
    let address = format!("/api/whatsapp/session/{id}/qr.{format}{query}");
    let lifetime = lifetime.and_then(|it| u64::try_from(it).ok()).map(Duration::from_secs);
    let until = sessions.now() + lifetime.unwrap_or(USUAL);
    let signed = showing.sign(&caller, &session, &address, until).await?;
    // Whoever asks over HTTP has a token.
    let (url, expires_at) = signed.ok_or(service::Error::Unauthenticated)?;
    Ok(ok(SignedUrlView { url, expires_at }))
}

/// The entity tags that the caller has.
pub(super) fn known(headers: &HeaderMap) -> Vec<&str> {
    headers
        .get_all(header::IF_NONE_MATCH)
        .iter()
        .filter_map(|tags| tags.to_str().ok())
        .flat_map(|tags| tags.split(','))
        .map(|tag| tag.trim().trim_start_matches("W/"))
        .filter(|tag| !tag.is_empty())
        .collect()
}

/// A code to scan.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "Qr")]
pub(super) struct QrView {
    session_id: SessionId,
    /// What the code says.
    qr: String,
    /// A PNG, as a data URL. `null` when it could not be rendered.
    qr_image: Option<String>,
    issued_at: Option<Timestamp>,
    expires_at: Option<Timestamp>,
    /// Counts the codes of the session: give it as `after` to wait for the next.
    sequence: i64,
}

async fn answer(
    id: &SessionId,
    code: &Code,
    shape: Shape,
    layout: Layout,
    renderer: &Renderer,
) -> Result<Response, ApiError> {
    let body = if shape == Shape::Json {
        ok(QrView {
            session_id: id.clone(),
            qr: code.qr.clone(),
            qr_image: status::image(&code.qr, layout, renderer).await,
            issued_at: code.issued_at.map(rfc3339),
            expires_at: code.expires_at.map(rfc3339),
            sequence: code.sequence,
        })
        .into_response()
    } else {
        renderer.render(&code.qr, shape.format(), layout).await?.into_response()
    };
    let mut response = body;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(shape.media_type()));
    headers.insert("x-qr-sequence", code.sequence.into());
    for (name, at) in [("x-qr-issued-at", code.issued_at), ("x-qr-expires-at", code.expires_at)] {
        if let Some(at) = at.and_then(|at| HeaderValue::try_from(rfc3339(at).as_str()).ok()) {
            headers.insert(name, at);
        }
    }
    cacheable(headers, &Renderer::etag(&code.qr, shape.format(), layout));
    Ok(response)
}

/// 304: the caller has it already.
fn unchanged(tag: &str) -> Response {
    let mut response = StatusCode::NOT_MODIFIED.into_response();
    cacheable(response.headers_mut(), tag);
    response
}

/// A code may be kept, but must not be shown without asking whether it is still the one: it can be
/// used up at any moment, long before it expires.
fn cacheable(headers: &mut HeaderMap, tag: &str) {
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("private, no-cache"));
    headers.insert(header::VARY, HeaderValue::from_static("accept, authorization"));
    if let Ok(tag) = HeaderValue::try_from(tag) {
        headers.insert(header::ETAG, tag);
    }
}

fn none(why: NoCode, status: SessionStatus) -> Problem {
    Problem::new(ProblemCode::QrNotAvailable, why.sentence())
        .with("reason", why.word())
        .with("sessionStatus", json!(status))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_are_read_from_a_list() {
        let mut headers = HeaderMap::new();
        headers.insert(header::IF_NONE_MATCH, HeaderValue::from_static("\"a\", W/\"b\",, *"));
        assert_eq!(known(&headers), ["\"a\"", "\"b\"", "*"]);
    }
}
