//! One download over HTTP, read by a thread: from hosts that WhatsApp has named and from no other.

use std::{
    io::{self, Read},
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use async_trait::async_trait;
use bytes::{Buf as _, Bytes};
use tokio::{runtime::Handle, time::Instant};
use tokio_util::sync::CancellationToken;
use wacore::net::StreamingHttpResponse;
use whatsapp_rust::{
    anyhow,
    http::{HttpClient, HttpRequest, HttpResponse},
};

use super::{super::http::Http, fetch::Notes};

/// How long a host may be silent.
const SILENCE: Duration = Duration::from_secs(20);

/// What the library downloads one file through.
#[derive(Debug)]
pub(super) struct Stream {
    pub(super) http: Arc<Http>,
    /// Names of hosts, with a port where there is one.
    pub(super) hosts: Vec<String>,
    /// Bytes of a body.
    pub(super) limit: u64,
    pub(super) deadline: Instant,
    pub(super) stop: CancellationToken,
    pub(super) runtime: Handle,
    pub(super) notes: Arc<Notes>,
}

impl Stream {
    /// Whether this is an address at one of the hosts. The library has made it of a host and a path; the path
    /// is what the sender of a message has written.
    fn allows(&self, url: &str) -> bool {
        let Ok(url) = url.parse::<url::Url>() else { return false };
        let Some(host) = url.host_str() else { return false };
        let host = match url.port() {
            Some(port) => format!("{host}:{port}"),
            None => host.to_owned(),
        };
        url.scheme() == "https"
            && url.username().is_empty()
            && url.password().is_none()
            && self.hosts.contains(&host)
    }
}

#[async_trait]
impl HttpClient for Stream {
    async fn execute(&self, _request: HttpRequest) -> Result<HttpResponse, anyhow::Error> {
        // The library asks so only those that do not stream.
        anyhow::bail!("media is read as it comes")
    }

    fn supports_streaming(&self) -> bool {
        true
    }

    fn execute_streaming(
        &self,
        request: HttpRequest,
    ) -> Result<StreamingHttpResponse, anyhow::Error> {
        anyhow::ensure!(self.allows(&request.url), "no address at a media host of WhatsApp");
        let asking = async {
            tokio::select! {
                () = self.stop.cancelled() => anyhow::bail!("the daemon is stopping"),
                answered = tokio::time::timeout_at(
                    self.deadline.min(Instant::now() + SILENCE),
                    self.http.open(&request.url),
                ) => Ok(answered??),
            }
        };
        let response = self.runtime.block_on(asking)?;
        let status_code = response.status().as_u16();
        let body = Body {
            response,
            chunk: Bytes::new(),
            left: self.limit,
            deadline: self.deadline,
            stop: self.stop.clone(),
            runtime: self.runtime.clone(),
            notes: Arc::clone(&self.notes),
        };
        Ok(StreamingHttpResponse { status_code, body: Box::new(body) })
    }
}

/// A body as it comes. It blocks its thread for no longer than it may be silent.
struct Body {
    response: reqwest::Response,
    chunk: Bytes,
    left: u64,
    deadline: Instant,
    stop: CancellationToken,
    runtime: Handle,
    notes: Arc<Notes>,
}

impl Read for Body {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.chunk.is_empty() {
            let Self { response, deadline, stop, runtime, .. } = self;
            let next = async {
                tokio::select! {
                    () = stop.cancelled() => Err(io::Error::other("the daemon is stopping")),
                    chunk = tokio::time::timeout_at(
                        (*deadline).min(Instant::now() + SILENCE),
                        response.chunk(),
                    ) => match chunk {
                        Err(_) => Err(io::Error::other("it takes too long")),
                        Ok(chunk) => {
                            chunk.map_err(|error| io::Error::other(error.without_url()))
                        }
                    },
                }
            };
            let Some(chunk) = runtime.block_on(next)? else {
                self.notes.delivered.store(true, Ordering::Relaxed);
                return Ok(0);
            };
            if chunk.len() as u64 > self.left {
                self.notes.too_long.store(true, Ordering::Relaxed);
                return Err(io::Error::other("longer than it may be"));
            }
            self.left -= chunk.len() as u64;
            self.chunk = chunk;
        }
        let count = self.chunk.len().min(buffer.len());
        self.chunk.copy_to_slice(&mut buffer[..count]);
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn no_address_is_asked_that_is_not_at_one_of_the_hosts() {
        let stream = Stream {
            http: Arc::new(Http::default()),
            hosts: vec!["mmg.whatsapp.net".to_owned(), "127.0.0.1:81".to_owned()],
            limit: 1,
            deadline: Instant::now(),
            stop: CancellationToken::new(),
            runtime: Handle::current(),
            notes: Arc::default(),
        };
        for url in ["https://mmg.whatsapp.net/v/1.enc?a=b?token=c", "https://127.0.0.1:81/x"] {
            assert!(stream.allows(url), "{url}");
        }
        for url in [
            "http://mmg.whatsapp.net/v/1.enc",
            "https://mmg.whatsapp.net@evil.test/x",
            "https://mmg.whatsapp.net.evil.test/x",
            "https://mmg.whatsapp.net:8443/x",
            "https://a:b@mmg.whatsapp.net/x",
            "https://127.0.0.1/x",
            "https://127.0.0.1:8181/x",
            "https://evil.test/mmg.whatsapp.net",
            "file:///etc/passwd",
            "",
        ] {
            assert!(!stream.allows(url), "{url}");
        }
    }
}
