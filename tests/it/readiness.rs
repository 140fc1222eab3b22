//! `/readyz`: the schema and the lock are looked at again with each question, and however many ask cost one look.

use std::{
    fs,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
};

use entity::state::SessionStatus;
use futures_util::{FutureExt as _, future::join_all};
use reqwest::{Method, StatusCode};
use wagate::event::{AuthFailure, Event};

use crate::{
    database::{Kind, on, on_each},
    http_app::App,
    world::World,
};

/// What is there without a word more.
async fn ready(app: &App) -> StatusCode {
    let answer = app.anonymous(Method::GET, "/readyz").send().await.unwrap();
    let status = answer.status();
    assert!(answer.bytes().await.unwrap().is_empty());
    status
}

#[tokio::test]
async fn a_schema_that_lacks_steps_is_no_readiness_and_a_newer_one_is() {
    on_each(async |database| {
        let app = App::start(database).await;
        assert_eq!(ready(&app).await, StatusCode::NO_CONTENT);
        let newer = "INSERT INTO seaql_migrations (version, applied_at) VALUES ('m99991231_x', 0)";
        // Whoever made it so is still starting, and this one serves meanwhile.
        database.execute(newer).await;
        assert_eq!(ready(&app).await, StatusCode::NO_CONTENT);
        database.execute("DELETE FROM seaql_migrations WHERE version = 'm99991231_x'").await;
        assert_eq!(ready(&app).await, StatusCode::NO_CONTENT);
        let last = "(SELECT max(version) FROM seaql_migrations)";
        database.execute(&format!("DELETE FROM seaql_migrations WHERE version = {last}")).await;
        assert_eq!(ready(&app).await, StatusCode::SERVICE_UNAVAILABLE);
        // It lives all the same: a restart would not help.
        let lives = app.anonymous(Method::GET, "/livez").send().await.unwrap();
        assert_eq!(lives.status(), StatusCode::NO_CONTENT);
        app.close().await;
    })
    .await;
}

#[tokio::test]
async fn a_session_that_has_failed_is_no_lack_of_readiness() {
    on_each(async |database| {
        let app = App::start(database).await;
        for (id, failure) in
            [("refused", AuthFailure::ClientOutdated), ("locked", AuthFailure::AccountLocked)]
        {
            app.session(id).await;
            app.happen(id, Event::AuthFailure(failure)).await;
            assert_eq!(app.row(id).await.status, SessionStatus::AuthFailure);
        }
        assert_eq!(ready(&app).await, StatusCode::NO_CONTENT);
        app.close().await;
    })
    .await;
}

#[tokio::test]
async fn a_lock_that_keeps_nobody_out_any_more_is_no_readiness() {
    on(Kind::Sqlite, async |database| {
        let mut world = World::start(database).await;
        let ready = async |world: &World| {
            world.request(Method::GET, "/readyz").send().await.unwrap().status()
        };
        assert_eq!(ready(&world).await, StatusCode::NO_CONTENT);
        let (lock, away) = (world.state_dir().join("lock"), world.state_dir().join("away"));
        fs::rename(&lock, &away).unwrap();
        assert_eq!(ready(&world).await, StatusCode::SERVICE_UNAVAILABLE);
        // As whoever clears the directory away and has a second daemon start in it.
        fs::write(&lock, "").unwrap();
        assert_eq!(ready(&world).await, StatusCode::SERVICE_UNAVAILABLE);
        fs::rename(&away, &lock).unwrap();
        assert_eq!(ready(&world).await, StatusCode::NO_CONTENT);
        world.stop_daemon().await;
        world.end().await;
    })
    .await;
}

#[tokio::test]
async fn however_many_ask_at_once_two_look() {
    on(Kind::Sqlite, async |database| {
        let app = App::start(database).await;
        let (goes, go) = mpsc::channel::<()>();
        let (looks, go) = (Arc::new(AtomicUsize::new(0)), Mutex::new(go));
        let looked = Arc::clone(&looks);
        let health = app.health().with_lock(move || {
            looked.fetch_add(1, Ordering::SeqCst);
            // The first waits until all have asked, the others find that nobody is to be waited for.
            go.lock().unwrap().recv().ok();
            true
        });
        let all = (0..100).map(|_| health.ready());
        let mut all = std::pin::pin!(join_all(all));
        assert!((&mut all).now_or_never().is_none());
        drop(goes);
        assert!(all.await.iter().all(Result::is_ok));
        assert_eq!(looks.load(Ordering::SeqCst), 2);
        app.close().await;
    })
    .await;
}

#[tokio::test]
async fn a_lock_that_does_not_answer_is_asked_once_and_readiness_comes_back_with_it() {
    on(Kind::Sqlite, async |database| {
        let app = App::start(database).await;
        let (answers, answer) = mpsc::channel::<()>();
        let (asked, answer) = (Arc::new(AtomicUsize::new(0)), Mutex::new(answer));
        let count = Arc::clone(&asked);
        let health = app.health().with_lock(move || {
            count.fetch_add(1, Ordering::SeqCst);
            answer.lock().unwrap().recv().ok();
            true
        });
        // Who asks first hangs up before there is an answer, the next waits for one as long as he may.
        assert!(Box::pin(health.ready()).now_or_never().is_none());
        assert!(health.ready().await.is_err());
        assert_eq!(asked.load(Ordering::SeqCst), 1);
        drop(answers);
        assert!(health.ready().await.is_ok());
        app.close().await;
    })
    .await;
}
