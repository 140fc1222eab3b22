//! What the client library is at, as far as it can be seen from outside: its tasks, and whether one may be
//! between reading a message and handing it over.
//!
//! # Why
//!
//! The library decrypts a message, which moves a ratchet in its memory, and hands over what it has read
//! (`store_pending_inbound`) a few steps later. Live, up to 64 messages are at these steps at once, and its
//! flush of all ratchets waits for none of them. So it can write a ratchet that has consumed a message nobody
//! has yet; if the process dies then, WhatsApp delivers that message again, the ratchet says that it is known, and
//! the library acknowledges it. It is lost.
//!
//! The library has no hook between the two. But its tasks run on a runtime that is ours, and between these steps
//! a task either goes on without a stop or waits for this backend. So a ratchet's write waits first
//! ([`Tasks::rest`]) until each task that was under way has stopped for something else: what it had read before the
//! flush took its copy of the ratchets is then among the rows of `pending.rs`, and those are written in the same
//! transaction.
//!
//! A task is under way while it is being polled, while it was woken and has not had its turn yet, and while it
//! waits for an answer of this backend. Nobody waits for a turn to begin: what is decrypted after the copy was
//! taken is not in it.
//!
//! A task that panics is under way no more, and what it had read may be lost with it. So from then on no ratchet is
//! written at all ([`Tasks::have_panicked`]), as if the process had died: WhatsApp delivers again what it had read, and
//! what is on disk can read it.
//!
//! # At the end
//!
//! A client that closes ends none of these tasks: what they have in hand they go on with. So whoever closes one waits
//! until none is under way ([`Tasks::quiet`]) before the session is given back and the database is closed: what was
//! read then has found its way into one or the other table.
//!
//! # What is left
//!
//! A task that waits, between the two steps, for another task which is not under way itself. In whatsapp-rust 0.7 there
//! is one such step: a task that puts a ratchet back while the cache is being written leaves it to whoever has the cache
//! next, and waits for its turn. If that is a second write, which has stood in line before it, the ratchet is in it.
//! What was read is handed over as soon as that write has ended. If the process dies in between, it is lost.

use std::{
    cell::RefCell,
    collections::HashMap,
    fmt,
    future::Future,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::SeqCst},
    },
    task::{Context, Poll, Wake, Waker},
    time::Duration,
};

use futures_util::task::AtomicWaker;
use tokio::sync::Notify;

/// A turn takes microseconds. Longer than this only one takes that hangs; all that the client writes must not hang with it.
const LONGEST: Duration = Duration::from_secs(30);

thread_local! {
    /// The task that has its turn on this thread.
    static CURRENT: RefCell<Option<Arc<Task>>> = const { RefCell::new(None) };
}

/// The tasks of one client. Clones are one and the same.
#[derive(Clone, Default)]
pub struct Tasks(Arc<Shared>);

#[derive(Default)]
struct Shared {
    tasks: Mutex<HashMap<u64, Arc<Task>>>,
    next: AtomicU64,
    /// Who waits for a rest.
    waiting: AtomicUsize,
    /// Rung when a turn has ended, if anybody waits.
    ended: Notify,
    /// One has panicked.
    panicked: AtomicBool,
}

/// One task.
struct Task {
    /// Whether it has its turn ([`POLLED`]), whether it was woken since its last turn began ([`WOKEN`]), and how many answers
    /// of the backend it waits for, each [`ASKED`], which change in its turns only. In one: looked at one by one, a task that
    /// is woken in its turn again and again can be found without any of them.
    state: AtomicUsize,
    /// Turns that ended without a question to the backend.
    rests: AtomicU64,
    waker: AtomicWaker,
}

const POLLED: usize = 1;
const WOKEN: usize = 2;
const ASKED: usize = 4;

impl Task {
    fn is_under_way(&self) -> bool {
        self.state.load(SeqCst) > 0
    }

    fn is_asking(&self) -> bool {
        self.state.load(SeqCst) >= ASKED
    }
}

impl Wake for Task {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.state.fetch_or(WOKEN, SeqCst);
        self.waker.wake();
    }
}

impl fmt::Debug for Tasks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tasks").field("tasks", &self.tasks().len()).finish_non_exhaustive()
    }
}

impl Tasks {
    fn tasks(&self) -> MutexGuard<'_, HashMap<u64, Arc<Task>>> {
        // Nothing panics while it holds this lock.
        self.0.tasks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The same work, as one of these tasks. It is one from now on, and not only when it has its first turn.
    pub fn watch<F: Future + Unpin>(&self, work: F) -> Watched<F> {
        let task = Arc::new(Task {
            state: AtomicUsize::new(WOKEN),
            rests: AtomicU64::new(0),
            waker: AtomicWaker::new(),
        });
        let id = self.0.next.fetch_add(1, SeqCst);
        self.tasks().insert(id, Arc::clone(&task));
        Watched { work, entry: Entry { of: self.clone(), id, task } }
    }

