//! The feed of a daemon that runs, over HTTP: pages by cursor, each waited for.

use std::time::Duration;

use reqwest::{StatusCode, Url, header};
use serde::Deserialize;
use serde_json::value::RawValue;
use time::OffsetDateTime;

/// Events of one page.
const PAGE: usize = 1000;

/// How long the daemon is asked to wait for the next event.
const WAIT: Duration = Duration::from_secs(25);

/// How long an answer may take beyond that.
const ANSWER: Duration = Duration::from_secs(15);

/// The longest head of a stream that is looked through for the number of the newest event.
const SNAPSHOT: usize = 64 << 20;

/// Why nothing was read.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    /// The daemon says no, and will say so again.
    #[error("the daemon answers {0}: {1}")]
    Refused(StatusCode, String),
    /// It may answer later; after that time, if it said so.
    #[error("the daemon answers {0}")]
    Busy(StatusCode, Option<Duration>),
    #[error("the daemon cannot be reached")]
    Away(#[source] reqwest::Error),
    #[error("what answers is no wagate of this version")]
    Strange,
}

/// An event, as the feed has it.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Event {
    #[serde(rename = "event")]
    pub(super) word: String,
    pub(super) session_id: Option<String>,
    pub(super) data: Box<RawValue>,
    pub(super) timestamp: String,
    pub(super) id: String,
    pub(super) seq: i64,
}

/// Some events in a row.
#[derive(Debug, Deserialize)]
pub(super) struct Page {
    #[serde(rename = "data")]
    pub(super) events: Vec<Event>,
    pub(super) cursor: i64,
    pub(super) gap: Option<Gap>,
}

/// Events that were deleted before they were read.
#[derive(Debug, Deserialize)]
pub(super) struct Gap {
    pub(super) after: i64,
    pub(super) through: i64,
}

/// Where the feed is, and who reads it.
pub(super) struct Feed {
    http: reqwest::Client,
    url: Url,
    token: String,
    organization: Option<String>,
}

impl Feed {
    /// The feed of one session, or of all that the token may see, at the daemon with this address.
    pub(super) fn new(
        daemon: &Url,
        session: Option<&str>,
        token: String,
        organization: Option<String>,
    ) -> Result<Self, reqwest::Error> {
        let mut url = daemon.clone();
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty().extend(["api", "whatsapp"]);
            if let Some(session) = session {
                path.extend(["session", session]);
            }
            path.push("events");
        }
        let http = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(Duration::from_secs(10))
            .user_agent(concat!("wagate/", env!("CARGO_PKG_VERSION")))
            .build()?;
        Ok(Self { http, url, token, organization })
    }

    fn ask(&self, url: Url) -> reqwest::RequestBuilder {
        let mut request = self.http.get(url).bearer_auth(&self.token);
        if let Some(organization) = &self.organization {
            request = request.header("x-organization", organization);
        }
        request
    }

    /// The events after this one; if there are none, waits for some.
    pub(super) async fn page(&self, after: i64) -> Result<Page, Error> {
        self.read(after, PAGE, WAIT).await
    }

    async fn read(&self, after: i64, limit: usize, wait: Duration) -> Result<Page, Error> {
        let mut url = self.url.clone();
        url.query_pairs_mut()
            .append_pair("after", &after.to_string())
            .append_pair("limit", &limit.to_string())
            .append_pair("wait", &wait.as_secs().to_string());
        let request =
            self.ask(url).header(header::ACCEPT, "application/json").timeout(wait + ANSWER);
        let answer = good(request.send().await.map_err(Error::Away)?).await?;
        let body = answer.bytes().await.map_err(Error::Away)?;
        serde_json::from_slice(&body).map_err(|_| Error::Strange)
    }

    /// The number of the newest event: the place that a new stream begins at.
    pub(super) async fn newest(&self) -> Result<i64, Error> {
        let request = self.ask(self.url.clone()).header(header::ACCEPT, "text/event-stream");
        let mut answer = good(request.timeout(ANSWER).send().await.map_err(Error::Away)?).await?;
        let mut head = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(Error::Away)? {
            head.extend_from_slice(&chunk);
            let lines = head.split(|&byte| byte == b'\n');
            let complete = lines.clone().count().saturating_sub(1);
            let number = lines
                .take(complete)
                .filter_map(|line| line.strip_prefix(b"id:"))
                .find_map(|line| str::from_utf8(line).ok()?.trim().parse().ok());
            if let Some(number) = number {
                return Ok(number);
            }
            if head.len() > SNAPSHOT {
                break;
            }
        }
        Err(Error::Strange)
    }

    /// The number of the last event before a point in time; events are in the order of their numbers.
    pub(super) async fn before(&self, at: OffsetDateTime) -> Result<i64, Error> {
        let (mut low, mut high) = (0, self.newest().await?);
        while low < high {
            let middle = low + (high - low) / 2;
            let page = self.read(middle, 1, Duration::ZERO).await?;
            let rfc3339 = &time::format_description::well_known::Rfc3339;
            match page.events.first() {
                Some(event)
                    if OffsetDateTime::parse(&event.timestamp, rfc3339)
                        .is_ok_and(|its| its < at) =>
                {
                    low = event.seq;
                }
                _ => high = middle,
            }
        }
        Ok(low)
    }
}

/// The answer, if it is what was asked for.
async fn good(answer: reqwest::Response) -> Result<reqwest::Response, Error> {
    #[derive(Default, Deserialize)]
    struct Problem {
        #[serde(default)]
        detail: String,
    }
    let status = answer.status();
    if status.is_success() {
        return Ok(answer);
    }
    if status.is_server_error()
        || status == StatusCode::TOO_MANY_REQUESTS
        || status == StatusCode::REQUEST_TIMEOUT
    {
        let after = answer.headers().get(header::RETRY_AFTER);
        let after = after.and_then(|it| it.to_str().ok()?.parse().ok()).map(Duration::from_secs);
        return Err(Error::Busy(status, after));
    }
    let body = answer.bytes().await.unwrap_or_default();
    let problem: Problem = serde_json::from_slice(&body).unwrap_or_default();
    Err(Error::Refused(status, problem.detail))
}
