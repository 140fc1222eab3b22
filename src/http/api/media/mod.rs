//! `…/messages/{messageId}/media`: what was sent with a message, as a file that was verified.

mod shape;

use std::{io, sync::Arc, time::Duration};

use axum::{
    body::Body,
    extract::State,
    http::{HeaderMap, HeaderValue, StatusCode, header, request::Parts},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use entity::id::{MessageId, SessionId};
use futures_util::stream;
use schemars::JsonSchema;
use serde::Serialize;

use self::shape::Shape;
pub(super) use self::shape::TYPES;
use super::{
    ok,
    qr::{LIFETIMES, SignedUrlView, known},
    status::Showing,
};
use crate::{
    http::{
        auth::Caller,
        body::Unneeded,
        code::Code,
        error::ApiError,
        fields::Parameters,
        path::{MessagePath, SessionPath},
        problem::Problem,
        range::Wanted,
        waiting::Waiting,
    },
    service::{
        self, Media, Sessions,
        media::{Description, MediaFile, Offer},
        signatures::USUAL,
    },
};

/// What is read of a file at a time.
const PIECE: u64 = 64 * 1024;

/// A page of its own, in which nothing runs and which loads nothing but itself.
const POLICY: &str =
    "sandbox; default-src 'none'; img-src 'self'; media-src 'self'; style-src 'unsafe-inline'";

/// What a message says of its media, and where it is.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "Media")]
pub(super) struct MediaView {
    /// As the sender has named it: nothing that a browser should believe.
    mimetype: Option<String>,
    /// Bytes, as the sender says.
    size: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    file_name: Option<String>,
    /// Pixels.
    #[serde(skip_serializing_if = "Option::is_none")]
    width: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    height: Option<u32>,
    /// How long it plays.
    #[serde(skip_serializing_if = "Option::is_none")]
    seconds: Option<u32>,
    /// Recorded to be heard, and no file.
    voice: bool,
    /// To be viewed once, on a phone: it is not handed out.
    view_once: bool,
    /// Where it is, for who shows a token; `null` when it is not to be had.
    url: Option<String>,
}

impl MediaView {
    pub(super) fn of(media: Description, session: &SessionId, message: &MessageId) -> Self {
        let is_there = media.is_somewhere() && !media.is_view_once;
        Self {
            mimetype: media.mimetype,
            size: media.size,
            file_name: media.file_name,
            width: media.width,
            height: media.height,
            seconds: media.seconds,
            voice: media.is_voice,
            view_once: media.is_view_once,
            url: is_there.then(|| address(session, message)),
        }
    }
}

fn address(session: &SessionId, message: &MessageId) -> String {
    format!("/api/whatsapp/session/{session}/messages/{message}/media")
}

/// 200 with the file, 206 with the part of it that was asked for, 304 when the caller has it.
#[tracing::instrument(name = "http.media.show", skip_all)]
pub(super) async fn show(
    State(media): State<Media>,
    State(waiting): State<Waiting>,
    Caller(caller): Caller,
    (SessionPath(session), MessagePath(id)): (SessionPath, MessagePath),
    parameters: Parameters,
    Parts { method, headers, .. }: Parts,
) -> Result<Response, ApiError> {
    parameters.finish()?;
    let offer = media.look(&caller, &session, &id).await?;
    // What has this hash is this file: nothing needs to be fetched to know.
    if let Some(response) = offer.sha256.and_then(|sha256| unchanged(&headers, &tag(&sha256))) {
        return Ok(response);
    }
    let file = Box::pin(waiting.poll(&caller, media.open(&offer))).await?;
    let tag = tag(file.sha256());
    if let Some(response) = unchanged(&headers, &tag) {
        return Ok(response);
    }
    let size = file.size();
    let wanted = Wanted::of(&method, &headers, &tag, size);
    let (status, first, end) = match wanted {
        Wanted::All => (StatusCode::OK, 0, size),
        Wanted::Part { first, last } => (StatusCode::PARTIAL_CONTENT, first, last + 1),
        Wanted::Nothing => {
            let problem = Problem::of(Code::RangeNotSatisfiable).with("size", size);
            let mut response = problem.into_response();
            let range = HeaderValue::try_from(format!("bytes */{size}"));
            insert(response.headers_mut(), header::CONTENT_RANGE, range);
            return Ok(response);
        }
    };
    let mut response = (status, body(file, first, end)).into_response();
    describe(response.headers_mut(), &offer, &id, &tag);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_LENGTH, (end - first).into());
    if status == StatusCode::PARTIAL_CONTENT {
        let range = HeaderValue::try_from(format!("bytes {first}-{}/{size}", end - 1));
        insert(headers, header::CONTENT_RANGE, range);
    }
    Ok(response)
}

