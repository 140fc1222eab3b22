//! The next events of a replay.

use std::collections::{HashMap, HashSet};

use entity::{
    id::SessionKey,
    message, session,
    state::Direction,
    webhook::{event, replay},
};
use sea_orm::{
    ColumnTrait, DatabaseTransaction, DbErr, EntityTrait, QueryFilter, QueryOrder, QuerySelect,
};
use serde_json::Value;

use crate::store::sessions::of_one_that_is_there;
use crate::webhook::{
    EventType,
    conversation::{acknowledged, conversation},
};

/// The next events of a replay, in order, with their sessions' phone numbers: from the feed, and those
/// that only endpoints were told of.
pub(super) async fn stretch(
    txn: &DatabaseTransaction,
    replay: &replay::Model,
    limit: i64,
) -> Result<Vec<(event::Model, Option<String>)>, DbErr> {
    let most = u64::try_from(limit).unwrap_or(1);
    let recorded = entity::event::Entity::find()
        .filter(entity::event::COLUMN.organization_id.eq(replay.organization_id.clone()))
        .filter(entity::event::COLUMN.seq.gt(replay.cursor_seq))
        .filter(entity::event::COLUMN.seq.lte(replay.through_seq))
        .filter(of_one_that_is_there("event"))
        .order_by_asc(entity::event::COLUMN.seq)
        .limit(most)
        .all(txn)
        .await?;
    let told = event::Entity::find()
        .filter(event::COLUMN.organization_id.eq(replay.organization_id.clone()))
        .filter(event::COLUMN.seq.gt(replay.cursor_seq))
        .filter(event::COLUMN.seq.lte(replay.through_seq))
        .order_by_asc(event::COLUMN.seq)
        .limit(most)
        .all(txn)
        .await?;
    let keys: Vec<SessionKey> = recorded
        .iter()
        .map(|row| row.session_key.clone())
        .chain(told.iter().filter_map(|row| row.session_key.clone()))
        .collect();
    let sessions: HashMap<SessionKey, session::Model> = session::Entity::find()
        .filter(session::COLUMN.id.is_in(keys))
        .all(txn)
        .await?
        .into_iter()
        .map(|row| (row.id.clone(), row))
        .collect();
    let number = |key: Option<&SessionKey>| {
        key.and_then(|key| sessions.get(key)).and_then(|row| row.phone_number.clone())
    };
    // Replays before this version wrote down a conversation that was the whole session.
    let is_whole = |row: &event::Model| {
        row.session_key.as_ref().is_some_and(|key| row.conversation == key.as_str())
            && recorded.iter().any(|recorded| recorded.id == row.id)
    };
    let told: Vec<event::Model> = told.into_iter().filter(|row| !is_whole(row)).collect();
    let mut events: Vec<_> =
        told.into_iter().map(|row| (number(row.session_key.as_ref()), row)).collect();
    let known: HashSet<_> = events.iter().map(|(_, told)| told.id.clone()).collect();
    let untold = recorded.into_iter().filter(|row| !known.contains(&row.id));
    let untold: Vec<_> = untold
        .map(|row| {
            let data = serde_json::from_str(&row.payload).unwrap_or(Value::Null);
            (row, data)
        })
        .collect();
    let chats = acknowledged_chats(txn, &untold).await?;
    for (row, data) in untold {
        let name = sessions.get(&row.session_key).map(|it| it.session_id.to_string());
        let of_message = acknowledged(row.kind, &data)
            .and_then(|id| chats.get(&(row.session_key.clone(), id.to_owned())));
        let conversation =
            conversation(&row.session_key, row.kind, &data, of_message.map(String::as_str));
        let kind = EventType::of_recorded(row.kind, &row.payload);
        let of = event::Model {
            id: row.id,
            organization_id: row.organization_id,
            seq: row.seq,
            event_type: kind.name().to_owned(),
            conversation,
            session_id: name,
            session_key: Some(row.session_key.clone()),
            payload: row.payload,
            occurred_at: row.occurred_at,
            in_feed: false,
        };
        events.push((number(Some(&row.session_key)), of));
    }
    events.sort_by_key(|(_, event)| event.seq);
    events.truncate(usize::try_from(limit).unwrap_or(1));
    Ok(events.into_iter().map(|(number, event)| (event, number)).collect())
}

/// The chats of the messages that events acknowledge, by session and WhatsApp's id: as the session has the message, or
/// else one that has handed over to it.
async fn acknowledged_chats(
    txn: &DatabaseTransaction,
    events: &[(entity::event::Model, Value)],
) -> Result<HashMap<(SessionKey, String), String>, DbErr> {
    let acks: HashSet<(SessionKey, &str)> = events
        .iter()
        .filter_map(|(row, data)| Some((row.session_key.clone(), acknowledged(row.kind, data)?)))
        .collect();
    let mut chats = HashMap::new();
    if acks.is_empty() {
        return Ok(chats);
    }
    let told: HashSet<SessionKey> = acks.iter().map(|(session, _)| session.clone()).collect();
    let heirs: Vec<(SessionKey, SessionKey)> = session::Entity::find()
        .select_only()
        .column(session::Column::Id)
        .column(session::Column::MigratedTo)
        .filter(session::COLUMN.migrated_to.is_in(told.iter().cloned()))
        .into_tuple()
        .all(txn)
        .await?;
    let heirs: HashMap<SessionKey, SessionKey> = heirs.into_iter().collect();
    let found: Vec<(SessionKey, String, String)> = message::Entity::find()
        .select_only()
        .column(message::Column::SessionKey)
        .column(message::Column::WaId)
        .column(message::Column::Chat)
        .filter(message::COLUMN.session_key.is_in(told.iter().chain(heirs.keys()).cloned()))
        .filter(message::COLUMN.wa_id.is_in(acks.iter().map(|(_, id)| (*id).to_owned())))
        .filter(message::COLUMN.direction.eq(Direction::Outbound))
        .into_tuple()
        .all(txn)
        .await?;
    for (session, wa_id, chat) in found {
        if let Some(heir) = heirs.get(&session) {
            chats.entry((heir.clone(), wa_id.clone())).or_insert_with(|| chat.clone());
        }
        if told.contains(&session) {
            chats.insert((session, wa_id), chat);
        }
    }
    Ok(chats)
}
