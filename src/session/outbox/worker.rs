//! What sends, while a connection is there.

use std::{ops::ControlFlow, sync::Arc, time::Duration};

use entity::{UnixMillis, id::MessageId, message};
use tokio_util::sync::CancellationToken;

use super::{
    Shared, not_connected,
    retry::{Refusal, UNCONFIRMED},
    traffic::{Flight, LOOK},
};
use crate::{
    event::{Ack, AckLevel, Event, NewMessage},
    fault::moment,
    session::{
        Error,
        client::{SendError, Sender},
    },
    store,
};

/// Rows taken from the table at a time.
const BATCH: u64 = 50;

/// Rows taken over from another session at a time: a few milliseconds of the writer's.
const ADOPTED: u64 = 200;

/// How long to wait before what could not be sent over a connection that is still there is sent again.
const AGAIN_AFTER: Duration = Duration::from_secs(5);

/// The word for a message that is wrong by itself.
const NOT_SENDABLE: &str = "not_sendable";

/// The word for a message to a number that nobody on WhatsApp has.
pub const NOT_ON_WHATSAPP: &str = "not_on_whatsapp";

/// Sends over one connection.
pub(super) struct Worker {
    pub(super) shared: Arc<Shared>,
    pub(super) sender: Sender,
}

impl Worker {
    /// Works until it is stopped. A connection that is gone stops it; one that is still there, over
    /// which a question was not answered, is tried again in a while.
    pub(super) async fn run(self, stop: CancellationToken) {
        self.reopen().await;
        while let ControlFlow::Continue(unsent) = self.work(&stop).await {
            let again = self.shared.ingest.sleep_until(self.now() + AGAIN_AFTER);
            if stop.run_until_cancelled(again).await.is_none() {
                return;
            }
            if let Some(id) = unsent {
                if let Err(error) = self.shared.store.messages().requeue(&id).await {
                    warn_of(&error);
                }
                self.shared.traffic().forget(&id);
            }
        }
    }

    fn now(&self) -> UnixMillis {
        self.shared.ingest.now()
    }

    /// What was being sent when a connection or a process ended is sent again, under its id; what was
    /// put off stays so.
    async fn reopen(&self) {
        let messages = self.shared.store.messages();
        self.adopt().await;
        if let Err(error) = messages.requeue_sending(&self.shared.key).await {
            warn_of(&error);
        }
        match messages.put_off_until_later(&self.shared.key).await {
            Ok(put_off) => self.shared.traffic().reopen(put_off),
            Err(error) => warn_of(&error),
        }
    }

    /// Takes over what waits in sessions that have handed over to this one: the account is the same, and so
    /// is the id that each is sent under. Bite by bite, so that nobody else who writes waits for it.
    async fn adopt(&self) {
        let messages = self.shared.store.messages();
        loop {
            match messages.adopt(&self.shared.key, ADOPTED).await {
                Ok(0) => return,
                Ok(_) => {
                    moment!("outbound.adopted");
                }
                Err(error) => return warn_of(&error),
            }
        }
    }

    /// Sends until it is stopped, which breaks, or something is in the way; perhaps of a message that
    /// may or may not have left.
    async fn work(&self, stop: &CancellationToken) -> ControlFlow<(), Option<MessageId>> {
        let mut look = self.now() + LOOK;
        loop {
            // Registered before the table is read, so that a ring in between is not missed.
            let rung = self.shared.bell.notified();
            // One time for all questions, so that no wait ends unseen between two of them.
            let now = self.now();
            if now >= look {
                look = now + LOOK;
                self.look().await;
            }
            let rows = match self.sendable(now).await {
                Ok(rows) => rows,
                Err(error) => {
                    warn_of(&error);
                    return ControlFlow::Continue(None);
                }
            };
            let mut begun = false;
            for row in rows {
                if stop.is_cancelled() {
                    return ControlFlow::Break(());
                }
                // What was sent before it may be in its way.
                if !self.may_send(&row, now) {
                    continue;
                }
                begun = true;
                if let ControlFlow::Break(unsent) = self.send(row).await {
                    return ControlFlow::Continue(unsent);
                }
            }
            if begun {
                continue;
            }
            tokio::select! {
                () = stop.cancelled() => return ControlFlow::Break(()),
                () = rung => {}
                () = self.change(now, look) => {}
            }
        }
    }

