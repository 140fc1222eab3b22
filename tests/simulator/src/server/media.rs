//! The media host: encrypted blobs over HTTP, for whoever has the token of the account's route.
//!
//! Clients are told of it by `media_conn`, as of WhatsApp's own hosts, and ask for
//! `https://HOST/PATH?auth=…&token=…`. This one speaks plain HTTP: a client under test has to be
//! told so.

use std::collections::HashMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Query, State};
use axum::http::{StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use serde::Deserialize;
use tokio::net::TcpListener;
use wacore_binary::Node;
use wacore_binary::builder::NodeBuilder;

use super::Hub;
use crate::fault::Fault;
use crate::{Error, locked};

/// Pieces in which a slow blob is handed over.
const PIECES: u32 = 10;

/// What goes wrong with one blob.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Trouble {
    /// It is not there, or not to be had.
    Status(u16),
    /// It takes so many milliseconds.
    Slow(u64),
}

#[derive(Clone, Debug)]
struct Blob {
    bytes: Bytes,
    trouble: Option<Trouble>,
}

/// All blobs by their paths.
#[derive(Debug)]
pub(crate) struct Media {
    blobs: Mutex<HashMap<String, Blob>>,
    address: OnceLock<SocketAddr>,
    auth: String,
}

impl Default for Media {
    fn default() -> Self {
        let auth = format!("route{:016x}", rand::random::<u64>());
        Self { blobs: Mutex::default(), address: OnceLock::new(), auth }
    }
}

impl Media {
    /// Keeps a blob; returns the path it is found at.
    pub(crate) fn keep(&self, number: u64, bytes: Vec<u8>, trouble: Option<Trouble>) -> String {
        let path = format!("/v/t62.7118-24/{number}_{:08x}.enc", rand::random::<u32>());
        let blob = Blob { bytes: bytes.into(), trouble };
        locked(&self.blobs).insert(path.clone(), blob);
        path
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> Option<SocketAddr> {
        self.address.get().copied()
    }
}

#[derive(Deserialize)]
struct Credentials {
    auth: Option<String>,
    token: Option<String>,
}

impl Hub {
    /// Opens the media host, on the address of the WebSocket and a port of its own.
    pub(crate) async fn open_media(self: &Arc<Self>) -> Result<(), Error> {
        let address = SocketAddr::new(self.options.listen.ip(), 0);
        let listener = TcpListener::bind(address).await.map_err(Error::Listen)?;
        let address = listener.local_addr().map_err(Error::Listen)?;
        self.media.address.set(address).ok();
        let routes = Router::new().fallback(serve).with_state(Arc::clone(self));
        self.spawn(tracing::info_span!("media", %address), async move {
            if let Err(error) = axum::serve(listener, routes).await {
                tracing::error!(%error, "the media host ended");
            }
        });
        Ok(())
    }

    /// `<media_conn>`: the host, and what to show it.
    pub(crate) fn media_conn(&self) -> Option<Node> {
        let host = NodeBuilder::new("host")
            .attr("hostname", self.media.address()?.to_string())
            .attr("type", "primary")
            .children([NodeBuilder::new("upload").build(), NodeBuilder::new("download").build()])
            .build();
        let conn = NodeBuilder::new("media_conn")
            .attr("auth", self.media.auth.as_str())
            .attr("ttl", 21_600)
            .attr("auth_ttl", 21_600)
            .attr("max_buckets", 12)
            .children([host])
            .build();
        Some(conn)
    }
}

async fn serve(
    State(hub): State<Arc<Hub>>,
    uri: Uri,
    Query(shown): Query<Credentials>,
) -> Response {
    hub.counters.media_requests.one();
    let refuses = |fault: &Fault| matches!(fault, Fault::RefuseMedia { .. });
    if let Some(Fault::RefuseMedia { status }) = hub.faults.strike(None, refuses) {
        return refusal(status);
    }
    if shown.auth.as_deref() != Some(&*hub.media.auth) || shown.token.is_none() {
        return refusal(401);
    }
    let blob = locked(&hub.media.blobs).get(uri.path()).cloned();
    let Some(blob) = blob else { return refusal(404) };
    hub.counters.media_bytes.add(blob.bytes.len());
    match blob.trouble {
        Some(Trouble::Status(status)) => refusal(status),
        Some(Trouble::Slow(millis)) => slowly(blob.bytes, Duration::from_millis(millis)),
        None => blob.bytes.into_response(),
    }
}

fn refusal(status: u16) -> Response {
    StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR).into_response()
}

fn slowly(bytes: Bytes, takes: Duration) -> Response {
    let size = bytes.len().div_ceil(PIECES as usize).max(1);
    let pieces = stream::unfold(bytes, move |mut left| async move {
        if left.is_empty() {
            return None;
        }
        tokio::time::sleep(takes / PIECES).await;
        let piece = left.split_to(size.min(left.len()));
        Some((Ok::<_, Infallible>(piece), left))
    });
    Body::from_stream(pieces).into_response()
}
