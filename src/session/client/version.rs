//! Which WhatsApp Web version to say we are: asked once for all sessions, and again when it is old or
//! WhatsApp refuses it.
//!
//! It is on a page of WhatsApp's, which a dial can wait for in vain. Nobody waits for longer than [`BUDGET`], and a session that was connected before says then what it said
//! last: whether WhatsApp still takes that, and whether there is a way to it at all, is told by the dial.

use std::{
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use futures_util::{
    FutureExt as _,
    future::{BoxFuture, Shared, WeakShared},
};
use wacore::store::Device;
use whatsapp_rust::http::HttpClient;

use crate::clock::Clock;

/// A version as WhatsApp counts: `2.3000.N`.
pub(super) type Version = (u32, u32, u32);

/// How long an answer is good for. A daemon runs for months, and WhatsApp refuses old versions.
const GOOD_FOR: Duration = Duration::from_hours(24);

/// How often WhatsApp is asked at most, however many sessions it refuses.
const AT_MOST_EVERY: Duration = Duration::from_mins(10);

/// How long an answer may take: less than a dial, which waits for it.
const BUDGET: Duration = Duration::from_secs(10);

/// How long nobody who can do without an answer waits for one, after there was none.
const NOT_AGAIN_FOR: Duration = Duration::from_mins(1);

/// The version, once it is known. Clones share it.
#[derive(Clone)]
pub(in crate::session) struct Versions {
    configured: Option<Version>,
    clock: Clock,
    http: Arc<dyn HttpClient>,
    memory: Arc<Mutex<Memory>>,
}

/// Why there is no version. One question's failure is the answer to all who waited for it.
pub(super) type NoAnswer = Arc<dyn std::error::Error + Send + Sync>;

/// A question, which goes on as long as somebody waits for its answer.
type Question = BoxFuture<'static, Result<Version, NoAnswer>>;

#[derive(Default)]
struct Memory {
    known: Option<Known>,
    /// The question that is being asked.
    asking: Option<WeakShared<Question>>,
    /// When the last one was not answered, while nothing was known.
    failed_at: Option<Duration>,
}

/// Times are [`Clock::monotonic`]'s.
#[derive(Clone, Copy, Debug)]
struct Known {
    version: Version,
    asked_at: Duration,
    /// WhatsApp has refused it.
    refused: bool,
}

/// The version that a device said when it was dialled last.
#[derive(Clone, Copy, Debug)]
pub(super) struct Remembered(Option<Version>);

impl Remembered {
    pub(super) fn of(device: &Device) -> Self {
        let Device { app_version_primary, app_version_secondary, app_version_tertiary, .. } =
            device;
        // What a new device has is the library's own, and as old as that.
        let was_said = device.app_version_last_fetched_ms != 0;
        let version = (*app_version_primary, *app_version_secondary, *app_version_tertiary);
        Self(was_said.then_some(version))
    }
}

impl Memory {
    /// What may be said without asking.
    fn without_asking(&self, remembered: Remembered, now: Duration) -> Option<Version> {
        if let Some(known) = self.known {
            let age = now.saturating_sub(known.asked_at);
            let good = !known.refused && age < GOOD_FOR;
            return (good || age < AT_MOST_EVERY).then_some(known.version);
        }
        let failed = self.failed_at.is_some_and(|at| now.saturating_sub(at) < NOT_AGAIN_FOR);
        remembered.0.filter(|_| failed)
    }

    /// Takes in an answer; what it is to those who have waited for it.
    fn learn(
        &mut self,
        answer: Result<Version, NoAnswer>,
        now: Duration,
    ) -> Result<Version, NoAnswer> {
        self.asking = None;
        match answer {
            Ok(version) => {
                tracing::info!(
                    version = format!("{}.{}.{}", version.0, version.1, version.2),
                    "Found out WhatsApp's current version"
                );
                let refused =
                    self.known.is_some_and(|known| known.refused && known.version == version);
                self.known = Some(Known { version, asked_at: now, refused });
                self.failed_at = None;
                Ok(version)
            }
            Err(error) => {
                tracing::warn!(
                    error = &*error as &dyn std::error::Error,
                    "WhatsApp's current version could not be found out; the last one that is known is said"
                );
                if let Some(old) = &mut self.known {
                    old.asked_at = now;
                    return Ok(old.version);
                }
                self.failed_at = Some(now);
                Err(error)
            }
        }
    }
}

impl Versions {
    pub(super) fn new(
        configured: Option<Version>,
        clock: Clock,
        http: Arc<dyn HttpClient>,
    ) -> Self {
        Self { configured, clock, http, memory: Arc::default() }
    }

    /// The configured version, or WhatsApp's current one; where that cannot be found out, the last one that
    /// is known, or what the device has said before.
    ///
    /// A failure is the answer to those who waited for this question; who has nothing to say asks again with the
    /// next dial.
    pub(super) async fn current(&self, remembered: Remembered) -> Result<Version, NoAnswer> {
        if let Some(version) = self.configured {
            return Ok(version);
        }
        let question = {
            let mut memory = self.memory();
            let now = self.clock.monotonic();
            if let Some(version) = memory.without_asking(remembered, now) {
                return Ok(version);
            }
            if let Some(question) = memory.asking.as_ref().and_then(WeakShared::upgrade) {
                question
            } else {
                let question = self.ask();
                memory.asking = question.downgrade();
                question
            }
        };
        question.await.or_else(|error| remembered.0.ok_or(error))
    }

    /// Asks WhatsApp.
    fn ask(&self) -> Shared<Question> {
        let this = self.clone();
        let asking = async move {
            let due = this.clock.monotonic() + BUDGET;
            let answer = tokio::select! {
                answer = whatsapp_rust::version::fetch_latest_app_version(&this.http) => {
                    answer.map_err(|error| NoAnswer::from(error.into_boxed_dyn_error()))
                }
                () = this.clock.sleep_until_monotonic(due) => Err(Arc::new(Late) as NoAnswer),
            };
            this.memory().learn(answer, this.clock.monotonic())
        };
        asking.boxed().shared()
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        super::locked(&self.memory)
    }

    /// WhatsApp refuses the version that it was told: the next dial asks for a newer one, unless that
    /// was done just now.
    pub(super) fn refused(&self) {
        if let Some((major, minor, build)) = self.configured {
            tracing::error!(
                version = format!("{major}.{minor}.{build}"),
                "WhatsApp refuses the version in the configuration (whatsapp.version)"
            );
            return;
        }
        tracing::error!("WhatsApp refuses this client version; asking for its current one");
        if let Some(known) = &mut self.memory().known {
            known.refused = true;
        }
    }
}

/// No answer came in time.
#[derive(Debug, thiserror::Error)]
#[error("no answer within {} s", BUDGET.as_secs())]
struct Late;

#[cfg(test)]
#[path = "version_tests.rs"]
mod tests;