    /// Returns when something may have changed by itself.
    async fn change(&self, now: UnixMillis, look: UnixMillis) {
        let (next, is_empty) = {
            let traffic = self.shared.traffic();
            (traffic.next_change(now), traffic.is_empty())
        };
        let look = (!is_empty).then_some(look);
        match next.into_iter().chain(look).min() {
            Some(at) => self.shared.ingest.sleep_until(at).await,
            None => std::future::pending().await,
        }
    }

    /// Messages that may be sent at the moment, the oldest first.
    async fn sendable(&self, now: UnixMillis) -> Result<Vec<message::Model>, store::Error> {
        let busy: Vec<String> = {
            let mut traffic = self.shared.traffic();
            if traffic.room(now) == 0 {
                return Ok(Vec::new());
            }
            traffic.busy(now).into_iter().collect()
        };
        self.shared.store.messages().queued(&self.shared.key, &busy, BATCH).await
    }

    fn may_send(&self, row: &message::Model, now: UnixMillis) -> bool {
        let mut traffic = self.shared.traffic();
        traffic.room(now) > 0 && !traffic.busy(now).contains(&row.chat)
    }

    /// Sends one message. Breaks when there is no point in sending the next one yet.
    async fn send(&self, row: message::Model) -> ControlFlow<Option<MessageId>> {
        match self.shared.store.messages().mark_sending(&row.id).await {
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
        // The answer may be there before we know that it was asked for.
        self.shared.traffic().depart(row.clone());
        match self.sender.send(&row).await {
            Ok(()) => {
                moment!("outbound.handed_over");
                self.shared.traffic().written(&row.wa_id);
                let announced = self
                    .shared
                    .ingest
                    .record(Event::Message(Box::new(NewMessage::sent_here(row))))
                    .await;
                moment!("outbound.announced");
                self.shared.answer(&id, announced.map(|_| ()).map_err(Error::Store));
                ControlFlow::Continue(())
            }
            Err(SendError::NotConnected) => {
                // It may or may not have left: it is queued again later, or by the next connection.
                self.shared.answer(&id, Err(not_connected()));
                ControlFlow::Break(Some(id))
            }
            Err(SendError::PutOff { code, after }) => {
                self.put_off(row, Refusal { code, after }).await;
                self.shared.answer(&id, Err(Error::Send(SendError::PutOff { code, after })));
                ControlFlow::Continue(())
            }
            Err(error) => {
                tracing::warn!(
                    message.id = %id,
                    error = &error as &dyn std::error::Error,
                    "A message cannot be sent"
                );
                self.shared.traffic().settled(&row.wa_id, false);
                let word = match error {
                    SendError::NotOnWhatsApp => NOT_ON_WHATSAPP,
                    _ => NOT_SENDABLE,
                };
                self.fail(row, word).await;
                self.shared.answer(&id, Err(Error::Send(error)));
                ControlFlow::Continue(())
            }
        }
    }

    /// WhatsApp does not want to answer what a message needs to be asked for, for the moment.
    async fn put_off(&self, row: message::Model, why: Refusal) {
        let refused = self.shared.traffic().refused(&row.wa_id, why, self.now());
        let put_off = refused.and_then(|(_, put_off)| put_off);
        match put_off {
            Some(put_off) => self.shared.queue_again(&row.id, put_off).await,
            None => self.fail(row, &why.code.to_string()).await,
        }
        self.shared.hold_up();
    }

    /// Sends again what should have been acknowledged long ago, or gives it up.
    async fn look(&self) {
        let late = self.shared.traffic().look();
        for (Flight { row, .. }, put_off) in late {
            tracing::warn!(
                message.id = %row.id,
                again = put_off.is_some(),
                "WhatsApp has not acknowledged a message"
            );
            self.shared.stats.unconfirmed();
            match put_off {
                Some(put_off) => self.shared.queue_again(&row.id, put_off).await,
                None => self.fail(row, UNCONFIRMED).await,
            }
        }
    }

    /// A message has failed, as far as we know.
    async fn fail(&self, row: message::Model, error: &str) {
        let now = self.now();
        let failed = Ack {
            wa_id: row.wa_id.clone(),
            by: row.chat.clone(),
            chat: row.chat.clone(),
            level: AckLevel::Error,
            error: Some(error.to_owned()),
            at: now,
        };
        // Whoever hears that it has failed has heard of it; to have it announced twice is nothing.
        let sent = Event::Message(Box::new(NewMessage::sent_here(row)));
        self.shared.ingest.say_all([(now, sent), (now, Event::Ack(failed))]).await;
    }
}

pub(super) fn warn_of(error: &store::Error) {
    tracing::warn!(error = error as &dyn std::error::Error, "The outbox could not be worked on");
}
