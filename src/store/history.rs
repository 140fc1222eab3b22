//! Messages of the past: stored beside the live ones, and nothing else.
//!
//! They pass the same key that makes a redelivery recognisable, so whatever came live stays what it
//! is. No event is recorded, no session counts as active, nothing is owed to anybody.

use std::sync::Arc;

use entity::{
    id::{OrganizationId, SessionKey},
    message, session,
};
use sea_orm::{EntityTrait, IntoActiveModel, QueryFilter, sea_query::OnConflict};

use super::{
    Error, Store, events, secrets,
    sessions::{is_there, own_address},
    writer::Patience,
};
use crate::event::HistoryMessage;

/// Commands over messages of the past.
#[derive(Clone, Debug)]
pub struct History {
    store: Store,
}

impl History {
    pub(super) const fn new(store: Store) -> Self {
        Self { store }
    }

    /// Stores messages of one session, and says how many of them were new.
    ///
    /// Waits for a database that is away. A session that has been deleted takes none.
    pub async fn import(
        &self,
        organization: OrganizationId,
        session: SessionKey,
        mut messages: Vec<HistoryMessage>,
    ) -> Result<u64, Error> {
        let sealer = self.store.sealer(&organization, Patience::Wait).await?;
        for HistoryMessage { message, .. } in &mut messages {
            message.make_storable();
            let dedupe_key = message.dedupe_key();
            if let Some(raw) = &mut message.raw {
                *raw = secrets::seal_raw(&sealer, &session, &dedupe_key, raw);
            }
        }
        let messages: Arc<[HistoryMessage]> = messages.into();
        let now = self.store.clock().now();
        let lane = session.to_string();
        self.store
            .writer()
            .run(&lane, Patience::Wait, move |txn| {
                let (organization, session) = (organization.clone(), session.clone());
                let messages = Arc::clone(&messages);
                Box::pin(async move {
                    if messages.is_empty() {
                        return Ok(0);
                    }
                    let found = session::Entity::find_by_id(session.clone()).filter(is_there());
                    let Some(of) = found.one(txn).await? else { return Ok(0) };
                    let own = own_address(&of);
                    let rows = messages.iter().map(|HistoryMessage { message, ack }| {
                        // As old as they are: lists show them where they belong.
                        let at = message.sent_at.min(now);
                        let whose = (organization.clone(), session.clone());
                        let row =
                            events::row(whose.0, whose.1, message.clone(), own.as_deref(), at);
                        message::Model { history: true, ack: *ack, updated_at: now, ..row }
                            .into_active_model()
                    });
                    message::Entity::insert_many(rows)
                        .on_conflict(
                            OnConflict::columns([
                                message::Column::SessionKey,
                                message::Column::DedupeKey,
                            ])
                            .do_nothing()
                            .to_owned(),
                        )
                        .exec_without_returning(txn)
                        .await
                })
            })
            .await
    }
}
