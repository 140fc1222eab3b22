//! What came back from a receiver, or why nothing did.

use std::{
    error::Error,
    io,
    net::SocketAddr,
    time::{Duration, UNIX_EPOCH},
};

use entity::UnixMillis;
use reqwest::{
    RequestBuilder, Response, StatusCode,
    header::{DATE, HeaderMap, RETRY_AFTER},
};
use tokio::time::Instant;

use super::client::{Blocked, NotFound};

/// Bytes of an answer's body that are read, and kept.
const BODY: usize = 16 << 10;

/// An answer, or none.
#[derive(Clone, Debug)]
pub struct Reply {
    pub took: Duration,
    /// Who answered. When nobody did, who was called: all that it may have been, if a name has several addresses.
    pub peers: Vec<SocketAddr>,
    pub status: Option<u16>,
    /// Why it is no success, in a stable word.
    pub error: Option<&'static str>,
    /// How long the receiver wants to be left alone.
    pub retry_after: Option<Duration>,
    /// The beginning of the body.
    pub body: Option<String>,
}

impl Reply {
    /// None: the request was not made.
    pub(super) fn refused(error: &'static str) -> Self {
        Self {
            took: Duration::ZERO,
            peers: Vec::new(),
            status: None,
            error: Some(error),
            retry_after: None,
            body: None,
        }
    }

    pub(super) const fn is_success(&self) -> bool {
        self.error.is_none()
    }

    /// Whether somebody was called and has not answered.
    pub(super) fn is_unanswered(&self) -> bool {
        let nobody = ["blocked_address", "dns_error", "request_invalid", "url_refused"];
        self.status.is_none() && self.error.is_some_and(|error| !nobody.contains(&error))
    }

    /// Who answered, or was called, in words.
    pub fn peer(&self) -> Option<String> {
        let peers: Vec<_> = self.peers.iter().map(ToString::to_string).collect();
        (!peers.is_empty()).then(|| peers.join(", "))
    }

    /// Whether trying again is of no use: what is called must not be.
    pub(super) fn is_final(&self) -> bool {
        matches!(self.error, Some("blocked_address" | "url_refused"))
    }

    /// Whether the receiver, or what stands before it, has too much to do.
    pub(super) fn wants_less(&self) -> bool {
        self.retry_after.is_some() || matches!(self.status, Some(429 | 502 | 503 | 504))
    }
}

/// Makes a request, which has its own time limit. The time is `now` when it is answered.
///
/// Whether it succeeded is decided by the status alone: a body that never ends changes nothing, and is
/// not read to its end.
pub(super) async fn fetch(request: RequestBuilder, now: impl Fn() -> UnixMillis) -> Reply {
    let begun = Instant::now();
    let mut response = match request.send().await {
        Ok(response) => response,
        Err(error) => {
            return Reply { took: begun.elapsed(), ..Reply::refused(word(&error)) };
        }
    };
    let status = response.status();
    let peers = response.remote_addr().into_iter().collect();
    let retry_after = retry_after(response.headers(), now());
    let body = beginning(&mut response).await;
    Reply {
        took: begun.elapsed(),
        peers,
        status: Some(status.as_u16()),
        error: word_of_status(status),
        retry_after,
        body: (!body.is_empty()).then(|| text(&body)),
    }
}

/// The beginning of the body, as far as it comes before the time is over.
async fn beginning(response: &mut Response) -> Vec<u8> {
    let mut body = Vec::new();
    while body.len() < BODY {
        match response.chunk().await {
            Ok(Some(chunk)) => body.extend_from_slice(&chunk),
            Ok(None) | Err(_) => break,
        }
    }
    body.truncate(BODY);
    body
}

/// Bytes as text that every database keeps, no longer than [`BODY`]: what stands for a byte that is no
/// text has three.
fn text(body: &[u8]) -> String {
    let mut text = String::from_utf8_lossy(body).replace('\0', "\u{fffd}");
    text.truncate(text.floor_char_boundary(BODY));
    text
}

fn word_of_status(status: StatusCode) -> Option<&'static str> {
    match status {
        status if status.is_success() => None,
        StatusCode::GONE => Some("gone"),
        status if status.is_redirection() => Some("redirect_not_followed"),
        _ => Some("http_status"),
    }
}

/// What the receiver asks for, in seconds or as a date (RFC 9110, section 10.2.3).
fn retry_after(headers: &HeaderMap, now: UnixMillis) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if !text.is_empty() && text.bytes().all(|it| it.is_ascii_digit()) {
        // One that has no room in a number is as long as any.
        return Some(Duration::from_secs(text.parse().unwrap_or(u64::MAX)));
    }
    // As the receiver's own clock has it, if it says what that shows.
    let at = httpdate::parse_http_date(text).ok()?;
    let date = headers.get(DATE).and_then(|date| date.to_str().ok());
    let theirs = date.and_then(|date| httpdate::parse_http_date(date).ok());
    let ours = || UNIX_EPOCH + now.since(UnixMillis(0));
    at.duration_since(theirs.unwrap_or_else(ours)).ok()
}

/// Why nothing came back, in a stable word.
fn word(error: &reqwest::Error) -> &'static str {
    let mut cause: Option<&(dyn Error + 'static)> = Some(error);
    let mut found = None;
    while let Some(error) = cause {
        found = word_of(error).or(found);
        // What an I/O error wraps is not its source, but its source's source is.
        let wrapped = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        cause = wrapped.map(|it| it as &(dyn Error + 'static)).or_else(|| error.source());
    }
    match found {
        Some(word) => word,
        None if error.is_timeout() && error.is_connect() => "connect_timeout",
        None if error.is_timeout() => "timeout",
        None if error.is_connect() => "connect_failed",
        None if error.is_builder() => "request_invalid",
        None => "protocol_error",
    }
}

fn word_of(error: &(dyn Error + 'static)) -> Option<&'static str> {
    if error.is::<Blocked>() {
        return Some("blocked_address");
    }
    if error.is::<NotFound>() {
        return Some("dns_error");
    }
    if error.is::<rustls::Error>() {
        return Some("tls_error");
    }
    // Closed in the middle of an answer, or before it.
    if error.downcast_ref::<hyper::Error>().is_some_and(hyper::Error::is_incomplete_message) {
        return Some("connection_reset");
    }
    match error.downcast_ref::<io::Error>()?.kind() {
        io::ErrorKind::ConnectionRefused => Some("connection_refused"),
        io::ErrorKind::ConnectionReset
        | io::ErrorKind::ConnectionAborted
        | io::ErrorKind::BrokenPipe
        | io::ErrorKind::UnexpectedEof => Some("connection_reset"),
        io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => Some("unreachable"),
        io::ErrorKind::TimedOut => Some("connect_timeout"),
        _ => None,
    }
}
