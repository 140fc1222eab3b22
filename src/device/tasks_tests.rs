use std::sync::mpsc;

use futures_util::FutureExt as _;
use tokio::sync::oneshot;

use super::*;

/// A waker that nobody hears.
fn poll<F: Future + Unpin>(work: &mut F) -> bool {
    Pin::new(work).poll(&mut Context::from_waker(Waker::noop())).is_ready()
}

#[tokio::test]
async fn who_waits_for_something_else_is_not_waited_for() {
    let tasks = Tasks::default();
    let (told, tells) = oneshot::channel::<()>();
    let mut task = tasks.watch(tells);
    assert!(tasks.rest().now_or_never().is_none(), "it has not had its first turn");
    assert!(!poll(&mut task));
    assert!(tasks.rest().now_or_never().is_some(), "it waits for a word");
    // Woken, it has something to do, though nobody has polled it yet.
    told.send(()).unwrap();
    let rest = tasks.rest();
    let mut rest = std::pin::pin!(rest);
    assert!(!poll(&mut rest));
    assert!(poll(&mut task));
    assert!(poll(&mut rest));
    drop(task);
    assert!(tasks.tasks().is_empty());
}

#[tokio::test]
async fn who_waits_for_the_backend_is_waited_for_until_the_turn_after_the_answer_has_ended() {
    let tasks = Tasks::default();
    let (answer, answered) = oneshot::channel::<()>();
    let (told, tells) = oneshot::channel::<()>();
    let mut task = tasks.watch(Box::pin(async {
        let asking = Tasks::asking();
        answered.await.ok();
        drop(asking);
        tells.await.ok();
    }));
    assert!(!poll(&mut task));
    let rest = tasks.rest();
    let mut rest = std::pin::pin!(rest);
    assert!(!poll(&mut rest));
    // A turn without the answer.
    assert!(!poll(&mut task));
    assert!(!poll(&mut rest));
    answer.send(()).unwrap();
    assert!(!poll(&mut rest), "it has not had the turn in which it does something with it");
    assert!(!poll(&mut task));
    assert!(poll(&mut rest), "it waits for something else now");
    told.send(()).unwrap();
}

#[tokio::test]
async fn it_is_quiet_when_all_wait_for_something_else_than_a_turn_and_the_backend() {
    let tasks = Tasks::default();
    assert!(tasks.quiet().now_or_never().is_some(), "there is nobody");
    let (answer, answered) = oneshot::channel::<()>();
    let (told, tells) = oneshot::channel::<()>();
    let mut task = tasks.watch(Box::pin(async {
        futures_util::pending!();
        let asking = Tasks::asking();
        answered.await.ok();
        drop(asking);
        tells.await.ok();
    }));
    let mut quiet = std::pin::pin!(tasks.quiet());
    assert!(!poll(&mut quiet), "it has not had its first turn");
    assert!(!poll(&mut task));
    // It wants to go on, which is a rest for who waits for that.
    task.entry.task.wake_by_ref();
    assert!(!poll(&mut quiet), "it wants its next turn");
    assert!(!poll(&mut task));
    assert!(!poll(&mut quiet), "it waits for the backend");
    answer.send(()).unwrap();
    assert!(!poll(&mut quiet), "it has not had the turn in which it does something with it");
    assert!(!poll(&mut task));
    assert!(poll(&mut quiet), "it waits for a word");
    told.send(()).unwrap();
    assert!(tasks.quiet().now_or_never().is_none());
    drop(task);
    assert!(tasks.quiet().now_or_never().is_some());
}

#[tokio::test]
async fn a_turn_that_is_under_way_on_another_thread_is_waited_for() {
    let tasks = Tasks::default();
    let (here, there) = mpsc::channel::<()>();
    let (go, goes) = mpsc::channel::<()>();
    let mut task = tasks.watch(Box::pin(async move {
        here.send(()).unwrap();
        goes.recv().ok();
        std::future::pending::<()>().await;
    }));
    let thread = std::thread::spawn(move || {
        assert!(!poll(&mut task));
        task
    });
    there.recv().unwrap();
    let rest = tasks.rest();
    let mut rest = std::pin::pin!(rest);
    assert!(!poll(&mut rest));
    go.send(()).unwrap();
    let _task = thread.join().unwrap();
    assert!(poll(&mut rest));
}

