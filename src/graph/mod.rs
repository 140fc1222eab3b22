//! Meta's Graph API: what is asked of it, and what it says.
//!
//! - `refusal.rs`: Meta's no, and whether it may be a yes later. `media.rs`: files. `hosts.rs`: where a token may be shown.
//!   `subscriptions.rs`: whether Meta tells an app anything.
//!
//! A request that may have arrived is never made again here: whoever asked is told that the outcome is not known. A token
//! is in one header, which nothing logs; no error repeats an address.

mod hosts;
mod media;
mod refusal;
mod subscriptions;

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use reqwest::{
    Method, RequestBuilder, Response, StatusCode,
    header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue},
    redirect,
};
use serde_json::{Value, json};

pub use self::{
    hosts::Hosts,
    media::{DownloadError, MediaInfo, sha256},
    refusal::{Refusal, Scope},
    subscriptions::Subscribed,
};

/// The longest answer of Meta's that is read, in bytes.
const LONGEST: usize = 256 * 1024;

/// Time to a connection.
const CONNECT: Duration = Duration::from_secs(10);

/// Time of one exchange.
pub const DEADLINE: Duration = Duration::from_secs(30);

/// The same, while a caller waits.
const PROMPT: Duration = Duration::from_secs(15);

/// Meta closes what idles; what we would write to meanwhile has an outcome that is not known.
const IDLE: Duration = Duration::from_secs(15);

/// The longest id that Meta gives a message.
const LONGEST_ID: usize = 250;

/// How the Graph API is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Without a slash at its end.
    pub url: String,
    /// As in `v24.0`.
    pub version: String,
    /// Hosts that a token is shown to when a file is fetched, besides that of `url`.
    pub media_hosts: Vec<String>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            url: "https://graph.facebook.com".to_owned(),
            version: "v24.0".to_owned(),
            media_hosts: Vec::new(),
        }
    }
}

/// Why something was not done, as far as that is known.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("Meta refused it with code {}", .0.code)]
    Refused(Refusal),
    /// Nothing was asked.
    #[error("the Graph API could not be reached")]
    Unreachable(#[source] reqwest::Error),
    /// It may have arrived, and been done.
    #[error("the Graph API did not answer")]
    Unanswered(#[source] Option<reqwest::Error>),
    /// It was done, or was not; what came back is nothing that Meta documents.
    #[error("the Graph API answered with status {status} and nothing that is understood")]
    Unintelligible { status: u16 },
    /// A file is where no token is shown.
    #[error("the file is at an address that is none of Meta's")]
    ForeignHost,
    #[error("there is no HTTP client: {0}")]
    Client(String),
}

impl Error {
    /// The same may succeed later, and was not done now.
    pub const fn is_passing(&self) -> bool {
        match self {
            Self::Refused(refusal) => refusal.is_passing(),
            Self::Unreachable(_) => true,
            _ => false,
        }
    }

    /// Whether it was done is not known.
    pub const fn is_unknown(&self) -> bool {
        matches!(self, Self::Unanswered(_) | Self::Unintelligible { .. })
    }
}

/// A message that Meta has taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Taken {
    /// Meta's id of the message.
    pub wa_id: String,
    /// Meta's word for what it does with it, if it is not simply sent.
    pub word: Option<String>,
}

/// Calls the Graph API. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Graph(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    options: Options,
    hosts: Hosts,
    /// Built at the first call: most processes never make one.
    client: OnceLock<Result<reqwest::Client, String>>,
}

impl Graph {
    pub fn new(options: Options) -> Self {
        let hosts = Hosts::new(&options.url, &options.media_hosts);
        Self(Arc::new(Inner { options, hosts, client: OnceLock::new() }))
    }

    /// Sends a message from a phone number.
    pub async fn send(&self, token: &str, number: &str, message: &Value) -> Result<Taken, Error> {
        let answer = self.post(token, &[number, "messages"], message, DEADLINE).await?;
        let first = &answer["messages"][0];
        let is_id = |it: &&str| {
            (1..=LONGEST_ID).contains(&it.len()) && it.bytes().all(|byte| byte.is_ascii_graphic())
        };
        let wa_id = first["id"].as_str().filter(is_id);
        let wa_id = wa_id.ok_or(Error::Unintelligible { status: 200 })?.to_owned();
        let word = first["message_status"].as_str().filter(|it| *it != "accepted");
        let word = word.map(|it| it.chars().filter(|it| !it.is_control()).take(64).collect());
        Ok(Taken { wa_id, word })
    }

