//! How far messages have come that went out: their own rows, the campaign's, and word of it.

use entity::{
    id::MessageId,
    message, session,
    state::{Direction, IdentityKind},
};
use sea_orm::{ColumnTrait, DbErr, EntityTrait, QueryFilter};

use super::{message::Door, sent};
use crate::{
    event::{Ack, AckLevel, Event},
    store::{
        audience,
        contacts::{self, Person},
        statuses::{NewStatus, Statuses},
    },
};

/// Writes down what was told of a message, once. Nothing follows from what is below what was told before.
pub(super) async fn told(
    door: &mut Door<'_>,
    session: &session::Model,
    new: &NewStatus,
    (person, group, ours): (&Person, Option<&str>, Option<&MessageId>),
) -> Result<(), DbErr> {
    // Faster than Meta's answer to whoever has sent it; or that answer never came.
    if let Some(ours) = ours
        && let Some(row) = sent::nameless(door, session, ours).await?
    {
        sent::name(door, session, row, &new.wa_id).await?;
    }
    let (txn, organization) = (door.txn, &session.organization_id);
    let mut statuses = Statuses::read(txn, &session.id, &new.wa_id).await?;
    let before = statuses.level();
    if !statuses.add(txn, organization, &session.id, new, door.now).await? {
        return Ok(());
    }
    audience::apply(txn, &session.id, &new.wa_id, &statuses, door.now).await?;
    let level = statuses.level();
    if level == before {
        return Ok(());
    }
    let Some(level) = AckLevel::of(level) else { return Ok(()) };
    let chat = match group {
        Some(group) => format!("{group}@g.us"),
        None => chat(door, session, new, person).await?,
    };
    let by = if new.participant.is_empty() { chat.clone() } else { member(&new.participant) };
    let error = statuses.error().filter(|_| level == AckLevel::Error).map(str::to_owned);
    let ack = Ack { wa_id: new.wa_id.clone(), chat, by, level, error, at: new.at };
    door.record(session, Event::Ack(ack), new.at, None).await
}

/// The address of a member of a group: a number, or an id where there is none.
fn member(id: &str) -> String {
    let is_number = id.bytes().all(|byte| byte.is_ascii_digit());
    let kind = if is_number { IdentityKind::WaId } else { IdentityKind::UserId };
    contacts::address_of(&Person { ids: vec![(kind, id.to_owned())], ..Person::default() })
}

/// The conversation of the message: its own if it is known, else the one with whom it was for.
async fn chat(
    door: &Door<'_>,
    session: &session::Model,
    new: &NewStatus,
    person: &Person,
) -> Result<String, DbErr> {
    let found = message::Entity::find()
        .filter(message::COLUMN.session_key.eq(session.id.clone()))
        .filter(message::COLUMN.wa_id.eq(new.wa_id.as_str()))
        .filter(message::COLUMN.direction.eq(Direction::Outbound))
        .one(door.txn)
        .await?;
    if let Some(row) = found {
        return Ok(row.chat);
    }
    let organization = &session.organization_id;
    let known = contacts::known_address(door.txn, organization, &session.id, person).await?;
    Ok(known.unwrap_or_else(|| contacts::address_of(person)))
}
