//! What a client has received and the database does not have yet.
//!
//! Messages are kept by the durability hook before the library acknowledges them. Receipts, calls and
//! channel posts take another way: the library hands them out as events, which nobody can make it wait
//! for, and acknowledges each right after. Two rules make that as safe as the hook, both applied where
//! bytes meet the socket (`dial.rs`):
//!
//! - *What we say waits for what we heard.* No frame leaves before everything that was reported before
//!   it, and is acknowledged to WhatsApp, is recorded. An acknowledgement is a frame, and the library
//!   makes it after it has reported what it acknowledges.
//! - *Who cannot write does not read.* While too much is unrecorded, or much more was read than was recorded of it,
//!   nothing is taken from the socket. So an outage of the database, or one that is slow, fills the network's buffers
//!   and then WhatsApp's queue, which is made for it, and not our memory. How much of what was read the library still
//!   has in hand it does not say. What is recorded counts by its size; and once nothing has waited for the database
//!   for a moment, the library has nothing in hand.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
    time::Duration,
};

use tokio::{sync::Notify, time::Instant};
use tokio_util::sync::CancellationToken;

/// How many facts and messages may wait to be recorded while more is read.
const MOST: u64 = 1024;

/// How many bytes may be read beyond what was recorded. Much more than comes in the milliseconds that a
/// commit takes; what the library makes of it takes several times as much.
const BYTES: u64 = 1 << 20;

/// What a fact takes on the wire besides its content: addresses, times, keys. Rather less than it does, so that
/// nobody reads ahead on the strength of it.
const HEAD: u64 = 256;

/// Once nothing has waited for the database for so long, all that was read has been dealt with. Much more than the
/// library takes from one message to the next.
pub(super) const IDLE: Duration = Duration::from_millis(100);

/// The account of one link. Clones share it.
#[derive(Clone, Debug, Default)]
pub(in crate::session) struct Unrecorded(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    /// Rung when something was recorded, or the hook is done with something.
    recorded: Notify,
}

#[derive(Debug, Default)]
struct State {
    /// Facts that were reported since the link was opened.
    reported: u64,
    /// How many of them are recorded; they are in the order of their reports.
    recorded: u64,
    /// The last that WhatsApp is told we have.
    owed: u64,
    /// Messages in the durability hook.
    hooked: u64,
    /// Bytes read that nothing was recorded for yet, as far as is known.
    ahead: u64,
    /// When something waited last; never yet, or since nothing was in hand.
    waited: Option<Instant>,
    /// The socket's reader, while it is kept from reading.
    reader: Option<Waker>,
}

impl State {
    fn waiting(&self) -> u64 {
        self.reported - self.recorded + self.hooked
    }

    /// Whether something that was read may not be dealt with yet.
    fn is_in_hand(&self) -> bool {
        self.waiting() > 0 || self.waited.is_some_and(|it| it.elapsed() < IDLE)
    }

    fn rest(&mut self) {
        if !self.is_in_hand() {
            self.waited = None;
            self.ahead = 0;
        }
    }

    fn is_closed(&self) -> bool {
        self.waiting() > MOST || (self.is_in_hand() && self.ahead > BYTES)
    }

    /// Something begins to wait.
    fn begin(&mut self) {
        self.rest();
        self.waited = Some(Instant::now());
    }

    /// Something waits no more that came in so many bytes.
    fn progressed(&mut self, bytes: u64) {
        self.waited = Some(Instant::now());
        self.ahead = self.ahead.saturating_sub(bytes);
        if let Some(reader) = self.reader.take() {
            reader.wake();
        }
    }
}

impl Unrecorded {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Facts were reported. `owed`: the library acknowledges them.
    pub(super) fn report(&self, facts: usize, owed: bool) {
        if facts == 0 {
            return;
        }
        let mut state = self.state();
        state.begin();
        state.reported += facts as u64;
        if owed {
            state.owed = state.reported;
        }
    }

    /// The oldest of the facts that were reported are on disk.
    pub(in crate::session) fn settle(&self, facts: usize) {
        let mut state = self.state();
        state.recorded += facts as u64;
        state.progressed(HEAD * facts as u64);
        drop(state);
        self.0.recorded.notify_waiters();
    }

    /// Messages of so many bytes altogether are with the durability hook, until this is dropped.
    pub(super) fn hook(&self, messages: usize, bytes: u64) -> Hooked {
        let mut state = self.state();
        state.begin();
        state.hooked += messages as u64;
        let messages = messages as u64;
        Hooked { account: self.clone(), messages, bytes: bytes + HEAD * messages }
    }

    /// Waits until what was reported so far, and is acknowledged, is recorded. False when that will
    /// not be, because the link is closing.
    pub(super) async fn recorded(&self, closing: &CancellationToken) -> bool {
        let due = self.state().owed;
        loop {
            let recorded = self.0.recorded.notified();
            tokio::pin!(recorded);
            // Registered before looking, or a change in between would be slept through.
            recorded.as_mut().enable();
            if self.state().recorded >= due {
                return true;
            }
            tokio::select! {
                () = recorded => {}
                () = closing.cancelled() => return false,
            }
        }
    }

