//! Acknowledgements that come before the message that they are of. Clients elsewhere may post so; each of a message waits
//! for it, the highest level alone, and is told of with it.

use std::collections::{HashMap, HashSet};

use entity::{
    UnixMillis, early_ack,
    id::SessionKey,
    session,
    state::{Direction, Origin},
};
use sea_orm::{
    ColumnTrait, Condition, DatabaseTransaction, DbErr, EntityTrait, ExprTrait, IntoActiveModel,
    QueryFilter,
    sea_query::{Alias, Expr, OnConflict},
};

use super::{CHUNK, NewEvent, families::Families};
use crate::event::{Ack, AckLevel, Event};

/// By the head of the session's family, and WhatsApp's id of the message.
pub(super) type Early = HashMap<(SessionKey, String), Ack>;

/// Of which message an event is for which acknowledgements may have waited, or that may be one to wait: WhatsApp's id.
pub(super) fn may_have_waited<'a>(
    event: &'a NewEvent,
    sessions: &HashMap<SessionKey, session::Model>,
) -> Option<&'a str> {
    let is_external =
        sessions.get(&event.session_key).is_some_and(|row| row.origin == Origin::External);
    named(event).filter(|_| is_external)
}

fn named(event: &NewEvent) -> Option<&str> {
    match &event.event {
        Event::Ack(ack) => Some(&ack.wa_id),
        Event::Message(message) if message.direction == Direction::Outbound => Some(&message.wa_id),
        _ => None,
    }
}

/// What waits of that which a group of events acknowledges, or tells of. It may have been told of another session of
/// the account.
pub(super) async fn read(
    txn: &DatabaseTransaction,
    sessions: &HashMap<SessionKey, session::Model>,
    families: &Families,
    events: &[&NewEvent],
) -> Result<Early, DbErr> {
    let mut heads = HashMap::new();
    let mut named = HashSet::new();
    for event in events {
        let Some(wa_id) = may_have_waited(event, sessions) else { continue };
        let head = families.head(&event.session_key);
        for member in families.of(&event.session_key) {
            heads.insert(member.clone(), head.clone());
            named.insert((member.clone(), wa_id.to_owned()));
        }
    }
    let mut early = Early::new();
    let named: Vec<_> = named.into_iter().collect();
    for chunk in named.chunks(CHUNK) {
        let of = |(session, wa_id): &(SessionKey, String)| {
            Condition::all()
                .add(early_ack::COLUMN.session_key.eq(session.clone()))
                .add(early_ack::COLUMN.wa_id.eq(wa_id.as_str()))
        };
        let any = chunk.iter().map(of).fold(Condition::any(), Condition::add);
        for row in early_ack::Entity::find().filter(any).all(txn).await? {
            let level = AckLevel::of(row.level).unwrap_or(AckLevel::Pending);
            let Some(head) = heads.get(&row.session_key) else { continue };
            let ack = Ack {
                wa_id: row.wa_id.clone(),
                chat: row.chat,
                by: row.acknowledged_by,
                level,
                error: row.error,
                at: row.occurred_at,
            };
            let key = (head.clone(), row.wa_id);
            if early.get(&key).is_none_or(|other: &Ack| other.level < ack.level) {
                early.insert(key, ack);
            }
        }
    }
    Ok(early)
}

/// Has an acknowledgement wait, unless one as high does.
pub(super) async fn wait(
    txn: &DatabaseTransaction,
    session: SessionKey,
    ack: Ack,
    now: UnixMillis,
) -> Result<(), DbErr> {
    let row = early_ack::Model {
        session_key: session,
        wa_id: ack.wa_id,
        level: ack.level.level(),
        chat: ack.chat,
        acknowledged_by: ack.by,
        error: ack.error,
        occurred_at: ack.at,
        created_at: now,
    };
    let level = early_ack::Column::Level;
    let there = || Expr::col((early_ack::Entity, level));
    let comes = || Expr::col((Alias::new("excluded"), level));
    // That it has not left yet (0) is less than that it was refused (-1).
    let is_less = comes().ne(0).and(there().eq(0).or(there().lt(comes())));
    early_ack::Entity::insert(row.into_active_model())
        .on_conflict(
            OnConflict::columns([early_ack::Column::SessionKey, early_ack::Column::WaId])
                .update_columns([
                    level,
                    early_ack::Column::Chat,
                    early_ack::Column::AcknowledgedBy,
                    early_ack::Column::Error,
                    early_ack::Column::OccurredAt,
                ])
                .action_and_where(is_less)
                .to_owned(),
        )
        .exec_without_returning(txn)
        .await?;
    Ok(())
}

/// Nothing waits for a message of a family any more: it has come.
pub(super) async fn arrived(
    txn: &DatabaseTransaction,
    family: &[SessionKey],
    wa_id: String,
) -> Result<(), DbErr> {
    early_ack::Entity::delete_many()
        .filter(early_ack::COLUMN.session_key.is_in(family.iter().cloned()))
        .filter(early_ack::COLUMN.wa_id.eq(wa_id))
        .exec(txn)
        .await?;
    Ok(())
}
