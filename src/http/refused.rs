//! What the HTTP library refuses by itself gets a problem document, too.
//!
//! A request whose first line or headers cannot be read never becomes a request: hyper answers it with a bare status and
//! hangs up, and has no hook for that. So the connection's bytes pass through here, and what is such an answer is replaced
//! on its way. It is told from ours by what it lacks (a request's id), and from the content of an answer by where it
//! stands: content that begins as an answer does is remembered, and then nothing is replaced on that connection any more.
//!
//! One case is left: an answer that is still being written when the next request, sent without waiting for it, turns out
//! to be unreadable. There hyper's bare status stays.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use axum::{body::Body, http::HeaderValue, response::Response};
use bytes::Bytes;
use futures_util::FutureExt as _;
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Sleep, sleep},
};

use super::{
    code::Code,
    cors::{self, Origins},
    edge, elder,
    problem::Problem,
    request,
};

/// How any answer of HTTP/1 begins.
const BEGINNING: &[u8] = b"HTTP/1.";

/// How a client begins that knows, or takes for granted, that HTTP/2 is spoken.
const PREFACE: &[u8] = b"PRI * HTTP/2.0";

/// After a refusal what still comes is read for so long and so far, so that whoever is still sending reads the answer
/// before he is cut off.
const LINGER: Duration = Duration::from_secs(1);
const LINGER_BYTES: usize = 1 << 20;

/// Whether content of this connection's answers has begun as an answer does. Clones share it.
#[derive(Clone, Debug, Default)]
pub(super) struct Quoted(Arc<AtomicBool>);

impl Quoted {
    /// An answer whose content is looked at as it goes.
    pub(super) fn watch(&self, response: Response) -> Response<Watched> {
        response.map(|body| Watched { body, quoted: self.clone() })
    }
}

/// Content of an answer.
#[derive(Debug)]
pub(super) struct Watched {
    body: Body,
    quoted: Quoted,
}