    /// Waits until the durability hook has no message. True when it had none.
    pub(super) async fn unhooked(&self) -> bool {
        let mut had_none = true;
        loop {
            let ended = self.0.recorded.notified();
            tokio::pin!(ended);
            // Registered before looking, or an end in between would be slept through.
            ended.as_mut().enable();
            if self.state().hooked == 0 {
                return had_none;
            }
            had_none = false;
            ended.await;
        }
    }

    /// Whether the socket is not read at present.
    pub(in crate::session) fn is_closed(&self) -> bool {
        self.state().is_closed()
    }

    /// Ready when the socket may be read. Whoever is kept from it is woken when something was recorded, and looks
    /// again after [`IDLE`] by itself.
    pub(super) fn poll_open(&self, cx: &Context<'_>) -> Poll<()> {
        let mut state = self.state();
        state.rest();
        if state.is_closed() {
            state.reader = Some(cx.waker().clone());
            return Poll::Pending;
        }
        Poll::Ready(())
    }

    /// So many bytes were read.
    pub(super) fn read(&self, bytes: usize) {
        self.state().ahead += bytes as u64;
    }
}

/// Messages that the durability hook is at.
#[derive(Debug)]
pub(super) struct Hooked {
    account: Unrecorded,
    messages: u64,
    bytes: u64,
}

impl Drop for Hooked {
    fn drop(&mut self) {
        let mut state = self.account.state();
        state.hooked -= self.messages;
        state.progressed(self.bytes);
        drop(state);
        self.account.0.recorded.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    fn open(account: &Unrecorded) -> bool {
        account.poll_open(&Context::from_waker(Waker::noop())).is_ready()
    }

    #[tokio::test]
    async fn a_frame_waits_for_what_was_reported_before_it_and_for_nothing_later() {
        let account = Unrecorded::default();
        let closing = CancellationToken::new();
        assert!(account.recorded(&closing).await);

        account.report(2, true);
        let mut first = Box::pin(account.recorded(&closing));
        assert_eq!(first.as_mut().now_or_never(), None);
        account.report(1, true);
        account.settle(1);
        assert_eq!(first.as_mut().now_or_never(), None);
        account.settle(1);
        assert_eq!(first.now_or_never(), Some(true));

        // The server's own acknowledgements are not acknowledged.
        account.settle(1);
        account.report(5, false);
        assert!(account.recorded(&closing).await);

        account.report(1, true);
        closing.cancel();
        assert!(!account.recorded(&closing).await);
    }

    #[tokio::test]
    async fn who_closes_waits_for_what_the_hook_has() {
        let account = Unrecorded::default();
        assert_eq!(account.unhooked().now_or_never(), Some(true));
        let (one, other) = (account.hook(1, 0), account.hook(2, 0));
        let mut unhooked = Box::pin(account.unhooked());
        assert_eq!(unhooked.as_mut().now_or_never(), None);
        drop(other);
        assert_eq!(unhooked.as_mut().now_or_never(), None);
        drop(one);
        assert_eq!(unhooked.now_or_never(), Some(false));
    }

    /// The library goes on at once, however slow this machine is.
    fn go_on(account: &Unrecorded) {
        account.state().waited = Some(Instant::now() + Duration::from_hours(1));
    }

    /// A moment passes in which nothing waits.
    fn pause(account: &Unrecorded) {
        account.state().waited = Instant::now().checked_sub(IDLE);
    }

    #[test]
    fn the_socket_is_not_read_while_too_much_waits() {
        let account = Unrecorded::default();
        assert!(open(&account));
        account.report(1000, false);
        let hooked = account.hook(24, 0);
        assert!(open(&account));
        account.report(1, true);
        assert!(!open(&account));
        drop(hooked);
        assert!(open(&account));

        // Something is stuck, however little it is.
        account.settle(1000);
        account.read(2 << 20);
        assert!(!open(&account));
        account.settle(1);
        // The library may have all that was read in hand, and has if it goes on at once.
        go_on(&account);
        assert!(!open(&account));
        pause(&account);
        assert!(open(&account));
        // With nothing to record, anything may be read.
        account.read(2 << 20);
        assert!(open(&account));
        account.report(1, true);
        assert!(open(&account));
    }

    #[test]
    fn as_much_more_is_read_as_was_recorded_however_slowly_that_goes() {
        const MESSAGE: u64 = 16 * 1024;
        let account = Unrecorded::default();
        let mut read = 0;
        for recorded in 0..500 {
            let message = account.hook(1, MESSAGE);
            for _ in 0..1000 {
                if open(&account) {
                    account.read(16 * 1024);
                    read += MESSAGE;
                }
            }
            let ahead = read - recorded * MESSAGE;
            assert!(ahead <= BYTES + 10 * MESSAGE + recorded * HEAD, "{ahead}");
            assert!(ahead >= BYTES, "{ahead}");
            drop(message);
            go_on(&account);
        }
    }
}
