//! Requests that wait for something to happen: how many there may be, how long, and when they end.

use std::{sync::Arc, time::Duration};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

use super::{
    Limits,
    code::Code,
    error::ApiError,
    fields::Parameters,
    limit::{Stream, Streams},
    problem::Problem,
};
use crate::service::{self, Principal, Tokens};

/// What streams and long polls share.
#[derive(Clone, Debug)]
pub(crate) struct Waiting {
    places: Arc<Semaphore>,
    /// Of these, what each caller may have.
    streams: Streams,
    longest: Duration,
    tokens: Tokens,
    pub(crate) heartbeat: Duration,
    /// Ends what would otherwise go on for ever.
    pub(crate) shutdown: CancellationToken,
}

/// A place among those that wait.
#[derive(Debug)]
pub(crate) struct Place {
    _stream: Stream,
    _permit: OwnedSemaphorePermit,
}

impl Waiting {
    pub(super) fn new(
        limits: Limits,
        streams: Streams,
        tokens: Tokens,
        shutdown: CancellationToken,
    ) -> Self {
        Self {
            streams,
            places: Arc::new(Semaphore::new(limits.streams)),
            longest: limits.longest_wait,
            tokens,
            heartbeat: limits.heartbeat,
            shutdown,
        }
    }

    /// Takes a place, until it is dropped.
    pub(crate) fn enter(&self, caller: &Principal) -> Result<Place, ApiError> {
        let later = Some(Duration::from_secs(5));
        let stream = self.streams.enter(caller).map_err(|problem| problem.retry_after(later))?;
        let permit = Arc::clone(&self.places)
            .try_acquire_owned()
            .map_err(|_| Problem::of(Code::TooManyStreams).retry_after(later))?;
        Ok(Place { _stream: stream, _permit: permit })
    }

    /// The most seconds that a long poll may wait.
    pub(crate) fn longest(&self) -> i64 {
        i64::try_from(self.longest.as_secs()).unwrap_or(i64::MAX)
    }

    /// The parameter `wait`, in whole seconds.
    pub(crate) fn parameter(&self, parameters: &mut Parameters) -> Option<Duration> {
        let seconds = parameters.number("wait", 0..=self.longest())?;
        u64::try_from(seconds).ok().filter(|seconds| *seconds > 0).map(Duration::from_secs)
    }

    /// Runs a long poll, in a place of its own, until it ends, or the caller's token or the daemon does.
    pub(crate) async fn poll<T>(
        &self,
        caller: &Principal,
        work: impl Future<Output = Result<T, service::Error>>,
    ) -> Result<T, ApiError> {
        let _place = self.enter(caller)?;
        tokio::select! {
            biased;
            () = self.shutdown.cancelled() => Err(Problem::new(Code::Unavailable, "the daemon is stopping")
            .retry_after(Some(Duration::from_secs(5)))
            .into()),
            refused = self.tokens.until_refused(caller) => Err(refused.into()),
            outcome = work => {
                let found = outcome?;
                // Asked when it is found: where another process has revoked the token, nobody rings here.
                self.tokens.recheck(caller).await?;
                Ok(found)
            }
        }
    }
}
