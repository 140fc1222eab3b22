//! What the database holds already.

use std::collections::{HashMap, HashSet};

use entity::{
    event,
    id::{MessageId, SessionKey},
    message, session,
    state::{Direction, MessageStatus},
};
use sea_orm::{ColumnTrait, DatabaseTransaction, DbErr, EntityTrait, QueryFilter, QuerySelect};

use super::{CHUNK, NewEvent};
use crate::event::{Ack, Event};

/// What the database already holds of what a group of events is about.
pub(super) struct Present {
    pub(super) sessions: HashMap<SessionKey, session::Model>,
    pub(super) recorded: HashSet<(SessionKey, String)>,
    /// The level that outbound messages have reached, by WhatsApp's id.
    pub(super) levels: HashMap<(SessionKey, String), Reached>,
}

/// How far an outbound message has come.
#[derive(Clone, Debug, Default)]
pub(super) struct Reached {
    /// The message's own id.
    pub(super) id: Option<MessageId>,
    pub(super) level: i16,
    /// It was sent here, and nobody was told yet that WhatsApp has it.
    pub(super) unsent: bool,
}

impl Present {
    pub(super) async fn read(
        txn: &DatabaseTransaction,
        events: &[&NewEvent],
    ) -> Result<Self, DbErr> {
        let keys: HashSet<_> = events.iter().map(|event| event.session_key.clone()).collect();
        let sessions = session::Entity::find()
            .filter(session::COLUMN.id.is_in(keys.iter().cloned()))
            .all(txn)
            .await?
            .into_iter()
            .map(|row| (row.id.clone(), row))
            .collect();

        let dedupe_keys: Vec<_> = events
            .iter()
            .flat_map(|event| [event.dedupe_key(), event.superseding_key()])
            .flatten()
            .collect();
        let mut recorded = HashSet::new();
        for chunk in dedupe_keys.chunks(CHUNK) {
            let found: Vec<(SessionKey, String)> = event::Entity::find()
                .select_only()
                .column(event::Column::SessionKey)
                .column(event::Column::DedupeKey)
                .filter(event::COLUMN.session_key.is_in(keys.iter().cloned()))
                .filter(event::COLUMN.dedupe_key.is_in(chunk.iter().cloned()))
                .into_tuple()
                .all(txn)
                .await?;
            recorded.extend(found);
        }

        let acked: Vec<_> = events.iter().filter_map(|event| ack(event)).collect();
        let mut levels = HashMap::new();
        for chunk in acked.chunks(CHUNK) {
            let found: Vec<(MessageId, SessionKey, String, i16, MessageStatus)> =
                message::Entity::find()
                    .select_only()
                    .column(message::Column::Id)
                    .column(message::Column::SessionKey)
                    .column(message::Column::WaId)
                    .column(message::Column::Ack)
                    .column(message::Column::Status)
                    .filter(message::COLUMN.session_key.is_in(keys.iter().cloned()))
                    .filter(message::COLUMN.wa_id.is_in(chunk.iter().map(|ack| ack.wa_id.clone())))
                    .filter(message::COLUMN.direction.eq(Direction::Outbound))
                    .into_tuple()
                    .all(txn)
                    .await?;
            levels.extend(found.into_iter().map(|(id, session, wa_id, level, status)| {
                // What a phone sent is `sent` from the start.
                let unsent = level <= 0 && status != MessageStatus::Sent;
                ((session, wa_id), Reached { id: Some(id), level, unsent })
            }));
        }
        Ok(Self { sessions, recorded, levels })
    }
}

impl Present {
    /// Our own id of the message that an event acknowledges.
    pub(super) fn acknowledged(&self, event: &NewEvent) -> Option<&MessageId> {
        let Event::Ack(ack) = &event.event else { return None };
        self.levels.get(&(event.session_key.clone(), ack.wa_id.clone()))?.id.as_ref()
    }
}

fn ack<'a>(event: &'a &NewEvent) -> Option<&'a Ack> {
    match &event.event {
        Event::Ack(ack) => Some(ack),
        _ => None,
    }
}
