//! One client, from its first dial to its end.

use std::{
    fmt,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use tokio::sync::oneshot;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::Instrument as _;
use wacore::{
    iq::{devices::RemoveCompanionDeviceSpec, keepalive::KeepaliveSpec},
    types::events::Subscription,
};
use whatsapp_rust::{Client, client::RawNodeLease};

use super::{
    Closing, PairError, Sender, Tasks, Unrecorded,
    barrier::Barrier,
    dial::{DialFailure, Progress},
    locked, media, translate,
};
use crate::{
    clock::Clock,
    event::Account,
    fault::{late, moment},
    session::{
        PairingCode,
        media::{MediaError, Renewal},
    },
};

/// How long a client may take to close in good order before it is abandoned.
pub(in crate::session) const CLOSE_DEADLINE: Duration = Duration::from_secs(15);

/// How long a client that has closed may take to be done with what it has in hand. More than a hook takes that gives up.
const IN_HAND: Duration = Duration::from_secs(8);

/// How long WhatsApp may take to confirm that this device is unlinked.
const LOGOUT_DEADLINE: Duration = Duration::from_secs(10);

/// How long WhatsApp may take to answer when it is asked for a sign of life.
const PING_DEADLINE: Duration = Duration::from_secs(20);

/// One client, from its first dial to its end.
pub(in crate::session) struct Link {
    pub(super) client: Arc<Client>,
    pub(super) device_id: i32,
    pub(super) closing: Closing,
    pub(super) progress: Progress,
    pub(super) unrecorded: Unrecorded,
    pub(super) barrier: Barrier,
    pub(super) stop: CancellationToken,
    pub(super) run: Option<tokio::task::JoinHandle<()>>,
    /// Serves what the library wants done beside its connection.
    pub(super) history: Option<tokio::task::JoinHandle<()>>,
    pub(super) tasks: Tasks,
    /// Whether the device was paired already when the link was opened.
    pub(super) paired: bool,
    pub(super) tracker: TaskTracker,
    /// Dropped with the link: the receiver of its signals then ends after the last one.
    #[expect(dead_code, reason = "held for what its drop does")]
    pub(super) subscription: Subscription,
    #[expect(dead_code, reason = "held for what its drop does")]
    pub(super) stanzas: RawNodeLease,
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link").field("paired", &self.paired).finish_non_exhaustive()
    }
}

impl Link {
    /// Whether the device was paired already when the link was opened.
    pub(in crate::session) fn was_paired(&self) -> bool {
        self.paired
    }

    /// Waits until the client has ended by itself, wants to dial more often than it may, or one of its tasks
    /// has panicked.
    pub(in crate::session) async fn ended(&mut self) {
        let (progress, tasks) = (self.progress.clone(), self.tasks.clone());
        tokio::select! {
            biased;
            () = self.run_ended() => {}
            () = progress.spent() => {}
            () = tasks.panicked() => {}
        }
    }

    /// Whether one of its tasks has panicked.
    pub(in crate::session) fn has_panicked(&self) -> bool {
        self.tasks.have_panicked()
    }

    /// What works on this connection has its panics contained by these.
    pub(in crate::session) fn tasks(&self) -> &Tasks {
        &self.tasks
    }

    async fn run_ended(&mut self) {
        if let Some(run) = &mut self.run {
            // It may have been cancelled. A panic in the client ends it like anything else does.
            run.await.ok();
            self.run = None;
        }
    }

    /// Why the last dial failed, if it did.
    pub(in crate::session) fn dial_failure(&self) -> Option<DialFailure> {
        self.progress.take_failure()
    }

    /// Whether the server has answered our hello: what is missing is the login.
    pub(in crate::session) fn is_answered(&self) -> bool {
        self.progress.is_answered()
    }

    /// Bytes received on the present connection.
    pub(in crate::session) fn received(&self) -> u64 {
        self.progress.received()
    }

    /// Asks WhatsApp for a sign of life, without waiting for it: an answer is received like anything
    /// else.
    pub(in crate::session) fn ping(&self) {
        let client = Arc::clone(&self.client);
        let ping = async move {
            client.execute(KeepaliveSpec::with_timeout(PING_DEADLINE)).await.ok();
        };
        self.accompany(ping);
    }

    /// Gives the connection up without a word: there is nobody who would hear it.
    pub(in crate::session) fn cut(&self) {
        self.progress.cut();
    }

    /// Lets the library log in by itself when a pairing is complete.
    ///
    /// The server then restarts the connection (515), and the client has to remember more of the
    /// pairing than is on disk. Only while a code can be scanned: any other reconnect is ours.
    pub(in crate::session) fn expect_restart(&self, expected: bool) {
        self.client.enable_auto_reconnect.store(expected, Ordering::Relaxed);
    }

    /// Makes the credentials of a pairing durable.
    ///
    /// The library writes them behind; until they are on disk, a crash would lose the pairing.
    pub(in crate::session) async fn keep_credentials(&self) -> bool {
        self.client.persistence_manager().flush().await.is_ok()
    }

    /// Whose account this is, as far as is known.
    pub(in crate::session) fn account(&self) -> Account {
        translate::account(&self.client.persistence_manager().get_device_snapshot())
    }

    /// Asks for a pairing code and answers it, without keeping the caller. No answer comes when the
    /// link is closed before.
    pub(in crate::session) fn pair(
        &self,
        phone_number: String,
        clock: Clock,
        answer: impl FnOnce(Result<PairingCode, PairError>) + Send + 'static,
    ) {
        let sender = self.sender();
        self.accompany(async move { answer(sender.pair(phone_number, &clock).await) });
    }

