//! Which WhatsApp Web version to say we are: asked once for all sessions, and again when it is old or
//! WhatsApp refuses it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use entity::UnixMillis;
use tokio::sync::Mutex;
use whatsapp_rust::http::HttpClient;

use crate::clock::Clock;

/// A version as WhatsApp counts: `2.3000.N`.
pub(super) type Version = (u32, u32, u32);

/// How long an answer is good for. A daemon runs for months, and WhatsApp refuses old versions.
const GOOD_FOR: Duration = Duration::from_hours(24);

/// How often WhatsApp is asked at most, however many sessions it refuses.
const AT_MOST_EVERY: Duration = Duration::from_mins(10);

/// The version, once it is known. Clones share it.
#[derive(Clone)]
pub(in crate::session) struct Versions {
    configured: Option<Version>,
    clock: Clock,
    http: Arc<dyn HttpClient>,
    /// Locked while it is asked for: one question answers all who wait.
    known: Arc<Mutex<Memory>>,
    /// Questions that were not answered, and left nobody anything to dial with.
    unanswered: Arc<AtomicU64>,
}

/// Why there is no version. One question's failure is the answer to all who waited for it.
pub(super) type NoAnswer = Arc<dyn std::error::Error + Send + Sync>;

#[derive(Debug, Default)]
struct Memory {
    known: Option<Known>,
    /// Why the last question was not answered.
    failure: Option<NoAnswer>,
}

#[derive(Clone, Copy, Debug)]
struct Known {
    version: Version,
    asked_at: UnixMillis,
    /// WhatsApp has refused it.
    refused: bool,
}

impl Versions {
    pub(super) fn new(
        configured: Option<Version>,
        clock: Clock,
        http: Arc<dyn HttpClient>,
    ) -> Self {
        Self { configured, clock, http, known: Arc::default(), unanswered: Arc::default() }
    }

    /// The configured version, or WhatsApp's current one.
    ///
    /// A failure is the answer to those who waited for this question, and is not remembered after
    /// that: the next dial asks again. While an older answer is there, a
    /// failure to get a newer one is no reason not to dial.
    pub(super) async fn current(&self) -> Result<Version, NoAnswer> {
        if let Some(version) = self.configured {
            return Ok(version);
        }
        let before = self.unanswered.load(Ordering::Acquire);
        let mut memory = self.known.lock().await;
        let Memory { known, failure } = &mut *memory;
        if self.unanswered.load(Ordering::Acquire) != before
            && let Some(failure) = failure
        {
            return Err(Arc::clone(failure));
        }
        let now = self.clock.now();
        if let Some(known) = known {
            let age = now.since(known.asked_at);
            let good = !known.refused && age < GOOD_FOR;
            if good || age < AT_MOST_EVERY {
                return Ok(known.version);
            }
        }
        match whatsapp_rust::version::fetch_latest_app_version(&self.http).await {
            Ok(version) => {
                tracing::info!(
                    version = format!("{}.{}.{}", version.0, version.1, version.2),
                    "Found out WhatsApp's current version"
                );
                let refused = known.is_some_and(|known| known.refused && known.version == version);
                *known = Some(Known { version, asked_at: now, refused });
                Ok(version)
            }
            Err(error) => {
                if let Some(old) = known {
                    tracing::warn!("WhatsApp's current version could not be found out anew");
                    old.asked_at = now;
                    return Ok(old.version);
                }
                let error = NoAnswer::from(error.into_boxed_dyn_error());
                *failure = Some(Arc::clone(&error));
                self.unanswered.fetch_add(1, Ordering::Release);
                Err(error)
            }
        }
    }