/// Signs the address of a message's media, for tags that cannot show a token.
#[tracing::instrument(name = "http.media.sign", skip_all)]
pub(super) async fn sign(
    State(media): State<Media>,
    State(sessions): State<Sessions>,
    State(showing): State<Showing>,
    Caller(caller): Caller,
    (SessionPath(session), MessagePath(id)): (SessionPath, MessagePath),
    parameters: Parameters,
    Unneeded(mut body): Unneeded,
) -> Result<impl IntoResponse, ApiError> {
    parameters.finish()?;
    let lifetime = body.number("expiresIn", LIFETIMES).flatten();
    body.finish()?;
    let lifetime = lifetime.and_then(|it| u64::try_from(it).ok()).map(Duration::from_secs);

    media.look(&caller, &session, &id).await?;
    let view = sessions.find(&caller, &session).await?;
    let until = sessions.now() + lifetime.unwrap_or(USUAL);
    let signed = showing.sign(&caller, &view, &address(&session, &id), until).await?;
    // Whoever asks over HTTP has a token.
    let (url, expires_at) = signed.ok_or(service::Error::Unauthenticated)?;
    Ok(ok(SignedUrlView { url, expires_at }))
}

/// The answer for who has it already.
fn unchanged(headers: &HeaderMap, tag: &str) -> Option<Response> {
    let has = known(headers).iter().any(|known| *known == "*" || *known == tag);
    has.then(|| {
        let mut response = StatusCode::NOT_MODIFIED.into_response();
        cacheable(response.headers_mut(), tag);
        response
    })
}

/// The file from one byte to before another, piece by piece as it is read.
fn body(file: Arc<MediaFile>, first: u64, end: u64) -> Body {
    let pieces = stream::try_unfold(first, move |at| {
        let file = Arc::clone(&file);
        async move {
            if at >= end {
                return Ok::<_, io::Error>(None);
            }
            let length = usize::try_from(PIECE.min(end - at)).unwrap_or_default();
            let piece: Bytes = file.read(at, length).await?;
            if piece.is_empty() {
                return Err(io::Error::other("the file is shorter than it was"));
            }
            let next = at + piece.len() as u64;
            Ok(Some((piece, next)))
        }
    });
    Body::from_stream(pieces)
}

/// A strong tag: the same tag is the same bytes.
fn tag(sha256: &[u8; 32]) -> String {
    format!("\"{}\"", service::text::hex(sha256))
}

fn describe(headers: &mut HeaderMap, offer: &Offer, id: &MessageId, tag: &str) {
    let Shape { content_type, disposition } = Shape::of(&offer.media, id);
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    insert(headers, header::CONTENT_DISPOSITION, HeaderValue::try_from(disposition));
    headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    cacheable(headers, tag);
}

/// It never changes, and may be kept; but whoever shows it again asks whether it still may.
fn cacheable(headers: &mut HeaderMap, tag: &str) {
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("private, no-cache"));
    headers.insert(header::VARY, HeaderValue::from_static("authorization"));
    insert(headers, header::ETAG, HeaderValue::try_from(tag));
}

/// Visible ASCII, all of it: nothing here can fail to be a header.
fn insert<E>(headers: &mut HeaderMap, name: header::HeaderName, value: Result<HeaderValue, E>) {
    if let Ok(value) = value {
        headers.insert(name, value);
    }
}
