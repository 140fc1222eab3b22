//! Sending what is stored as queued, one after another.
//!
//! A message is a row before it is anything else, with the id that WhatsApp will know it by. So a
//! send that was cut off is repeated under the same id, and who has it already recognises it.

use std::{collections::HashMap, ops::ControlFlow, sync::Arc, time::Duration};

use entity::{
    id::{MessageId, SessionKey},
    message,
    state::{Direction, MessageStatus, SessionStatus},
};
use tokio::{
    sync::{Notify, oneshot},
    task::JoinHandle,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::Instrument as _;

use super::{
    Error,
    client::{SendError, Sender},
    ingest::Ingest,
};
use crate::{
    event::{Event, NewMessage},
    fault::moment,
    store::{self, Store},
};

/// Rows taken from the table at a time.
const BATCH: u64 = 50;

/// How long to wait before what could not be sent over a connection that is still there is sent again.
const AGAIN_AFTER: Duration = Duration::from_secs(5);

/// Callers who wait for a message of theirs to be on its way.
type Waiting = Arc<std::sync::Mutex<HashMap<MessageId, oneshot::Sender<Result<(), Error>>>>>;

/// The outbox of one session. Works while a connection lends it a sender.
#[derive(Debug)]
pub(super) struct Outbox {
    store: Store,
    ingest: Ingest,
    key: SessionKey,
    waiting: Waiting,
    /// Rung when there may be something to send.
    bell: Arc<Notify>,
    open: Option<Open>,
}

/// The worker of one connection.
#[derive(Debug)]
struct Open {
    /// Nothing new is begun.
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Outbox {
    pub(super) fn new(store: Store, ingest: Ingest, key: SessionKey) -> Self {
        Self { store, ingest, key, waiting: Waiting::default(), bell: Arc::default(), open: None }
    }

    /// A caller has stored a message and wants to know when it is on its way.
    pub(super) fn expect(&self, message: MessageId, answer: oneshot::Sender<Result<(), Error>>) {
        if self.open.is_none() {
            // The caller may have given up; that is its right.
            answer.send(Err(not_connected())).ok();
            return;
        }
        self.lock().insert(message, answer);
        self.bell.notify_one();
    }

    /// The session is connected: send what is queued, and whatever comes, until it is closed.
    pub(super) fn open(&mut self, sender: Sender, tracker: &TaskTracker) {
        self.close();
        let stop = CancellationToken::new();
        let worker = Worker {
            store: self.store.clone(),
            ingest: self.ingest.clone(),
            key: self.key.clone(),
            waiting: Arc::clone(&self.waiting),
            bell: Arc::clone(&self.bell),
            sender,
        };
        let task = tracker.spawn(worker.run(stop.clone()).in_current_span());
        self.open = Some(Open { stop, task });
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
        for (_, answer) in self.lock().drain() {
            answer.send(Err(not_connected())).ok();
        }
    }

    fn lock(
        &self,
    ) -> std::sync::MutexGuard<'_, HashMap<MessageId, oneshot::Sender<Result<(), Error>>>> {
        // Nothing panics while it holds this lock.
        self.waiting.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
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

struct Worker {
    store: Store,
    ingest: Ingest,
    key: SessionKey,
    waiting: Waiting,
    bell: Arc<Notify>,
    sender: Sender,
}

impl Worker {
    /// Works until it is stopped. A connection that is gone stops it; one that is still there, over
    /// which a question was not answered, is tried again in a while.
    async fn run(self, stop: CancellationToken) {
        // What was being sent when a connection or a process ended is sent again, under its id.
        if let Err(error) = self.store.messages().requeue_sending(&self.key).await {
            warn_of(&error);
        }
        while let ControlFlow::Continue(unsent) = self.work(&stop).await {
            let again = self.ingest.sleep_until(self.ingest.now() + AGAIN_AFTER);
            if stop.run_until_cancelled(again).await.is_none() {
                return;
            }
            if let Some(id) = unsent
                && let Err(error) = self.store.messages().requeue(&id).await
            {
                warn_of(&error);
            }
        }
    }

    /// Sends until it is stopped, which breaks, or something is in the way; perhaps of a message that
    /// may or may not have left.
    async fn work(&self, stop: &CancellationToken) -> ControlFlow<(), Option<MessageId>> {
        loop {
            // Registered before the table is read, so that a ring in between is not missed.
            let rung = self.bell.notified();
            match self.store.messages().queued(&self.key, BATCH).await {
                Ok(rows) if rows.is_empty() => {
                    if stop.run_until_cancelled(rung).await.is_none() {
                        return ControlFlow::Break(());
                    }
                }
                Ok(rows) => {
                    for row in rows {
                        if stop.is_cancelled() {
                            return ControlFlow::Break(());
                        }
                        if let ControlFlow::Break(unsent) = self.send(row).await {
                            return ControlFlow::Continue(unsent);
                        }
                    }
                }
                Err(error) => {
                    warn_of(&error);
                    return ControlFlow::Continue(None);
                }
            }
        }
    }

    /// Sends one message. Breaks when there is no point in sending the next one yet.
    async fn send(&self, row: message::Model) -> ControlFlow<Option<MessageId>> {
        match self.store.messages().mark_sending(&row.id).await {
            Ok(true) => {}
            // Withdrawn by whoever queued it.
            Ok(false) => return ControlFlow::Continue(()),
            Err(error) => {
                warn_of(&error);
                return ControlFlow::Break(None);
            }
        }
        moment!("outbound.marked");
        let id = row.id.clone();
        match self.sender.send(&row).await {
            Ok(()) => {
                moment!("outbound.handed_over");
                let announced = self.ingest.record(Event::Message(Box::new(sent(row)))).await;
                moment!("outbound.announced");
                self.answer(&id, announced.map(|_| ()).map_err(Error::Store));
                ControlFlow::Continue(())
            }
            Err(SendError::NotConnected) => {
                // It may or may not have left: it is queued again later, or by the next connection.
                self.answer(&id, Err(not_connected()));
                ControlFlow::Break(Some(id))
            }
            Err(error) => {
                tracing::warn!(
                    message.id = %id,
                    error = &error as &dyn std::error::Error,
                    "A message cannot be sent"
                );
                if let Err(error) = self.store.messages().mark_failed(&id, "not_sendable").await {
                    warn_of(&error);
                }
                self.answer(&id, Err(Error::Send(error)));
                ControlFlow::Continue(())
            }
        }
    }

    fn answer(&self, id: &MessageId, answer: Result<(), Error>) {
        let waiting =
            self.waiting.lock().unwrap_or_else(std::sync::PoisonError::into_inner).remove(id);
        if let Some(waiting) = waiting {
            waiting.send(answer).ok();
        }
    }
}

fn warn_of(error: &store::Error) {
    tracing::warn!(error = error as &dyn std::error::Error, "The outbox could not be worked on");
}

/// The message as the event of its sending announces it.
fn sent(row: message::Model) -> NewMessage {
    NewMessage {
        is_group: row.chat.ends_with("@g.us"),
        id: row.id,
        wa_id: row.wa_id,
        chat: row.chat,
        sender: row.sender,
        direction: Direction::Outbound,
        kind: row.kind,
        body: row.body,
        target_wa_id: row.target_wa_id,
        raw: None,
        push_name: None,
        sent_at: row.created_at,
        offline: false,
        status: MessageStatus::Sending,
    }
}
