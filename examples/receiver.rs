//! A receiver of wagate's webhooks. What is to be copied is [`verify`]; the rest shows how it is used: over
//! the bytes as they came, before anything reads them, and each event once.
//!
//! ```text
//! WAGATE_WEBHOOK_SECRET=whsec_... cargo run --example receiver [PORT]
//! ```
//!
//! While a secret is rotated, give both, with a blank between them.

#![expect(clippy::print_stdout, reason = "an example talks to whoever runs it")]

use std::{
    collections::{HashSet, VecDeque},
    error::Error,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use axum::{
    Router,
    body::Bytes,
    extract::{DefaultBodyLimit, State},
    http::{HeaderMap, StatusCode},
    routing::post,
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use ring::hmac;
use serde_json::Value;
use tokio::net::TcpListener;

/// How old, or how far ahead, a request may be.
const TOLERANCE: Duration = Duration::from_mins(5);

/// The largest body that is read.
const MOST: usize = 1 << 20;

/// How many events are remembered, as one may come again. A database would do it for good.
const REMEMBERED: usize = 10_000;

/// Why a request is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    /// A header is missing, or cannot be read.
    Headers,
    /// No signature fits.
    Signature,
    /// It is too old, or from the future.
    Timestamp,
}

/// The key that a secret is, as it was shown: `whsec_` and base64.
pub(crate) fn key(secret: &str) -> Option<hmac::Key> {
    let bytes = STANDARD.decode(secret.strip_prefix("whsec_")?).ok()?;
    Some(hmac::Key::new(hmac::HMAC_SHA256, &bytes))
}

/// Whether `body` was signed with one of `keys`, not long before or after `now`: since 1970.
pub(crate) fn verify(
    keys: &[hmac::Key],
    headers: &HeaderMap,
    body: &[u8],
    now: Duration,
) -> Result<(), Refused> {
    let header = |name: &str| headers.get(name)?.to_str().ok().filter(|value| !value.is_empty());
    let (Some(id), Some(at), Some(signatures)) =
        (header("webhook-id"), header("webhook-timestamp"), header("webhook-signature"))
    else {
        return Err(Refused::Headers);
    };
    // Digits alone: what was signed is the text.
    let seconds = Some(at).filter(|at| at.bytes().all(|byte| byte.is_ascii_digit()));
    let seconds: u64 = seconds.and_then(|at| at.parse().ok()).ok_or(Refused::Headers)?;
    let content = [format!("{id}.{at}.").as_bytes(), body].concat();
    let tags: Vec<_> = signatures
        .split(' ')
        .filter_map(|signature| STANDARD.decode(signature.strip_prefix("v1,")?).ok())
        .collect();
    // `ring` compares in constant time.
    let fits = |key: &hmac::Key| tags.iter().any(|tag| hmac::verify(key, &content, tag).is_ok());
    if !keys.iter().any(fits) {
        return Err(Refused::Signature);
    }
    if Duration::from_secs(seconds).abs_diff(now) > TOLERANCE {
        return Err(Refused::Timestamp);
    }
    Ok(())
}

/// What the receiver knows.
#[derive(Clone)]
struct Receiver {
    keys: Arc<[hmac::Key]>,
    seen: Arc<Mutex<Seen>>,
}

/// Ids of the last events.
#[derive(Default)]
struct Seen {
    ids: HashSet<String>,
    in_order: VecDeque<String>,
}

impl Receiver {
    /// Whether an event is new.
    fn is_new(&self, id: &str) -> bool {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if !seen.ids.insert(id.to_owned()) {
            return false;
        }
        seen.in_order.push_back(id.to_owned());
        if seen.in_order.len() > REMEMBERED
            && let Some(oldest) = seen.in_order.pop_front()
        {
            seen.ids.remove(&oldest);
        }
        true
    }
}

async fn receive(State(receiver): State<Receiver>, headers: HeaderMap, body: Bytes) -> StatusCode {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    if let Err(refused) = verify(&receiver.keys, &headers, &body, now) {
        eprintln!("refused: {refused:?}");
        return match refused {
            Refused::Headers => StatusCode::BAD_REQUEST,
            Refused::Signature | Refused::Timestamp => StatusCode::UNAUTHORIZED,
        };
    }
    // Before the event is remembered: what cannot be read is to come again.
    let Ok(event) = serde_json::from_slice::<Value>(&body) else { return StatusCode::BAD_REQUEST };
    let id = headers.get("webhook-id").and_then(|id| id.to_str().ok()).unwrap_or_default();
    if receiver.is_new(id) {
        // Put it into a queue here and answer at once: the sender waits for a few seconds only.
        println!("{} {}", event["type"].as_str().unwrap_or_default(), event["sequence"]);
    }
    StatusCode::NO_CONTENT
}

/// Receives what is signed with one of `secrets`, for as long as the process lives.
pub(crate) async fn serve(
    listener: TcpListener,
    secrets: &str,
) -> Result<(), Box<dyn Error + Send + Sync>> {
    let keys: Option<Vec<_>> = secrets.split_whitespace().map(key).collect();
    let keys = keys.filter(|keys| !keys.is_empty());
    let keys = keys.ok_or("WAGATE_WEBHOOK_SECRET must hold secrets as they were shown")?;
    let receiver = Receiver { keys: keys.into(), seen: Arc::default() };
    let router = Router::new()
        .fallback(post(receive))
        .layer(DefaultBodyLimit::max(MOST))
        .with_state(receiver);
    Ok(axum::serve(listener, router).await?)
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error + Send + Sync>> {
    let port = std::env::args().nth(1).map_or(Ok(8090), |port| port.parse())?;
    let listener = TcpListener::bind(("127.0.0.1", port)).await?;
    println!("listening on http://{}", listener.local_addr()?);
    serve(listener, &std::env::var("WAGATE_WEBHOOK_SECRET").unwrap_or_default()).await
}