    /// Tells whoever wrote a message, and all that they wrote before it, that it is read.
    pub async fn mark_read(&self, token: &str, number: &str, wa_id: &str) -> Result<(), Error> {
        let body = json!({
            "messaging_product": "whatsapp", "status": "read", "message_id": wa_id,
        });
        self.post(token, &[number, "messages"], &body, PROMPT).await.map(drop)
    }

    async fn post(
        &self,
        token: &str,
        path: &[&str],
        body: &Value,
        deadline: Duration,
    ) -> Result<Value, Error> {
        let request = self.request(Method::POST, path, token)?.timeout(deadline);
        let request = request.header(CONTENT_TYPE, "application/json").body(body.to_string());
        answer(request.send().await).await
    }

    fn client(&self) -> Result<&reqwest::Client, Error> {
        let build = || {
            reqwest::Client::builder()
                // A token is for whom it was sent to.
                .redirect(redirect::Policy::none())
                .connect_timeout(CONNECT)
                .pool_idle_timeout(IDLE)
                .pool_max_idle_per_host(32)
                .user_agent(concat!("wagate/", env!("CARGO_PKG_VERSION")))
                .build()
                .map_err(|error| error.to_string())
        };
        self.0.client.get_or_init(build).as_ref().map_err(|error| Error::Client(error.clone()))
    }

    /// A request to a path of the configured version. The parts are ids, which need no escapes.
    fn request(&self, method: Method, path: &[&str], token: &str) -> Result<RequestBuilder, Error> {
        let Options { url, version, .. } = &self.0.options;
        let url = format!("{url}/{version}/{}", path.join("/"));
        Ok(self.client()?.request(method, url).header(AUTHORIZATION, bearer(token)?))
    }
}

/// The header that proves who asks. Whatever prints headers leaves it out.
fn bearer(token: &str) -> Result<HeaderValue, Error> {
    let mut value = HeaderValue::try_from(format!("Bearer {token}"))
        .map_err(|_| Error::Client("the access token is none".to_owned()))?;
    value.set_sensitive(true);
    Ok(value)
}

/// Reads Meta's answer: an object that is a yes, or its no.
async fn answer(sent: Result<Response, reqwest::Error>) -> Result<Value, Error> {
    let mut response = sent.map_err(failed)?;
    let status = response.status();
    let after = refusal::retry_after(response.headers());
    let mut body = Vec::new();
    loop {
        let piece = response.chunk().await;
        let Some(piece) = piece.map_err(|error| Error::Unanswered(Some(error.without_url())))?
        else {
            break;
        };
        if body.len() + piece.len() > LONGEST {
            return Err(Error::Unintelligible { status: status.as_u16() });
        }
        body.extend_from_slice(&piece);
    }
    let read: Option<Value> = serde_json::from_slice(&body).ok();
    match (status, read) {
        (StatusCode::OK, Some(read)) if read.is_object() && read.get("error").is_none() => Ok(read),
        (_, Some(read)) if read["error"]["code"].is_i64() => {
            Err(Error::Refused(Refusal::read(&read["error"], status.as_u16(), after)))
        }
        // Whoever says so has not looked at what was asked.
        (StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE, _) => {
            Err(Error::Refused(Refusal::unnamed(status.as_u16(), after)))
        }
        (status, _) if status.is_client_error() => {
            Err(Error::Refused(Refusal::unnamed(status.as_u16(), after)))
        }
        (status, _) => Err(Error::Unintelligible { status: status.as_u16() }),
    }
}

/// Why there is no answer: without a connection nothing was asked.
fn failed(error: reqwest::Error) -> Error {
    let error = error.without_url();
    if error.is_connect() || error.is_builder() {
        Error::Unreachable(error)
    } else {
        Error::Unanswered(Some(error))
    }
}
