//! One server-sent event stream: read from the table, page by page, as fast as the client reads.
//!
//! Nothing is kept for a client but its place in the feed. A client that is slow asks for the next
//! page later; one that was away asks from where it was.
//!
//! A new stream begins with a `snapshot` of what is, and goes on with what happens. A resumed one
//! begins with what the client missed, and has its snapshot when it has caught up: what it shows
//! last is never older than what it showed before.
//!
//! What retention deleted before a client came back for it is said in so many words: a `gap`.

use std::{collections::VecDeque, convert::Infallible, time::Duration};

use axum::{extract::FromRef, response::sse};
use futures_util::{Stream, stream};
use serde::Serialize;
use serde_json::json;
use tokio::{sync::watch, time::Instant};

use super::{
    events::{EventView, GapView},
    status::Showing,
};
use crate::{
    event::payload::rfc3339,
    http::{
        HttpState,
        error::ApiError,
        waiting::{Place, Waiting},
    },
    service::{
        Error, Events, Tokens,
        events::{Bell, Scope},
    },
};

/// Events read at a time: what a slow client costs in memory.
const PAGE: u64 = 100;

/// How long a client waits before it connects again.
const RETRY: Duration = Duration::from_secs(2);

/// What streams are made of.
#[derive(Clone, Debug)]
pub(in crate::http) struct Opener {
    pub(super) events: Events,
    pub(super) waiting: Waiting,
    tokens: Tokens,
    showing: Showing,
}

impl FromRef<HttpState> for Opener {
    fn from_ref(state: &HttpState) -> Self {
        Self {
            events: FromRef::from_ref(state),
            waiting: FromRef::from_ref(state),
            tokens: FromRef::from_ref(state),
            showing: FromRef::from_ref(state),
        }
    }
}

impl Opener {
    /// Opens a stream: a new one, or one that goes on `after` an event.
    ///
    /// The caller's token is looked at after each look at what has happened, and when one was revoked: nothing that
    /// happens later is told to its holder, and his stream ends.
    pub(super) async fn open(self, scope: Scope, after: Option<i64>) -> Result<Feed, ApiError> {
        let place = self.waiting.enter(scope.caller())?;
        // Listened to before the first look, so that nothing falls in between.
        let (bell, revocations) = (self.events.bell(), self.tokens.revocations());
        let newest = self.events.newest(&scope).await?;
        let (position, snapshot) = match after {
            // A number from the future is from another database: there is nothing to resume.
            Some(after) if after <= newest => (after, Snapshot::CaughtUp),
            _ => (newest, Snapshot::Now),
        };
        Ok(Feed {
            scope,
            bell,
            revocations,
            position,
            snapshot,
            ready: VecDeque::from([sse::Event::default().retry(RETRY)]),
            next_heartbeat: Instant::now() + self.waiting.heartbeat,
            opener: self,
            _place: place,
        })
    }
}

/// A stream and its place in the feed.
pub(super) struct Feed {
    opener: Opener,
    scope: Scope,
    bell: Bell,
    revocations: watch::Receiver<()>,
    /// Number of the last event read.
    position: i64,
    snapshot: Snapshot,
    /// Read, and not yet taken by the client.
    ready: VecDeque<sse::Event>,
    next_heartbeat: Instant,
    _place: Place,
}

/// When the snapshot is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Snapshot {
    Now,
    CaughtUp,
    Sent,
}

/// Why a stream ends.
enum End {
    /// The daemon stops, the token is no longer good, or the session is gone.
    Over,
    /// Something failed: the client will come back and miss nothing.
    Failed(Error),
}

impl From<Error> for End {
    fn from(error: Error) -> Self {
        match error {
            Error::NotFound(_) | Error::Unauthenticated => Self::Over,
            error => Self::Failed(error),
        }
    }
}

impl Feed {
    pub(super) fn into_stream(self) -> impl Stream<Item = Result<sse::Event, Infallible>> {
        stream::unfold(self, async |mut feed| {
            let event = feed.next().await?;
            Some((Ok(event), feed))
        })
    }

