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
//! a task goes on without a stop, waits for this backend, or waits for one of the library's locks. None of those is held
//! for longer than a turn takes, or than an answer of this backend: what the library's cache writes under its
//! lock is only noted (`noted.rs`). So a ratchet's write waits first ([`Tasks::rest`]) until each task that was under way
//! has stopped for something else, and so on with those that went on meanwhile: what had been read when
//! the ratchet was noted is then among the rows of `pending.rs`, and those are written in the same transaction.
//!
//! A task is under way while it is being polled, while it was woken and has not had its turn yet, and while it
//! waits for an answer of this backend. Nobody waits for a turn to begin: what is decrypted after the copy was
//! taken is not in it.
//!
//! # Why rounds
//!
//! Who stands at a lock is not under way; whoever has it is, and wakes him when he lets go of it. So in one round the lock is
//! let go of, and in the next he goes on. Somebody else may have been quicker, in between: then he goes on a round later.
//! That happens to nobody for longer than half a millisecond, as the lock is fair to those who wait for longer. When nobody
//! is under way, nobody stands at a lock either, and there is no further round.
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
//! A reader to whom others are preferred at a lock in [`ROUNDS`] rounds, within microseconds of having read, and a process
//! that dies in the milliseconds after that. And what a task waits for that is neither this backend nor a lock, with something read
//! and not handed over: in whatsapp-rust 0.7 there is no such step.

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

/// More than whoever stands at a lock has to wait for others, as far as that can be foreseen.
const ROUNDS: usize = 4;

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
        self.watch_one(work, true)
    }

    /// Work beside them, which has the client send: that writes ratchets, too, and whoever reads may stand at a lock that it
    /// has. It reads nothing itself, so that nothing is lost if it panics.
    pub fn watch_beside<F: Future + Unpin>(&self, work: F) -> Watched<F> {
        self.watch_one(work, false)
    }

    fn watch_one<F: Future + Unpin>(&self, work: F, reads: bool) -> Watched<F> {
        let task = Arc::new(Task {
            state: AtomicUsize::new(WOKEN),
            rests: AtomicU64::new(0),
            waker: AtomicWaker::new(),
        });
        let id = self.0.next.fetch_add(1, SeqCst);
        self.tasks().insert(id, Arc::clone(&task));
        Watched { work, reads, entry: Entry { of: self.clone(), id, task } }
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

    /// Waits until each task that is under way now has stopped for something else than the backend, and those that it has
    /// let go on.
    pub(super) async fn rest(&self) {
        self.rest_but(LONGEST).await;
    }

    /// The same, with nobody who hangs for so long.
    async fn rest_but(&self, longest: Duration) {
        for _ in 0..ROUNDS {
            match self.round(longest).await {
                Round::Rested => {}
                Round::Nobody | Round::Hung => return,
            }
        }
    }

    async fn round(&self, longest: Duration) -> Round {
        let _waiting = Waiting::new(&self.0.waiting);
        let mut busy: Vec<(Arc<Task>, u64)> = {
            let tasks = self.tasks();
            // The count first: a turn that ends in between has ended.
            let seen = tasks.values().map(|task| (task, task.rests.load(SeqCst)));
            seen.filter(|(task, _)| task.is_under_way())
                .map(|(task, rests)| (Arc::clone(task), rests))
                .collect()
        };
        if busy.is_empty() {
            return Round::Nobody;
        }
        let mut came = Round::Rested;
        while tokio::time::timeout(longest, self.rested(&mut busy)).await.is_err() {
            let before = busy.len();
            // No answer comes while the database is away; until then nothing is written either.
            busy.retain(|(task, _)| task.is_asking());
            if busy.len() < before {
                came = Round::Hung;
                tracing::error!(
                    "A task of the WhatsApp client hangs; ratchets are written all the same"
                );
            }
        }
        came
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

/// How a round ended.
enum Round {
    /// Nobody was under way.
    Nobody,
    /// Each has stopped for something else than the backend.
    Rested,
    /// Each but one that hangs.
    Hung,
}

/// Work that is one of a client's tasks.
pub struct Watched<F> {
    work: F,
    /// Whether it may have read a message that it has not handed over.
    reads: bool,
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
        let Self { work, reads, entry: Entry { of, task, .. } } = self.get_mut();
        task.waker.register(cx.waker());
        // At once: at no point between a wake and the end of the turn does it look idle.
        task.state.fetch_update(SeqCst, SeqCst, |state| Some((state | POLLED) & !WOKEN)).ok();
        let before = CURRENT.replace(Some(Arc::clone(task)));
        let turn = Turn { before, task, reads: *reads, of };
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
    reads: bool,
    of: &'a Tasks,
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        CURRENT.replace(self.before.take());
        if self.reads && std::thread::panicking() {
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
#[path = "tasks_tests.rs"]
mod tests;
