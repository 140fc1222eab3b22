//! What the database holds already.

use std::collections::{HashMap, HashSet};

use entity::{
    UnixMillis, event,
    id::{MessageId, SessionKey},
    idempotency, message, session,
    state::{Direction, MessageStatus},
};
use sea_orm::{ColumnTrait, DatabaseTransaction, DbErr, EntityTrait, QueryFilter, QuerySelect};

use super::{
    CHUNK, NewEvent,
    early::{self, Early},
    families::Families,
    own::Own,
    reached::Reached,
    room::Room,
};
use crate::{
    event::{Event, status},
    store::sessions::is_there,
};

/// What the database already holds of what a group of events is about.
pub(super) struct Present {
    pub(super) sessions: HashMap<SessionKey, session::Model>,
    /// The same as they were read, of which something is told of the session itself.
    pub(super) before: HashMap<SessionKey, session::Model>,
    /// What has been told already of these sessions, and when it was recorded.
    pub(super) recorded: HashMap<(SessionKey, String), UnixMillis>,
    /// Whose account's a session is.
    pub(super) families: Families,
    /// The level that outbound messages have reached, by WhatsApp's id: the highest that a session has them at, or
    /// another of its family.
    pub(super) levels: Levels,
    /// Messages that may be there as somebody else's, or as the account's.
    pub(super) own: Own,
    /// Acknowledgements that wait for their message.
    pub(super) early: Early,
    /// What requests have said that were called as these are: by the key's row.
    pub(super) requests: HashMap<String, String>,
    /// Whether sessions that have handed over may be at work again.
    pub(super) room: Room,
}

pub(super) type Levels = HashMap<(SessionKey, String), Reached>;

impl Present {
    pub(super) async fn read(
        txn: &DatabaseTransaction,
        events: &[&NewEvent],
    ) -> Result<Self, DbErr> {
        let keys: HashSet<_> = events.iter().map(|event| event.session_key.clone()).collect();
        let sessions: HashMap<_, _> = session::Entity::find()
            .filter(session::COLUMN.id.is_in(keys.iter().cloned()))
            .filter(is_there())
            .all(txn)
            .await?
            .into_iter()
            .map(|row| (row.id.clone(), row))
            .collect();
        let mut before = HashMap::new();
        for event in events.iter().filter(|event| changes_session(event)) {
            if let Some(row) = sessions.get(&event.session_key) {
                before.entry(row.id.clone()).or_insert_with(|| row.clone());
            }
        }

        let dedupe_keys: Vec<_> = events
            .iter()
            .flat_map(|event| [event.dedupe_key(), event.superseding_key()])
            .flatten()
            .collect();
        let mut recorded = HashMap::new();
        for chunk in dedupe_keys.chunks(CHUNK) {
            let found: Vec<(SessionKey, String, UnixMillis)> = event::Entity::find()
                .select_only()
                .column(event::Column::SessionKey)
                .column(event::Column::DedupeKey)
                .column(event::Column::RecordedAt)
                .filter(event::COLUMN.session_key.is_in(keys.iter().cloned()))
                .filter(event::COLUMN.dedupe_key.is_in(chunk.iter().cloned()))
                .into_tuple()
                .all(txn)
                .await?;
            recorded.extend(found.into_iter().map(|(session, key, at)| ((session, key), at)));
        }

        let families = Families::read(txn, &sessions, events).await?;
        let levels = levels(txn, &families, events).await?;
        let own = Own::read(txn, &sessions, &families, events).await?;
        let early = early::read(txn, &sessions, &families, events).await?;
        let requests = requests(txn, events).await?;
        let room = Room::read(txn, &sessions, events).await?;
        Ok(Self { sessions, before, recorded, families, levels, own, early, requests, room })
    }

    /// Our own id of the message that an event acknowledges, or tells of though its row is there.
    pub(super) fn message_of(&self, event: &NewEvent) -> Option<&MessageId> {
        match &event.event {
            Event::Message(message) => self.own.row_of(event, message),
            _ => self.reached(event)?.id.as_ref(),
        }
    }

    /// Whether there is a place for what the session of an event is after it, if it needs one.
    pub(super) fn admits(&self, event: &NewEvent) -> bool {
        let row = self.sessions.get(&event.session_key);
        row.is_none_or(|row| self.room.admits(row, &event.event, &self.sessions))
    }