    async fn next(&mut self) -> Option<sse::Event> {
        loop {
            if self.opener.waiting.shutdown.is_cancelled() {
                return None;
            }
            // What was read before a token was revoked is not told after it.
            let is_rung = self.revocations.has_changed().unwrap_or(true);
            if !is_rung && let Some(event) = self.ready.pop_front() {
                return Some(event);
            }
            self.revocations.mark_unchanged();
            match self.look().await {
                Ok(()) => {}
                Err(End::Over) => return None,
                Err(End::Failed(error)) => {
                    let error: &dyn std::error::Error = &error;
                    tracing::warn!(error, "An event stream was cut off");
                    return None;
                }
            }
        }
    }

    /// Makes something ready, or waits until there may be something.
    async fn look(&mut self) -> Result<(), End> {
        if self.ready.is_empty() {
            self.read().await?;
        }
        // Behind the reading: whatever was read, the token was good when it happened.
        self.opener.tokens.recheck(self.scope.caller()).await?;
        if self.ready.is_empty() && self.snapshot == Snapshot::Sent {
            self.wait().await?;
        }
        Ok(())
    }

    /// Makes what there is ready.
    async fn read(&mut self) -> Result<(), End> {
        if self.snapshot == Snapshot::Now {
            return self.show_all().await;
        }
        let page = self.opener.events.page(&self.scope, self.position, PAGE).await?.happened;
        let is_last = u64::try_from(page.len()).is_ok_and(|length| length < PAGE);
        // Looked for where something is missing, and once where a resumed stream begins.
        let first = page.first().map(|happened| happened.seq);
        if (first.is_some() || self.snapshot == Snapshot::CaughtUp)
            && let Some(gap) = self.opener.events.gap(&self.scope, self.position, first).await?
        {
            self.position = gap.through;
            self.ready.extend(event(&"gap", self.position, &GapView::from(gap)));
        }
        for happened in page {
            self.position = happened.seq;
            let view = EventView::from(happened);
            let event = event(&view.kind(), self.position, &view);
            self.ready.extend(event);
        }
        if self.snapshot == Snapshot::CaughtUp && is_last {
            self.snapshot = Snapshot::Now;
        }
        Ok(())
    }

    /// Makes the snapshot ready. It carries the place in the feed, so that a client that has seen
    /// nothing else can resume too.
    async fn show_all(&mut self) -> Result<(), End> {
        let mut sessions = Vec::new();
        for session in self.opener.events.snapshot(&self.scope).await? {
            sessions.push(self.opener.showing.session(self.scope.caller(), session).await);
        }
        let timestamp = rfc3339(self.opener.events.now());
        let data = json!({ "sessions": sessions, "timestamp": timestamp });
        self.ready.extend(event(&"snapshot", self.position, &data));
        self.snapshot = Snapshot::Sent;
        Ok(())
    }

    async fn wait(&mut self) -> Result<(), End> {
        tokio::select! {
            biased;
            () = self.opener.waiting.shutdown.cancelled() => {}
            () = tokio::time::sleep_until(self.next_heartbeat) => {
                self.next_heartbeat = Instant::now() + self.opener.waiting.heartbeat;
                if !self.opener.events.goes_on(&self.scope).await? {
                    return Err(End::Over);
                }
                self.ready.push_back(sse::Event::default().comment("still here"));
            }
            _ = self.revocations.changed() => {}
            () = self.bell.rung() => {}
        }
        Ok(())
    }
}

/// An event of the stream; none if it cannot be written, which nothing of ours is.
fn event(name: &impl Serialize, seq: i64, data: &impl Serialize) -> Option<sse::Event> {
    let name = serde_json::to_value(name).ok()?;
    let data = serde_json::to_string(data).ok()?;
    Some(sse::Event::default().event(name.as_str()?).id(seq.to_string()).data(data))
}
