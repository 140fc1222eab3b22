//! The way of a session's facts into the database.

use entity::{
    UnixMillis,
    id::{OrganizationId, SessionKey},
};
use futures_util::future::{join_all, try_join_all};

use crate::{
    clock::Clock,
    event::{Care, Event, HistoryMessage, NewMessage},
    store::{
        self, Patience, Store,
        events::{NewEvent, Recorded},
    },
};

/// Records what happens on one session. Cheap to clone.
///
/// Waits for a lost database: what WhatsApp told us is not dropped because the disk is full.
#[derive(Clone, Debug)]
pub(super) struct Ingest {
    store: Store,
    clock: Clock,
    organization_id: OrganizationId,
    session_key: SessionKey,
    /// The run that these facts come from.
    generation: i64,
}

impl Ingest {
    pub(super) fn new(
        store: Store,
        clock: Clock,
        organization_id: OrganizationId,
        session_key: SessionKey,
        generation: i64,
    ) -> Self {
        Self { store, clock, organization_id, session_key, generation }
    }

    pub(super) fn now(&self) -> UnixMillis {
        self.clock.now()
    }

    /// Records one event that happened just now.
    pub(super) async fn record(&self, event: Event) -> Result<Recorded, store::Error> {
        self.record_at(event, self.now(), None).await
    }

    /// The same, with what is to be remembered of the session's troubles from now on.
    pub(super) async fn record_with(
        &self,
        event: Event,
        care: Care,
    ) -> Result<Recorded, store::Error> {
        self.record_at(event, self.now(), Some(care)).await
    }

    async fn record_at(
        &self,
        event: Event,
        at: UnixMillis,
        care: Option<Care>,
    ) -> Result<Recorded, store::Error> {
        let new = NewEvent {
            organization_id: self.organization_id.clone(),
            session_key: self.session_key.clone(),
            generation: Some(self.generation),
            event,
            at,
            care,
            posted: None,
        };
        self.store.writer().record(new, Patience::Wait).await
    }

    /// Records one event that happened just now; a failure is logged, for there is nobody to tell.
    pub(super) async fn say(&self, event: Event) {
        self.say_all([(self.now(), event)]).await;
    }

    /// Records one event with what is to be remembered from now on. False when that failed, which is logged: what the
    /// session's status says is not true, then, until somebody says it again.
    pub(super) async fn say_with(&self, event: Event, care: Care) -> bool {
        complain(self.record_with(event, care).await)
    }

    /// The same, with nothing to be remembered.
    pub(super) async fn tell(&self, event: Event) -> bool {
        complain(self.record(event).await)
    }

    /// Writes down that the connection has lasted. Whether that could be written.
    pub(super) async fn sound(&self) -> bool {
        self.store.sessions().note_sound(&self.session_key).await.is_ok()
    }

    /// Records events together, in order; failures are logged. False when one is lost with us, and
    /// WhatsApp must not be told that we have it: what the database itself refuses, or cannot do in
    /// time, would be refused again.
    pub(super) async fn say_all(
        &self,
        events: impl IntoIterator<Item = (UnixMillis, Event)>,
    ) -> bool {
        let said = events.into_iter().map(|(at, event)| self.record_at(event, at, None));
        let mut kept = true;
        for recorded in join_all(said).await {
            kept &= is_settled(&recorded);
            complain(recorded);
        }
        kept
    }

    /// Stores messages of the past, and says how many were new. Nobody is told of them.
    pub(super) async fn import(&self, messages: Vec<HistoryMessage>) -> Result<u64, store::Error> {
        let (organization, session) = (self.organization_id.clone(), self.session_key.clone());
        self.store.history().import(organization, session, messages).await
    }

    pub(super) async fn sleep_until(&self, at: UnixMillis) {
        self.clock.sleep_until(at).await;
    }

    /// Records messages, in order. Returns when all of them are durable.
    pub(super) async fn keep(&self, messages: Vec<NewMessage>) -> Result<(), store::Error> {
        // Queued together, so that they share a group; the lane keeps their order.
        let kept = messages.into_iter().map(|message| {
            let at = message.sent_at;
            self.record_at(Event::Message(Box::new(message)), at, None)
        });
        try_join_all(kept).await?;
        Ok(())
    }
}

/// Whether nothing would become of it either if WhatsApp delivered it again: it is kept, or is
/// refused for what it is.
const fn is_settled(recorded: &Result<Recorded, store::Error>) -> bool {
    matches!(recorded, Ok(_) | Err(store::Error::Database(_) | store::Error::TooLong))
}

/// Logs a failure. Whether there was none.
fn complain(recorded: Result<Recorded, store::Error>) -> bool {
    let failed = recorded.inspect_err(|error| {
        tracing::error!(
            error = error as &dyn std::error::Error,
            "What happened on a session could not be recorded"
        );
    });
    failed.is_ok()
}

#[cfg(test)]
mod tests {
    use sea_orm::DbErr;

    use super::*;

    #[test]
    fn a_fact_that_would_be_refused_for_ever_holds_no_frame_back() {
        let failed = || DbErr::Custom("failed".to_owned());
        assert!(is_settled(&Ok(Recorded::Duplicate)));
        for refused in [store::Error::Database(failed()), store::Error::TooLong] {
            assert!(is_settled(&Err(refused)));
        }
        // These are taken when they are delivered again, by whoever is there then.
        for passing in
            [store::Error::Unavailable(failed()), store::Error::LeaseLost, store::Error::Stopped]
        {
            assert!(!is_settled(&Err(passing)));
        }
    }
}