    /// The conversation of the message that an event acknowledges.
    pub(super) fn acknowledged_chat(&self, event: &NewEvent) -> Option<&str> {
        self.reached(event)?.chat.as_deref()
    }

    fn reached(&self, event: &NewEvent) -> Option<&Reached> {
        let Event::Ack(ack) = &event.event else { return None };
        self.levels.get(&(event.session_key.clone(), ack.wa_id.clone()))
    }
}

/// Whether something of the session itself may come to be known by an event.
fn changes_session(event: &NewEvent) -> bool {
    let is_message = matches!(event.event, Event::Message(_));
    status::is_about_status(&event.event) || (is_message && event.posted.is_some())
}

/// What the messages have reached that are acknowledged. They may be rows of others of the family: of those that have
/// handed over to the one that was told, where they stay, and of the one that it has handed over to itself.
async fn levels(
    txn: &DatabaseTransaction,
    families: &Families,
    events: &[&NewEvent],
) -> Result<Levels, DbErr> {
    let mut levels = Levels::new();
    let acked: Vec<_> =
        events.iter().filter_map(|event| Some((&event.session_key, sought(event)?))).collect();
    let told: HashSet<&SessionKey> = acked.iter().map(|(session, _)| *session).collect();
    // Whose rows count for whom.
    let mut count_for = HashMap::<&SessionKey, Vec<&SessionKey>>::new();
    for session in told {
        for of in families.of(session) {
            count_for.entry(of).or_default().push(session);
        }
    }
    for chunk in acked.chunks(CHUNK) {
        let found: Vec<(MessageId, String, SessionKey, String, i16, MessageStatus)> =
            message::Entity::find()
                .select_only()
                .column(message::Column::Id)
                .column(message::Column::Chat)
                .column(message::Column::SessionKey)
                .column(message::Column::WaId)
                .column(message::Column::Ack)
                .column(message::Column::Status)
                .filter(message::COLUMN.session_key.is_in(count_for.keys().copied().cloned()))
                .filter(message::COLUMN.wa_id.is_in(chunk.iter().map(|(_, wa_id)| *wa_id)))
                .filter(message::COLUMN.direction.eq(Direction::Outbound))
                .into_tuple()
                .all(txn)
                .await?;
        for (id, chat, session, wa_id, level, status) in found {
            // What a phone sent is `sent` from the start.
            let unsent = level <= 0 && status != MessageStatus::Sent;
            let reached = Reached { id: Some(id), chat: Some(chat), level, unsent };
            for of in count_for.get(&session).into_iter().flatten().copied() {
                levels
                    .entry((of.clone(), wa_id.clone()))
                    .and_modify(|it| it.join(&reached, *of == session))
                    .or_insert_with(|| reached.clone());
            }
        }
    }
    Ok(levels)
}

/// The message whose level must be known, by WhatsApp's id: one that is acknowledged, or that came along with an
/// acknowledgement.
pub(super) fn sought<'a>(event: &'a &NewEvent) -> Option<&'a str> {
    match &event.event {
        Event::Ack(ack) => Some(&ack.wa_id),
        Event::Message(message) if event.is_carried() => Some(&message.wa_id),
        _ => None,
    }
}

/// What was said by requests that were called as these are.
async fn requests(
    txn: &DatabaseTransaction,
    events: &[&NewEvent],
) -> Result<HashMap<String, String>, DbErr> {
    let (mut owners, mut keys) = (HashSet::new(), Vec::new());
    for event in events {
        if let Some((key, _)) = event.request() {
            owners.insert(event.organization_id.clone());
            keys.push(key);
        }
    }
    let mut requests = HashMap::new();
    for chunk in keys.chunks(CHUNK) {
        let found: Vec<(String, String)> = idempotency::Entity::find()
            .select_only()
            .column(idempotency::Column::Key)
            .column(idempotency::Column::Fingerprint)
            .filter(idempotency::COLUMN.organization_id.is_in(owners.iter().cloned()))
            .filter(idempotency::COLUMN.key.is_in(chunk.iter().map(String::as_str)))
            .into_tuple()
            .all(txn)
            .await?;
        requests.extend(found);
    }
    Ok(requests)
}