#[tokio::test]
async fn who_hangs_is_given_up_and_who_waits_for_the_backend_is_not() {
    let longest = Duration::from_millis(10);
    let tasks = Tasks::default();
    let hangs = tasks.watch(std::future::pending::<()>());
    tasks.rest_but(longest).await;
    let (answer, answered) = oneshot::channel::<()>();
    let mut asks = tasks.watch(Box::pin(async {
        let _asking = Tasks::asking();
        answered.await.ok();
    }));
    assert!(!poll(&mut asks));
    let mut rest = std::pin::pin!(tasks.rest_but(longest));
    let long = tokio::time::timeout(longest * 10, &mut rest).await;
    assert!(long.is_err(), "what was read may not be there yet");
    answer.send(()).unwrap();
    assert!(poll(&mut asks));
    assert!(poll(&mut rest), "the other was given up long ago");
    drop(hangs);
}

#[tokio::test]
async fn a_task_that_panics_is_waited_for_no_more_and_who_has_waited_knows_of_it() {
    let tasks = Tasks::default();
    let (told, tells) = oneshot::channel::<()>();
    let mut task = tasks.watch(Box::pin(async {
        let _asking = Tasks::asking();
        tells.await.ok();
        panic!("between reading and handing over");
    }));
    assert!(!poll(&mut task));
    let rest = tasks.rest();
    let mut rest = std::pin::pin!(rest);
    assert!(!poll(&mut rest), "it waits for the backend");
    told.send(()).unwrap();
    let task = std::panic::AssertUnwindSafe(task).catch_unwind();
    assert!(!tasks.have_panicked());
    assert!(task.await.is_err());
    assert!(poll(&mut rest));
    assert!(tasks.have_panicked());
    assert!(tasks.tasks().is_empty());
    assert!(CURRENT.with_borrow(Option::is_none), "nobody has a turn here");
}

#[tokio::test]
async fn a_task_that_ends_or_is_dropped_is_waited_for_no_more() {
    let tasks = Tasks::default();
    let task = tasks.watch(std::future::pending::<()>());
    let rest = tasks.rest();
    let mut rest = std::pin::pin!(rest);
    assert!(!poll(&mut rest));
    drop(task);
    assert!(poll(&mut rest));
}

/// A lock of the library's: whoever has it lets the next one go on in his own turn.
#[tokio::test]
async fn who_stands_at_a_lock_is_waited_for_with_whoever_has_it_and_whoever_is_quicker() {
    let tasks = Tasks::default();
    let lock = futures_util::lock::Mutex::new(());
    let (answer, answered) = oneshot::channel::<()>();
    let mut has_it = tasks.watch(Box::pin(async {
        let _held = lock.lock().await;
        let _asking = Tasks::asking();
        answered.await.ok();
    }));
    let mut reads = tasks.watch(Box::pin(async {
        drop(lock.lock().await);
        std::future::pending::<()>().await;
    }));
    assert!(!poll(&mut has_it));
    assert!(!poll(&mut reads));
    let mut rest = std::pin::pin!(tasks.rest());
    assert!(!poll(&mut rest), "one asks");
    answer.send(()).unwrap();
    assert!(poll(&mut has_it));
    // The reader was woken by that; somebody is quicker.
    let quicker = lock.try_lock().unwrap();
    let mut stranger = tasks.watch(Box::pin(async { drop(quicker) }));
    assert!(!poll(&mut rest));
    assert!(!poll(&mut reads));
    assert!(!poll(&mut rest), "the reader stands there still");
    assert!(poll(&mut stranger));
    assert!(!poll(&mut rest), "and goes on now");
    assert!(!poll(&mut reads));
    assert!(poll(&mut rest), "it waits for something else");
}

#[tokio::test]
async fn what_works_beside_is_waited_for_and_loses_nothing_when_it_panics() {
    let tasks = Tasks::default();
    let (told, tells) = oneshot::channel::<()>();
    let work = tasks.watch_beside(Box::pin(async {
        tells.await.ok();
        panic!("it has sent something");
    }));
    let mut rest = std::pin::pin!(tasks.rest());
    assert!(!poll(&mut rest), "it may be about to write");
    told.send(()).unwrap();
    assert!(std::panic::AssertUnwindSafe(work).catch_unwind().await.is_err());
    assert!(poll(&mut rest));
    assert!(!tasks.have_panicked());
}