    /// Asks which media hosts there are, without keeping the caller. No answer comes when the link is closed
    /// before.
    pub(in crate::session) fn media_hosts(&self, answer: oneshot::Sender<Vec<String>>) {
        let client = Arc::clone(&self.client);
        // Whoever asked may have given up; that is its right.
        self.accompany(async move {
            answer.send(media::hosts(&client).await).ok();
        });
    }

    /// Asks the phone to upload media again, in the same way.
    pub(in crate::session) fn renew_media(
        &self,
        renewal: Renewal,
        answer: oneshot::Sender<Result<String, MediaError>>,
    ) {
        let client = Arc::clone(&self.client);
        self.accompany(async move {
            answer.send(media::renew(&client, &renewal).await).ok();
        });
    }

    /// Does something beside, for as long as the link is not closed.
    pub(in crate::session) fn accompany(&self, work: impl Future<Output = ()> + Send + 'static) {
        let (stop, work) = (self.stop.clone(), self.tasks.beside(work));
        self.tracker.spawn(
            async move {
                stop.run_until_cancelled(work).await;
            }
            .in_current_span(),
        );
    }

    /// Something that can send while the link is up.
    pub(in crate::session) fn sender(&self) -> Sender {
        Sender {
            client: Arc::clone(&self.client),
            progress: self.progress.clone(),
            barrier: self.barrier.clone(),
        }
    }

    /// What was received and is not recorded yet: who records facts settles them here.
    pub(in crate::session) fn unrecorded(&self) -> &Unrecorded {
        &self.unrecorded
    }

    /// Unlinks this device at WhatsApp. True when WhatsApp could be told.
    ///
    /// Facts must be recorded meanwhile: no frame leaves before what was received is.
    pub(in crate::session) fn logout(&self) -> impl Future<Output = bool> + Send + 'static {
        let client = Arc::clone(&self.client);
        async move {
            let device = client.persistence_manager().get_device_snapshot();
            let Some(jid) = device.pn.as_ref().filter(|_| client.is_logged_in()) else {
                return false;
            };
            // Not the library's own logout, which does not say what WhatsApp answered.
            let told = client.execute(RemoveCompanionDeviceSpec::new(jid));
            matches!(tokio::time::timeout(LOGOUT_DEADLINE, told).await, Ok(Ok(())))
        }
    }

    /// Closes the client in good order: what it holds is written, then the socket is closed. What it has read by then
    /// is recorded, or set aside.
    ///
    /// Returns when its task has ended, so that the device may be opened again. A client that does
    /// not end in time is abandoned, with its task aborted.
    pub(in crate::session) async fn close(mut self) {
        moment!("session.closing");
        self.stop.cancel();
        // Also when it has ended by itself: what it holds in memory is still to be written.
        let closed = tokio::time::timeout(CLOSE_DEADLINE, async {
            late!("session.close");
            self.tasks.beside(disconnected(&self.client)).await;
            self.run_ended().await;
            if let Some(history) = self.history.take() {
                // It has been told to stop; a panic has been reported.
                history.await.ok();
            }
            nothing_in_hand(&self.tasks, &self.barrier).await;
        })
        .await;
        if closed.is_err() {
            tracing::error!("A client did not close in time and was aborted");
            if let Some(history) = self.history.take() {
                history.abort();
            }
            if let Some(run) = self.run.take() {
                run.abort();
                // Cancelled, as it was told to.
                run.await.ok();
            }
        }
        self.barrier.end();
        moment!("session.closed");
    }
}

/// Closes the socket. What the client holds in memory is written with it, so this is work that others may wait for.
fn disconnected(client: &Arc<Client>) -> impl Future<Output = ()> + Send + use<> {
    let client = Arc::clone(client);
    async move { client.disconnect().await }
}

/// Waits until the library's tasks are done with the messages that they were at when their client closed.
///
/// They outlive it. Of a message that was decrypted the ratchet may be on disk, and when WhatsApp delivers it again it
/// cannot be read: from here on nobody may write for this session any more, and what was read would be gone.
///
/// Nor may a ratchet be written any more that the client has handed over: whoever opens the device next reads what is there.
async fn nothing_in_hand(tasks: &Tasks, barrier: &Barrier) {
    let done = async {
        tasks.quiet().await;
        // Whoever is with the hook waits for the database. When it is back it may go on.
        while !barrier.unrecorded().unhooked().await {
            tasks.quiet().await;
        }
        barrier.ratchets_written().await;
    };
    if tokio::time::timeout(IN_HAND, done).await.is_err() {
        tracing::error!("A client that has closed is not done with what it has received");
    }
}

/// A link that is dropped without being closed, by a panic, closes in the background. Its device is
/// not opened before that is done.
impl Drop for Link {
    fn drop(&mut self) {
        self.stop.cancel();
        let Some(mut run) = self.run.take() else { return };
        let (client, device_id) = (Arc::clone(&self.client), self.device_id);
        let (tasks, barrier) = (self.tasks.clone(), self.barrier.clone());
        let (closing, closed) = (Arc::clone(&self.closing), CancellationToken::new());
        locked(&closing).insert(device_id, closed.clone());
        self.tracker.spawn(async move {
            let in_order = async {
                tasks.beside(disconnected(&client)).await;
                (&mut run).await.ok();
                nothing_in_hand(&tasks, &barrier).await;
            };
            if tokio::time::timeout(CLOSE_DEADLINE, in_order).await.is_err() {
                run.abort();
                run.await.ok();
            }
            barrier.end();
            locked(&closing).remove(&device_id);
            closed.cancel();
        });
    }
}