    /// WhatsApp refuses the version that it was told: the next dial asks for a newer one, unless that
    /// was done just now.
    pub(super) async fn refused(&self) {
        if let Some((major, minor, build)) = self.configured {
            tracing::error!(
                version = format!("{major}.{minor}.{build}"),
                "WhatsApp refuses the version in the configuration (whatsapp.version)"
            );
            return;
        }
        tracing::error!("WhatsApp refuses this client version; asking for its current one");
        if let Some(known) = &mut self.known.lock().await.known {
            known.refused = true;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Mutex as StdMutex,
        atomic::{AtomicU32, Ordering},
    };

    use async_trait::async_trait;
    use whatsapp_rust::{
        anyhow,
        http::{HttpRequest, HttpResponse},
    };

    use super::*;

    /// WhatsApp's web server, as far as it tells the version.
    #[derive(Debug, Default)]
    struct Server {
        asked: AtomicU32,
        /// What it says; none when it is away.
        revision: StdMutex<Option<u32>>,
        /// It answers when this lets it.
        slow: Option<Arc<tokio::sync::Semaphore>>,
    }

    #[async_trait]
    impl HttpClient for Server {
        async fn execute(&self, _request: HttpRequest) -> Result<HttpResponse, anyhow::Error> {
            self.asked.fetch_add(1, Ordering::SeqCst);
            if let Some(slow) = &self.slow {
                slow.acquire().await?.forget();
            }
            let Some(revision) = *self.revision.lock().unwrap() else { anyhow::bail!("away") };
            let body = format!("...\"client_revision\":{revision},...").into_bytes();
            Ok(HttpResponse { status_code: 200, body })
        }
    }

    fn world(configured: Option<Version>) -> (Arc<Server>, Clock, Versions) {
        let server = Arc::new(Server::default());
        *server.revision.lock().unwrap() = Some(1_000_000_001);
        let clock = Clock::manual(UnixMillis(1_000_000_000));
        let versions = Versions::new(configured, clock.clone(), Arc::clone(&server) as _);
        (server, clock, versions)
    }

    #[tokio::test]
    async fn a_refused_version_is_asked_for_anew_and_not_more_often_than_allowed() {
        let (server, clock, versions) = world(None);
        let first = versions.current().await.unwrap();
        assert_eq!(versions.current().await.unwrap(), first);
        assert_eq!(server.asked.load(Ordering::SeqCst), 1);

        // A thousand sessions are refused, and dial again, before there is a newer version.
        clock.advance(AT_MOST_EVERY);
        for _ in 0..1_000 {
            versions.refused().await;
            assert_eq!(versions.current().await.unwrap(), first);
        }
        assert_eq!(server.asked.load(Ordering::SeqCst), 2);

        *server.revision.lock().unwrap() = Some(1_000_000_002);
        clock.advance(AT_MOST_EVERY);
        let second = versions.current().await.unwrap();
        assert_ne!(second, first);
        clock.advance(AT_MOST_EVERY);
        assert_eq!(versions.current().await.unwrap(), second);
        assert_eq!(server.asked.load(Ordering::SeqCst), 3, "nobody refuses this one");
    }

    #[tokio::test]
    async fn an_answer_grows_old_and_serves_on_while_there_is_no_newer_one() {
        let (server, clock, versions) = world(None);
        *server.revision.lock().unwrap() = None;
        assert!(versions.current().await.is_err(), "there is none yet");
        *server.revision.lock().unwrap() = Some(1_000_000_001);
        let first = versions.current().await.unwrap();

        clock.advance(GOOD_FOR);
        *server.revision.lock().unwrap() = None;
        assert_eq!(versions.current().await.unwrap(), first);
        assert_eq!(versions.current().await.unwrap(), first);
        assert_eq!(server.asked.load(Ordering::SeqCst), 3, "not asked again at once");
    }

    #[tokio::test]
    async fn a_question_that_is_not_answered_is_so_for_all_who_wait_for_it() {
        let answers = Arc::new(tokio::sync::Semaphore::new(0));
        let server = Arc::new(Server { slow: Some(Arc::clone(&answers)), ..Server::default() });
        let clock = Clock::manual(UnixMillis(1_000_000_000));
        let versions = Versions::new(None, clock, Arc::clone(&server) as _);
        let tasks = tokio_util::task::TaskTracker::new();
        let waiting: Vec<_> = (0..100)
            .map(|_| {
                let versions = versions.clone();
                tasks.spawn(async move { versions.current().await })
            })
            .collect();
        // All of them have come as far as they can: one asks, and the others wait for it.
        tokio::task::yield_now().await;
        answers.add_permits(200);
        for waiting in waiting {
            assert!(waiting.await.unwrap().is_err());
        }
        assert_eq!(server.asked.load(Ordering::SeqCst), 1);

        *server.revision.lock().unwrap() = Some(1_000_000_001);
        assert!(versions.current().await.is_ok(), "who comes later asks again");
    }

    #[tokio::test]
    async fn a_configured_version_is_never_asked_for() {
        let (server, _clock, versions) = world(Some((2, 3000, 7)));
        versions.refused().await;
        assert_eq!(versions.current().await.unwrap(), (2, 3000, 7));
        assert_eq!(server.asked.load(Ordering::SeqCst), 0);
    }
}
