//! Sending what is stored as queued, the oldest first.
//!
//! A message is a row before it is anything else, with the id that WhatsApp will know it by. So a
//! send that was cut off is repeated under the same id, and who has it already recognises it.
//!
//! - `worker.rs` sends while a connection is there.
//! - `traffic.rs` knows what is on its way, and what has to wait.
//! - `retry.rs` says when something is sent again that WhatsApp has not taken.

mod retry;
mod traffic;
mod worker;

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use entity::{
    id::{MessageId, SessionKey},
    state::SessionStatus,
};
use tokio::{
    sync::{Notify, oneshot},
    task::JoinHandle,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::Instrument as _;

pub(super) use self::retry::passes;
pub use self::worker::NOT_ON_WHATSAPP;
use self::{
    retry::Refusal,
    traffic::Traffic,
    worker::{Worker, warn_of},
};
use super::{
    Error,
    client::{SendError, Sender, Tasks},
    ingest::Ingest,
};
use crate::{
    event::{Ack, AckLevel},
    store::{Store, messages::PutOff},
};

/// A caller who waits for a message to be on its way.
type Answer = oneshot::Sender<Result<(), Error>>;

/// The outbox of one session. Works while a connection lends it a sender.
#[derive(Debug)]
pub(super) struct Outbox {
    shared: Arc<Shared>,
    open: Option<Open>,
}

/// What an outbox and its worker share.
#[derive(Debug)]
struct Shared {
    store: Store,
    ingest: Ingest,
    key: SessionKey,
    stats: SendStats,
    waiting: Mutex<HashMap<MessageId, Answer>>,
    traffic: Mutex<Traffic>,
    /// Rung when there may be something to send.
    bell: Notify,
}

/// The worker of one connection.
#[derive(Debug)]
struct Open {
    /// Nothing new is begun.
    stop: CancellationToken,
    task: JoinHandle<()>,
}

/// What WhatsApp did not take, over all sessions of a process. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct SendStats(Arc<Counts>);

#[derive(Debug, Default)]
struct Counts {
    put_off: AtomicU64,
    unconfirmed: AtomicU64,
}

impl SendStats {
    fn unconfirmed(&self) {
        self.0.unconfirmed.fetch_add(1, Ordering::Relaxed);
    }

    /// How often WhatsApp has refused a message for the moment.
    pub fn times_put_off(&self) -> u64 {
        self.0.put_off.load(Ordering::Relaxed)
    }

    /// How often WhatsApp has not acknowledged a message in time.
    pub fn times_unconfirmed(&self) -> u64 {
        self.0.unconfirmed.load(Ordering::Relaxed)
    }
}

impl Outbox {
    pub(super) fn new(store: Store, ingest: Ingest, key: SessionKey, stats: SendStats) -> Self {
        let shared = Shared {
            store,
            ingest,
            key,
            stats,
            waiting: Mutex::default(),
            traffic: Mutex::default(),
            bell: Notify::new(),
        };
        Self { shared: Arc::new(shared), open: None }
    }

    /// A caller has stored a message and wants to know when it is on its way.
    pub(super) fn expect(&self, message: MessageId, answer: Answer) {
        if self.open.is_none() {
            // The caller may have given up; that is its right.
            answer.send(Err(not_connected())).ok();
            return;
        }
        self.shared.waiting().insert(message, answer);
        self.shared.hold_up();
        self.shared.bell.notify_one();
    }

    /// The session is connected: send what is queued, and whatever comes, until it is closed.
    pub(super) fn open(&mut self, sender: Sender, tasks: &Tasks, tracker: &TaskTracker) {
        self.close();
        let stop = CancellationToken::new();
        let worker = Worker { shared: Arc::clone(&self.shared), sender };
        // One that panics has the connection closed; the next one goes on where it was.
        let work = tasks.beside(worker.run(stop.clone()));
        let task = tracker.spawn(work.in_current_span());
        self.open = Some(Open { stop, task });
    }

    /// WhatsApp or a recipient has said how far a message has come.
    pub(super) fn settled(&self, ack: &Ack) {
        self.shared.traffic().settled(&ack.wa_id, ack.level > AckLevel::Error);
        self.shared.bell.notify_one();
    }

    /// WhatsApp does not take a message that was sent, for the moment. False when that was the last
    /// time: it has failed.
    pub(super) async fn put_off(&self, refused: &Ack, code: u16) -> bool {
        let why = Refusal { code, after: None };
        let now = self.shared.ingest.now();
        let Some((flight, put_off)) = self.shared.traffic().refused(&refused.wa_id, why, now)
        else {
            // None of ours, as what a recipient asked to have again.
            return true;
        };
        let is_last = put_off.is_none();
        if let Some(put_off) = put_off {
            self.shared.queue_again(&flight.row.id, put_off).await;
        }
        self.shared.hold_up();
        self.shared.bell.notify_one();
        !is_last
    }

    /// The session is to stop while it is connected: what is being sent is sent, as far as that
    /// takes no longer than `grace`; nothing new is begun.
    pub(super) async fn drain(&mut self, grace: Duration) {
        if let Some(open) = &mut self.open {
            open.stop.cancel();
            // If it takes longer, it is cut off, and sent again under its id by the next start.
            tokio::time::timeout(grace, &mut open.task).await.ok();
        }
        self.close();
    }

    /// The connection is gone. Rows that are not sent stay queued; who waits is told.
    pub(super) fn close(&mut self) {
        if let Some(open) = self.open.take() {
            open.stop.cancel();
            open.task.abort();
        }
        for (_, answer) in self.shared.waiting().drain() {
            answer.send(Err(not_connected())).ok();
        }
    }
}

impl Shared {
    fn waiting(&self) -> MutexGuard<'_, HashMap<MessageId, Answer>> {
        // Nothing panics while it holds this lock.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn traffic(&self) -> MutexGuard<'_, Traffic> {
        self.traffic.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn answer(&self, id: &MessageId, answer: Result<(), Error>) {
        self.traffic().departed();
        if let Some(waiting) = self.waiting().remove(id) {
            waiting.send(answer).ok();
        }
    }

    /// Tells who waits, if nothing is sent for a while. Not whose message is leaving: it may be with
    /// WhatsApp, and must not be taken back.
    fn hold_up(&self) {
        let now = self.ingest.now();
        let traffic = self.traffic();
        let Some((until, Refusal { code, .. })) = traffic.pause(now) else { return };
        let after = Some(until.since(now));
        for (_, answer) in self.waiting().extract_if(|id, _| !traffic.is_current(id)) {
            answer.send(Err(Error::Send(SendError::PutOff { code, after }))).ok();
        }
    }

    /// A message is sent again later.
    async fn queue_again(&self, id: &MessageId, put_off: PutOff) {
        if put_off.next_attempt_at.is_some() {
            self.stats.0.put_off.fetch_add(1, Ordering::Relaxed);
            tracing::warn!(
                message.id = %id,
                code = put_off.error,
                times = put_off.failed_attempts,
                "WhatsApp does not take a message for the moment"
            );
        }
        if let Err(error) = self.store.messages().put_off(id, put_off).await {
            warn_of(&error);
        }
    }
}

/// Also when the session's task panics: its worker would wait for ever, and hold the client.
impl Drop for Outbox {
    fn drop(&mut self) {
        self.close();
    }
}

fn not_connected() -> Error {
    Error::NotConnected { status: SessionStatus::Connecting }
}
