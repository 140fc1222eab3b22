//! The JSON body of a request.

use std::time::Duration;

use axum::{
    body::{Body, BodyDataStream, HttpBody},
    extract::{FromRef, FromRequest, Request},
    http::{HeaderMap, header},
};
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use serde_json::{Map, Value};

use super::{Limits, code::Code, error::ApiError, fields::Fields, problem::Problem};
use crate::service::FieldError;

/// How much of a body that is too large is still taken, and for how long.
const DISCARD_BYTES: usize = 8 << 20;
const DISCARD_TIME: Duration = Duration::from_secs(2);

/// A body that is a small JSON object. No body at all is an empty object.
#[derive(Debug)]
pub(crate) struct JsonObject(pub(crate) Fields);

/// The same for what needs none: also what says that it is JSON and is nothing is an empty object, as clients say so of
/// every request.
#[derive(Debug)]
pub(crate) struct Unneeded(pub(crate) Fields);

/// The same, as large as a message may be.
#[derive(Debug)]
pub(crate) struct LargeJsonObject(pub(crate) Fields);

/// The same, or a table: what comes as `text/csv` is an object whose member `csv` it is.
#[derive(Debug)]
pub(crate) struct LargeJsonOrTable(pub(crate) Fields);

impl<S> FromRequest<S> for JsonObject
where
    S: Send + Sync,
    Limits: FromRef<S>,
{
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        let limits = Limits::from_ref(state);
        read(request, limits.small_body.min(limits.large_body), limits.body_time).await.map(Self)
    }
}

impl<S> FromRequest<S> for Unneeded
where
    S: Send + Sync,
    Limits: FromRef<S>,
{
    type Rejection = ApiError;

    async fn from_request(mut request: Request, state: &S) -> Result<Self, ApiError> {
        if request.body().is_end_stream() && Kind::of(request.headers()) == Kind::Json {
            request.headers_mut().remove(header::CONTENT_TYPE);
        }
        JsonObject::from_request(request, state).await.map(|JsonObject(fields)| Self(fields))
    }
}

impl<S> FromRequest<S> for LargeJsonObject
where
    S: Send + Sync,
    Limits: FromRef<S>,
{
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        let limits = Limits::from_ref(state);
        read(request, limits.large_body, limits.body_time).await.map(Self)
    }
}

impl<S> FromRequest<S> for LargeJsonOrTable
where
    S: Send + Sync,
    Limits: FromRef<S>,
{
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        if is_encoded(request.headers())
            || essence(request.headers()).is_none_or(|it| it != "text/csv")
        {
            return LargeJsonObject::from_request(request, state).await.map(|it| Self(it.0));
        }
        let limits = Limits::from_ref(state);
        let table = whole(request.into_body(), limits.large_body, limits.body_time).await?;
        let Ok(table) = std::str::from_utf8(&table) else {
            let fault = FieldError::new("csv", "must be UTF-8");
            return Err(Problem::invalid(vec![fault]).into());
        };
        Ok(Self(Fields::new(Map::from_iter([("csv".to_owned(), table.into())]))))
    }
}

/// The same, unread: for what is signed as it came. [`Posted::members`] reads it.
#[derive(Debug)]
pub(crate) struct Posted(pub(crate) Bytes);

impl Posted {
    /// Reads it, once it is known that it may be.
    pub(crate) async fn read(request: Request, limits: &Limits) -> Result<Self, ApiError> {
        read_bytes(request, limits.large_body, limits.body_time).await.map(Self)
    }

    /// The members of the JSON object that it is. No body at all is an empty object.
    pub(crate) fn members(&self) -> Result<Map<String, Value>, ApiError> {
        if self.0.is_empty() { Ok(Map::new()) } else { members(&self.0) }
    }
}

/// A body as it came, whatever is in it.
pub(crate) async fn whole(body: Body, limit: usize, time: Duration) -> Result<Bytes, ApiError> {
    tokio::time::timeout(time, bytes(body, limit))
        .await
        .map_err(|_| Problem::of(Code::RequestTimeout))?
}

/// Whether what is on the wire is something else than the body.
pub(crate) fn is_encoded(headers: &HeaderMap) -> bool {
    headers
        .get(header::CONTENT_ENCODING)
        .is_some_and(|encoding| !encoding.as_bytes().eq_ignore_ascii_case(b"identity"))
}

async fn read(request: Request, limit: usize, time: Duration) -> Result<Fields, ApiError> {
    let body = read_bytes(request, limit, time).await?;
    if body.is_empty() { Ok(Fields::new(Map::new())) } else { object(&body) }
}

