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
//! - *Who cannot write does not read.* While too much is unrecorded, or much was read since something
//!   was last recorded, nothing is taken from the socket. So an outage of the database fills the network's buffers
//!   and then WhatsApp's queue, which is made for it, and not our memory.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
};

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// How many facts and messages may wait to be recorded while more is read.
const MOST: u64 = 1024;

/// How many bytes may be read while something waits and nothing gets recorded. Much more than comes in
/// the milliseconds that a commit takes; what the library makes of it takes several times as much.
const BYTES: u64 = 1 << 20;

/// The account of one link. Clones share it.
#[derive(Clone, Debug, Default)]
pub(in crate::session) struct Unrecorded(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    /// Rung when something was recorded.
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
    /// Bytes read since something was recorded, or began to wait when nothing did.
    read: u64,
    /// The socket's reader, while it is kept from reading.
    reader: Option<Waker>,
}

impl State {
    fn waiting(&self) -> u64 {
        self.reported - self.recorded + self.hooked
    }

    fn is_closed(&self) -> bool {
        let waiting = self.waiting();
        waiting > MOST || (waiting > 0 && self.read > BYTES)
    }

    /// Something waits no more; the rest has shown that it is not stuck.
    fn progressed(&mut self) {
        self.read = 0;
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
        if state.waiting() == 0 {
            state.read = 0;
        }
        state.reported += facts as u64;
        if owed {
            state.owed = state.reported;
        }
    }

    /// The oldest of the facts that were reported are on disk.
    pub(in crate::session) fn settle(&self, facts: usize) {
        let mut state = self.state();
        state.recorded += facts as u64;
        state.progressed();
        drop(state);
        self.0.recorded.notify_waiters();
    }

    /// Messages are with the durability hook, until this is dropped.
    pub(super) fn hook(&self, messages: usize) -> Hooked {
        let mut state = self.state();
        if state.waiting() == 0 {
            state.read = 0;
        }
        state.hooked += messages as u64;
        Hooked { account: self.clone(), messages: messages as u64 }
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

    /// Whether the socket is not read at present.
    pub(in crate::session) fn is_closed(&self) -> bool {
        self.state().is_closed()
    }

    /// Ready when the socket may be read.
    pub(super) fn poll_open(&self, cx: &Context<'_>) -> Poll<()> {
        let mut state = self.state();
        if state.is_closed() {
            state.reader = Some(cx.waker().clone());
            return Poll::Pending;
        }
        Poll::Ready(())
    }

    /// So many bytes were read.
    pub(super) fn read(&self, bytes: usize) {
        self.state().read += bytes as u64;
    }
}

/// Messages that the durability hook is at.
#[derive(Debug)]
pub(super) struct Hooked {
    account: Unrecorded,
    messages: u64,
}

impl Drop for Hooked {
    fn drop(&mut self) {
        let mut state = self.account.state();
        state.hooked -= self.messages;
        state.progressed();
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

    #[test]
    fn the_socket_is_not_read_while_too_much_waits() {
        let account = Unrecorded::default();
        assert!(open(&account));
        account.report(1000, false);
        let hooked = account.hook(24);
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
        assert!(open(&account));
        // With nothing to record, anything may be read.
        account.read(2 << 20);
        assert!(open(&account));
        account.report(1, true);
        assert!(open(&account));
    }
}
