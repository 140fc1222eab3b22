//! The key with which a caller asks for one thing once, however often he asks.

use axum::{
    http::{HeaderMap, HeaderName, HeaderValue},
    response::{IntoResponse, Response},
};

use super::{error::ApiError, problem::Problem};

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
/// Says that an earlier request has made what is answered.
const IDEMPOTENCY_REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");

/// The longest idempotency key.
const LONGEST_KEY: usize = 255;

/// An answer, marked where an earlier request with the same key has done what is answered.
pub(crate) fn once(answer: impl IntoResponse, replayed: bool) -> Response {
    let mut response = answer.into_response();
    if replayed {
        response.headers_mut().insert(IDEMPOTENCY_REPLAYED, HeaderValue::from_static("true"));
    }
    response
}

/// One header of 1 to 255 visible ASCII characters, or none.
pub(crate) fn idempotency_key(headers: &HeaderMap) -> Result<Option<String>, ApiError> {
    let mut keys = headers.get_all(IDEMPOTENCY_KEY).iter();
    let Some(key) = keys.next() else { return Ok(None) };
    let is_good = (1..=LONGEST_KEY).contains(&key.len())
        && key.as_bytes().iter().all(u8::is_ascii_graphic)
        && keys.next().is_none();
    let key = key.to_str().ok().filter(|_| is_good);
    key.map(|key| Some(key.to_owned())).ok_or_else(|| {
        let detail = format!("must be one header of 1 to {LONGEST_KEY} visible ASCII characters");
        Problem::invalid_field("Idempotency-Key", detail).into()
    })
}