async fn read_bytes(request: Request, limit: usize, time: Duration) -> Result<Bytes, ApiError> {
    let (parts, body) = request.into_parts();
    let kind = Kind::of(&parts.headers);
    if kind == Kind::Other {
        return Err(Problem::of(Code::UnsupportedMediaType).into());
    }
    let body = whole(body, limit, time).await?;
    match kind {
        Kind::Unsaid if body.is_empty() => Ok(body),
        // What says that it is JSON, and is nothing, is malformed.
        Kind::Json if body.is_empty() => object(&body).map(|_| body),
        Kind::Json => Ok(body),
        Kind::Unsaid | Kind::Other => Err(Problem::of(Code::UnsupportedMediaType).into()),
    }
}

/// What a body says it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Json,
    /// It does not say.
    Unsaid,
    Other,
}

impl Kind {
    fn of(headers: &HeaderMap) -> Self {
        if is_encoded(headers) {
            return Self::Other;
        }
        if !headers.contains_key(header::CONTENT_TYPE) {
            return Self::Unsaid;
        }
        let Some(essence) = essence(headers) else { return Self::Other };
        let is_json = essence == "application/json"
            || essence.strip_prefix("application/").is_some_and(|it| it.ends_with("+json"));
        if is_json { Self::Json } else { Self::Other }
    }
}

/// The type that a body says it is of, without its parameters; None if it does not say, or not in a way that can be read.
fn essence(headers: &HeaderMap) -> Option<String> {
    let kind = headers.get(header::CONTENT_TYPE)?.to_str().ok()?;
    Some(kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase())
}

async fn bytes(body: Body, limit: usize) -> Result<Bytes, ApiError> {
    let stated = usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX);
    let mut body = body.into_data_stream();
    if stated <= limit
        && let Some(read) = counted(&mut body, limit).await?
    {
        return Ok(read);
    }
    tokio::time::timeout(DISCARD_TIME, discard(body)).await.ok();
    let detail = format!("the body is too large: at most {limit} bytes are read");
    Err(Problem::new(Code::BodyTooLarge, detail).into())
}

/// Reads a body, or none if it turns out to be too long.
async fn counted(body: &mut BodyDataStream, limit: usize) -> Result<Option<Bytes>, ApiError> {
    let mut read = BytesMut::new();
    while let Some(chunk) = body.next().await {
        let chunk = chunk.map_err(|_| Problem::new(Code::BadRequest, "the body broke off"))?;
        if read.len() + chunk.len() > limit {
            return Ok(None);
        }
        read.extend_from_slice(&chunk);
    }
    Ok(Some(read.freeze()))
}

/// Takes the rest of a body that is refused, within reason: a client that is cut off while it sends
/// may never read why.
async fn discard(mut body: BodyDataStream) {
    let mut discarded = 0;
    while let Some(Ok(chunk)) = body.next().await {
        discarded += chunk.len();
        if discarded > DISCARD_BYTES {
            return;
        }
    }
}

fn object(body: &[u8]) -> Result<Fields, ApiError> {
    members(body).map(Fields::new)
}

fn members(body: &[u8]) -> Result<Map<String, Value>, ApiError> {
    let malformed = |detail: String| {
        let mut problem = Problem::of(Code::MalformedJson);
        problem.errors.push(FieldError { pointer: String::new(), detail });
        ApiError::from(problem)
    };
    // The message names line and column, and repeats nothing of the body.
    match serde_json::from_slice(body) {
        Ok(Value::Object(members)) => Ok(members),
        Ok(_) => Err(malformed("must be a JSON object".to_owned())),
        Err(error) => Err(malformed(error.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn json_is_known_by_its_type() {
        let kind = |value: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(value));
            Kind::of(&headers)
        };
        assert_eq!(kind("application/json"), Kind::Json);
        assert_eq!(kind("Application/JSON; charset=utf-8"), Kind::Json);
        assert_eq!(kind("application/merge-patch+json"), Kind::Json);
        assert_eq!(kind("text/json"), Kind::Other);
        assert_eq!(kind("application/x-www-form-urlencoded"), Kind::Other);
        assert_eq!(Kind::of(&HeaderMap::new()), Kind::Unsaid);
    }

    #[tokio::test]
    async fn a_body_without_a_stated_length_is_cut_off_too() {
        let endless =
            futures_util::stream::repeat_with(|| Ok::<_, std::io::Error>(vec![b' '; 100]));
        let outcome = bytes(Body::from_stream(endless), 1000).await;
        let Err(ApiError::Request(problem)) = outcome else { panic!("it was read") };
        assert_eq!(problem.code, Code::BodyTooLarge);
    }

    proptest! {
        #[test]
        fn no_bytes_are_too_strange(body in proptest::collection::vec(any::<u8>(), 0..200)) {
            if let Err(error) = object(&body) {
                let ApiError::Request(problem) = error else { panic!("not the caller's fault?") };
                prop_assert_eq!(problem.code, Code::MalformedJson);
            }
        }
    }
}