    /// The task that has its turn here waits for an answer of the backend until this is dropped.
    pub(super) fn asking() -> Asking {
        let task = CURRENT.with_borrow(Option::clone);
        if let Some(task) = &task {
            task.state.fetch_add(ASKED, SeqCst);
        }
        Asking(task)
    }

    /// Whether one has panicked. Known to whoever has waited for its rest.
    pub(super) fn have_panicked(&self) -> bool {
        self.0.panicked.load(SeqCst)
    }

    /// Waits until each task that is under way now has stopped for something else than the backend.
    pub(super) async fn rest(&self) {
        self.rest_but(LONGEST).await;
    }

    /// The same, with nobody who hangs for so long.
    async fn rest_but(&self, longest: Duration) {
        let _waiting = Waiting::new(&self.0.waiting);
        let mut busy: Vec<(Arc<Task>, u64)> = {
            let tasks = self.tasks();
            // The count first: a turn that ends in between has ended.
            let seen = tasks.values().map(|task| (task, task.rests.load(SeqCst)));
            seen.filter(|(task, _)| task.is_under_way())
                .map(|(task, rests)| (Arc::clone(task), rests))
                .collect()
        };
        while tokio::time::timeout(longest, self.rested(&mut busy)).await.is_err() {
            let before = busy.len();
            // No answer comes while the database is away; until then nothing is written either.
            busy.retain(|(task, _)| task.is_asking());
            if busy.len() < before {
                tracing::error!(
                    "A task of the WhatsApp client hangs; ratchets are written all the same"
                );
            }
        }
    }

    /// Waits until none is under way: whatever one had begun with, it is done with, or waits for something else than
    /// the backend.
    pub async fn quiet(&self) {
        let _waiting = Waiting::new(&self.0.waiting);
        loop {
            let ended = self.0.ended.notified();
            tokio::pin!(ended);
            // Registered before looking, or an end in between would be slept through.
            ended.as_mut().enable();
            if !self.tasks().values().any(|task| task.is_under_way()) {
                return;
            }
            ended.await;
        }
    }

    /// Waits until each of these has had a rest since.
    async fn rested(&self, busy: &mut Vec<(Arc<Task>, u64)>) {
        loop {
            let ended = self.0.ended.notified();
            tokio::pin!(ended);
            // Registered before looking, or an end in between would be slept through.
            ended.as_mut().enable();
            busy.retain(|(task, rests)| task.rests.load(SeqCst) == *rests);
            if busy.is_empty() {
                return;
            }
            ended.await;
        }
    }
}

/// Work that is one of a client's tasks.
pub struct Watched<F> {
    work: F,
    entry: Entry,
}

/// Its place among the tasks, given up when it is dropped.
struct Entry {
    of: Tasks,
    id: u64,
    task: Arc<Task>,
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.of.tasks().remove(&self.id);
        // Who waits for it waits no more.
        self.task.rests.fetch_add(1, SeqCst);
        self.of.0.ended.notify_waiters();
    }
}

impl<F> fmt::Debug for Watched<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watched").field("id", &self.entry.id).finish_non_exhaustive()
    }
}

impl<F: Future + Unpin> Future for Watched<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let Self { work, entry: Entry { of, task, .. } } = self.get_mut();
        task.waker.register(cx.waker());
        // At once: at no point between a wake and the end of the turn does it look idle.
        task.state.fetch_update(SeqCst, SeqCst, |state| Some((state | POLLED) & !WOKEN)).ok();
        let turn = Turn { before: CURRENT.replace(Some(Arc::clone(task))), task, of };
        let waker = Waker::from(Arc::clone(task));
        let polled = Pin::new(work).poll(&mut Context::from_waker(&waker));
        drop(turn);
        if of.0.waiting.load(SeqCst) > 0 {
            of.0.ended.notify_waiters();
        }
        polled
    }
}

/// A turn on this thread; it may end by a panic, which ends the task.
struct Turn<'a> {
    before: Option<Arc<Task>>,
    task: &'a Task,
    of: &'a Tasks,
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        CURRENT.replace(self.before.take());
        if std::thread::panicking() {
            // Before it is counted as a rest: who has waited for that knows.
            self.of.0.panicked.store(true, SeqCst);
        }
        // In this order: who has seen the rest counted must not find the task in its turn, and wait for another.
        if self.task.state.fetch_and(!POLLED, SeqCst) < ASKED {
            self.task.rests.fetch_add(1, SeqCst);
        }
    }
}

/// A question to the backend.
pub(super) struct Asking(Option<Arc<Task>>);

impl Drop for Asking {
    fn drop(&mut self) {
        if let Some(task) = &self.0 {
            task.state.fetch_sub(ASKED, SeqCst);
        }
    }
}

/// Somebody waits for the ends of turns, until this is dropped.
struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn new(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, SeqCst);
        Self(count)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, SeqCst);
    }
}

#[cfg(test)]
mod tests {
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
}
