use std::{
    sync::{
        Mutex as StdMutex,
        atomic::{AtomicU32, Ordering},
    },
    task::Poll,
};

use async_trait::async_trait;
use entity::UnixMillis;
use futures_util::poll;
use whatsapp_rust::{
    anyhow,
    http::{HttpRequest, HttpResponse},
};

use super::*;

/// What a new device remembers.
const NEW: Remembered = Remembered(None);

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
    let first = versions.current(NEW).await.unwrap();
    assert_eq!(versions.current(NEW).await.unwrap(), first);
    assert_eq!(server.asked.load(Ordering::SeqCst), 1);

    // A thousand sessions are refused, and dial again, before there is a newer version.
    clock.advance(AT_MOST_EVERY);
    for _ in 0..1_000 {
        versions.refused();
        assert_eq!(versions.current(NEW).await.unwrap(), first);
    }
    assert_eq!(server.asked.load(Ordering::SeqCst), 2);

    *server.revision.lock().unwrap() = Some(1_000_000_002);
    clock.advance(AT_MOST_EVERY);
    let second = versions.current(NEW).await.unwrap();
    assert_ne!(second, first);
    clock.advance(AT_MOST_EVERY);
    assert_eq!(versions.current(NEW).await.unwrap(), second);
    assert_eq!(server.asked.load(Ordering::SeqCst), 3, "nobody refuses this one");
}

#[tokio::test]
async fn an_answer_grows_old_and_serves_on_while_there_is_no_newer_one() {
    let (server, clock, versions) = world(None);
    *server.revision.lock().unwrap() = None;
    assert!(versions.current(NEW).await.is_err(), "there is none yet");
    *server.revision.lock().unwrap() = Some(1_000_000_001);
    let first = versions.current(NEW).await.unwrap();

    clock.advance(GOOD_FOR);
    *server.revision.lock().unwrap() = None;
    assert_eq!(versions.current(NEW).await.unwrap(), first);
    assert_eq!(versions.current(NEW).await.unwrap(), first);
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
            tasks.spawn(async move { versions.current(NEW).await })
        })
        .collect();
    // All of them have come as far as they can: one asks, and the others wait for it.
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    answers.add_permits(200);
    for waiting in waiting {
        assert!(waiting.await.unwrap().is_err());
    }
    assert_eq!(server.asked.load(Ordering::SeqCst), 1);

    *server.revision.lock().unwrap() = Some(1_000_000_001);
    assert!(versions.current(NEW).await.is_ok(), "who comes later asks again");
}

/// A server that says nothing until it is told to.
fn slow() -> (Arc<Server>, Arc<tokio::sync::Semaphore>, Clock, Versions) {
    let answers = Arc::new(tokio::sync::Semaphore::new(0));
    let server = Arc::new(Server { slow: Some(Arc::clone(&answers)), ..Server::default() });
    let clock = Clock::manual(UnixMillis(1_000_000_000));
    let versions = Versions::new(None, clock.clone(), Arc::clone(&server) as _);
    (server, answers, clock, versions)
}

#[tokio::test]
async fn nobody_waits_for_long_and_who_was_connected_before_says_what_he_said_then() {
    let (server, _answers, clock, versions) = slow();
    let before = Remembered(Some((2, 3000, 5)));
    let (mut new, mut old) = (Box::pin(versions.current(NEW)), Box::pin(versions.current(before)));
    assert!(poll!(&mut new).is_pending() && poll!(&mut old).is_pending());
    assert!(versions.memory.try_lock().is_ok(), "nobody waits with a lock");
    clock.advance(BUDGET);
    let Poll::Ready(failed) = poll!(&mut new) else { panic!("its time is over") };
    assert_eq!(failed.unwrap_err().to_string(), "no answer within 10 s");
    assert_eq!(old.await.unwrap(), (2, 3000, 5));
    assert_eq!(server.asked.load(Ordering::SeqCst), 1, "one question");

    // It is not waited for by whoever can do without, until it is asked again.
    let mut old = Box::pin(versions.current(before));
    assert!(matches!(poll!(&mut old), Poll::Ready(Ok((2, 3000, 5)))));
    let mut new = Box::pin(versions.current(NEW));
    assert!(poll!(&mut new).is_pending());
    clock.advance(NOT_AGAIN_FOR);
    assert!(matches!(poll!(&mut new), Poll::Ready(Err(_))));
    clock.advance(NOT_AGAIN_FOR);
    let mut old = Box::pin(versions.current(before));
    assert!(poll!(&mut old).is_pending(), "it may be there again");
}

#[tokio::test]
async fn a_question_that_nobody_waits_for_is_asked_anew() {
    let (server, answers, clock, versions) = slow();
    let mut first = Box::pin(versions.current(NEW));
    assert!(poll!(&mut first).is_pending());
    clock.advance(BUDGET / 2);
    drop(first);
    let mut second = Box::pin(versions.current(NEW));
    assert!(poll!(&mut second).is_pending());
    clock.advance(BUDGET / 2);
    assert!(poll!(&mut second).is_pending(), "it has its own time");
    *server.revision.lock().unwrap() = Some(7);
    answers.add_permits(1);
    assert_eq!(second.await.unwrap(), (2, 3000, 7));
    assert_eq!(server.asked.load(Ordering::SeqCst), 2);
}

#[test]
fn a_device_remembers_what_it_has_said_and_not_what_it_was_made_with() {
    let mut device = Device::new();
    assert!(Remembered::of(&device).0.is_none());
    device.app_version_tertiary = 9;
    device.app_version_last_fetched_ms = 1;
    assert_eq!(Remembered::of(&device).0, Some((2, 3000, 9)));
}

#[tokio::test]
async fn a_configured_version_is_never_asked_for() {
    let (server, _clock, versions) = world(Some((2, 3000, 7)));
    versions.refused();
    assert_eq!(versions.current(NEW).await.unwrap(), (2, 3000, 7));
    assert_eq!(server.asked.load(Ordering::SeqCst), 0);
}