impl HttpBody for Watched {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        if let Some(Ok(frame)) = &frame
            && frame.data_ref().is_some_and(|data| data.starts_with(BEGINNING))
        {
            self.quoted.0.store(true, Ordering::Relaxed);
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A connection on which hyper's own refusals are replaced.
#[derive(Debug)]
pub(super) struct Refusing<S> {
    inner: S,
    secure: bool,
    quoted: Quoted,
    /// What pages of all origins are told. Of whose page it was is not known of what could not be read.
    allowed: Option<HeaderValue>,
    /// Nothing was read yet.
    is_new: bool,
    /// What was written last is not yet written whole: what comes next goes on with it.
    is_amidst: bool,
    /// What is written instead, as far as it is not yet.
    instead: Bytes,
    /// After that, until when it is read on, and how much.
    linger: Option<(Pin<Box<Sleep>>, usize)>,
}

impl<S> Refusing<S> {
    pub(super) fn new(inner: S, secure: bool, quoted: Quoted, origins: &Origins) -> Self {
        Self {
            inner,
            secure,
            quoted,
            allowed: origins.allowed(None),
            is_new: true,
            is_amidst: false,
            instead: Bytes::new(),
            linger: None,
        }
    }

    /// Takes what hyper says for what we say, if it is a refusal of its own.
    fn replace(&mut self, said: &[u8]) -> bool {
        if self.is_amidst || self.quoted.0.load(Ordering::Relaxed) {
            return false;
        }
        let Some(code) = refusal(said) else { return false };
        self.instead = document(code, said, self.secure, self.allowed.clone());
        self.linger = Some((Box::pin(sleep(LINGER)), LINGER_BYTES));
        true
    }

    fn wrote(&mut self, written: usize, of: usize) {
        // Nothing comes between the parts of what is written in several.
        self.is_amidst = written < of;
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Refusing<S> {
    fn poll_instead(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.instead.is_empty() {
            let written = ready!(Pin::new(&mut self.inner).poll_write(cx, &self.instead))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            drop(self.instead.split_to(written));
        }
        Poll::Ready(Ok(()))
    }

    /// Reads and forgets, for a while.
    fn poll_linger(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some((sleep, left)) = &mut self.linger else { return Poll::Ready(()) };
        let mut bytes = [0; 4096];
        loop {
            if *left == 0 || sleep.as_mut().poll(cx).is_ready() {
                return Poll::Ready(());
            }
            let mut buffer = ReadBuf::new(&mut bytes);
            match ready!(Pin::new(&mut self.inner).poll_read(cx, &mut buffer)) {
                Ok(()) if !buffer.filled().is_empty() => {
                    *left = left.saturating_sub(buffer.filled().len());
                }
                Ok(()) | Err(_) => return Poll::Ready(()),
            }
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Refusing<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.inner).poll_read(cx, buffer))?;
        let read = &mut buffer.filled_mut()[before..];
        if self.is_new && !read.is_empty() {
            self.is_new = false;
            spoil_preface(read);
        }
        Poll::Ready(Ok(()))
    }
}

/// Has a client that speaks HTTP/2 unasked be told that it is not understood: hyper knows how such a one begins, and
/// says nothing, as others go on with it then. `PRI` is no method of anybody's.
fn spoil_preface(read: &mut [u8]) {
    let length = read.len().min(PREFACE.len());
    if length >= 4
        && read[..length] == PREFACE[..length]
        && let Some(first) = read.first_mut()
    {
        *first = 0;
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Refusing<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.replace(buffer) {
            return Poll::Ready(Ok(buffer.len()));
        }
        let written = ready!(Pin::new(&mut self.inner).poll_write(cx, buffer))?;
        self.wrote(written, buffer.len());
        Poll::Ready(Ok(written))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffers: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let all: usize = buffers.iter().map(|it| it.len()).sum();
        let first = buffers.iter().find(|it| !it.is_empty());
        if let Some(first) = first.filter(|it| it.len() == all)
            && self.replace(first)
        {
            return Poll::Ready(Ok(all));
        }
        let written = ready!(Pin::new(&mut self.inner).poll_write_vectored(cx, buffers))?;
        self.wrote(written, all);
        Poll::Ready(Ok(written))
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_instead(cx))?;
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_instead(cx))?;
        ready!(Pin::new(&mut self.inner).poll_shutdown(cx))?;
        self.poll_linger(cx).map(Ok)
    }
}

/// What hyper has refused, if this is a whole answer of its own.
fn refusal(said: &[u8]) -> Option<Code> {
    let head = said.strip_prefix(b"HTTP/1.1 ").or_else(|| said.strip_prefix(b"HTTP/1.0 "))?;
    let code = match head.get(..4)? {
        b"400 " => Code::BadRequest,
        b"414 " => Code::UriTooLong,
        b"431 " => Code::HeadersTooLarge,
        _ => return None,
    };
    let text = std::str::from_utf8(said).ok()?.to_ascii_lowercase();
    let is_bare = text.contains("\r\ncontent-length: 0\r\n") && !text.contains("\r\nx-request-id:");
    // One head, and nothing after it.
    (is_bare && text.find("\r\n\r\n") == Some(text.len() - 4)).then_some(code)
}

/// The answer that stands for it, with the time that is in it.
fn document(code: Code, said: &[u8], secure: bool, allowed: Option<HeaderValue>) -> Bytes {
    let id = request::new_id();
    let problem = match code {
        Code::BadRequest => {
            Problem::new(code, "the first line or a header of the request cannot be read")
        }
        code => Problem::of(code),
    };
    // Its address was not read, and may be one of those whose clients look for these.
    let problem = elder::told(problem, false);
    let mut response = problem.write(Response::new(Body::empty()), &id);
    request::name(response.headers_mut(), &id);
    edge::guard(response.headers_mut(), secure);
    cors::write(response.headers_mut(), allowed);
    let (parts, body) = response.into_parts();
    // It is in memory already.
    let body = axum::body::to_bytes(body, usize::MAX).now_or_never();
    let body = body.and_then(Result::ok).unwrap_or_default();
    tracing::info!(
        http.status = parts.status.as_u16(),
        request.id = id,
        "Refused what is no request"
    );

    let reason = parts.status.canonical_reason().unwrap_or_default();
    let mut answer = format!("HTTP/1.1 {} {reason}\r\n", parts.status.as_u16()).into_bytes();
    for (name, value) in &parts.headers {
        answer.extend([name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"].concat());
    }
    let date = said.split(|it| *it == b'\n').find(|it| it.starts_with(b"date: "));
    answer.extend(date.into_iter().flat_map(|line| [line, b"\n"].concat()));
    answer.extend(
        format!("content-length: {}\r\nconnection: close\r\n\r\n", body.len()).into_bytes(),
    );
    answer.extend(body);
    answer.into()
}

#[cfg(test)]
#[path = "refused_tests.rs"]
mod tests;
