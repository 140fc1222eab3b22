//! The media host: encrypted blobs over HTTP, for whoever has the token of the account's route.
//!
//! What people send with their messages is handed to whoever names it: it is encrypted. Through the
//! WebSocket's address it is found, too, as clients that have no session know one address only.
//!
//! Clients are told of it by `media_conn`, as of WhatsApp's own hosts, and ask for
//! `https://HOST/PATH?auth=…&token=…`. This one speaks plain HTTP: a client under test has to be
//! told so.

use std::collections::HashMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Query, State};
use axum::http::{StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use futures_util::{StreamExt as _, stream};
use serde::Deserialize;
use tokio::net::TcpListener;
use wacore_binary::Node;
use wacore_binary::builder::NodeBuilder;

use super::Hub;
use super::files::Original;
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
    /// It begins, and nothing follows.
    Stuck,
    /// It never ends.
    Endless,
    /// It is said to be elsewhere.
    Elsewhere,
}

#[derive(Clone, Debug)]
pub(crate) struct Blob {
    pub(crate) bytes: Bytes,
    pub(crate) trouble: Option<Trouble>,
    /// Whether it is only for who has the token of the account's route.
    pub(crate) needs_route: bool,
}

/// All blobs by their paths.
#[derive(Debug)]
pub(crate) struct Media {
    blobs: Mutex<HashMap<String, Blob>>,
    /// What was sent with messages, by their ids: what phones have.
    pub(crate) originals: Mutex<HashMap<String, Original>>,
    /// Paths that were asked for, with what was shown.
    asked: Mutex<Vec<String>>,
    /// Files that are being handed over at this moment, and the most there were.
    serving: Arc<Serving>,
    address: OnceLock<SocketAddr>,
    auth: String,
}

impl Default for Media {
    fn default() -> Self {
        let auth = format!("route{:016x}", rand::random::<u64>());
        Self {
            blobs: Mutex::default(),
            originals: Mutex::default(),
            asked: Mutex::default(),
            serving: Arc::default(),
            address: OnceLock::new(),
            auth,
        }
    }
}

impl Media {
    /// Keeps a blob; returns the path it is found at.
    pub(crate) fn keep(&self, number: u64, bytes: Vec<u8>, trouble: Option<Trouble>) -> String {
        self.keep_blob(number, Blob { bytes: bytes.into(), trouble, needs_route: true })
    }

    pub(crate) fn keep_blob(&self, number: u64, blob: Blob) -> String {
        let path = format!("/v/t62.7118-24/{number}_{:08x}.enc", rand::random::<u32>());
        locked(&self.blobs).insert(path.clone(), blob);
        path
    }

    /// Forgets a blob, as the real hosts do after some weeks.
    pub(crate) fn forget(&self, path: &str) -> bool {
        locked(&self.blobs).remove(path).is_some()
    }

    /// What was asked for: paths and queries.
    pub(crate) fn asked(&self) -> Vec<String> {
        locked(&self.asked).clone()
    }

    /// The most files that were being handed over at once.
    pub(crate) fn most_serving(&self) -> usize {
        self.serving.most.load(Ordering::SeqCst)
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> Option<SocketAddr> {
        self.address.get().copied()
    }
}

/// How many files are being handed over.
#[derive(Debug, Default)]
struct Serving {
    now: AtomicUsize,
    most: AtomicUsize,
}

/// One that is.
struct Entered(Arc<Serving>);

impl Serving {
    fn enter(self: &Arc<Self>) -> Entered {
        let now = self.now.fetch_add(1, Ordering::SeqCst) + 1;
        self.most.fetch_max(now, Ordering::SeqCst);
        Entered(Arc::clone(self))
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        self.0.now.fetch_sub(1, Ordering::SeqCst);
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
    locked(&hub.media.asked).push(uri.to_string());
    let blob = locked(&hub.media.blobs).get(uri.path()).cloned();
    let needs_route = blob.as_ref().is_none_or(|blob| blob.needs_route);
    if needs_route && blob.is_some() && shown.auth.as_deref() != Some(&*hub.media.auth)
        || shown.token.is_none()
    {
        return refusal(401);
    }
    let Some(blob) = blob else { return refusal(404) };
    let guard = hub.media.serving.enter();
    hub.counters.media_bytes.add(blob.bytes.len());
    match blob.trouble {
        Some(Trouble::Status(status)) => refusal(status),
        Some(Trouble::Slow(millis)) => slowly(blob.bytes, Duration::from_millis(millis), guard),
        Some(Trouble::Stuck) => {
            let begun = blob.bytes.slice(..blob.bytes.len() / 2);
            let rest = stream::once(async { Ok::<_, Infallible>(begun) });
            let never = stream::pending();
            Body::from_stream(rest.chain(never).map(move |piece| {
                let _serving = &guard;
                piece
            }))
            .into_response()
        }
        Some(Trouble::Endless) => {
            let piece = Bytes::from(vec![7; 64 * 1024]);
            Body::from_stream(stream::repeat_with(move || {
                let _serving = &guard;
                Ok::<_, Infallible>(piece.clone())
            }))
            .into_response()
        }
        // Where a client goes that follows whoever it asks; there it would find the file.
        Some(Trouble::Elsewhere) => {
            let path = hub.media.keep_blob(hub.number(), Blob { trouble: None, ..blob });
            let to = format!("{path}?token=elsewhere");
            (StatusCode::FOUND, [(axum::http::header::LOCATION, to)]).into_response()
        }
        None => blob.bytes.into_response(),
    }
}

fn refusal(status: u16) -> Response {
    StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR).into_response()
}

fn slowly(bytes: Bytes, takes: Duration, guard: Entered) -> Response {
    let size = bytes.len().div_ceil(PIECES as usize).max(1);
    let pieces = stream::unfold((bytes, guard), move |(mut left, guard)| async move {
        if left.is_empty() {
            return None;
        }
        tokio::time::sleep(takes / PIECES).await;
        let piece = left.split_to(size.min(left.len()));
        Some((Ok::<_, Infallible>(piece), (left, guard)))
    });
    Body::from_stream(pieces).into_response()
}
