//! What became of a message of ours at Meta: it has Meta's id from then on, or it has failed.

use entity::{
    UnixMillis,
    id::MessageId,
    message, session,
    state::{Direction, MessageStatus},
};
use sea_orm::{
    ActiveModelTrait, ActiveValue::Set, ColumnTrait, DbErr, EntityTrait, IntoActiveModel,
    QueryFilter,
};

use super::message::{Door, add_told, reach, word};
use crate::{
    event::{Ack, AckLevel, Event, NewMessage, message_key},
    store::{
        audience, secrets,
        statuses::{NewStatus, Statuses},
    },
};

/// The word for what Meta has taken. Meta tells itself when it has sent it: `sent`.
const ACCEPTED: &str = "accepted";

/// Whether Meta's id of a message is not known yet: it is called by our own until then.
pub(in crate::store::meta) fn is_nameless(row: &message::Model) -> bool {
    row.wa_id == row.id.as_str()
}

/// A message of ours in this session that has no id of Meta's yet.
pub(super) async fn nameless(
    door: &Door<'_>,
    session: &session::Model,
    id: &MessageId,
) -> Result<Option<message::Model>, DbErr> {
    let found = message::Entity::find_by_id(id.clone())
        .filter(message::COLUMN.session_key.eq(session.id.clone()))
        .filter(message::COLUMN.direction.eq(Direction::Outbound))
        .one(door.txn)
        .await?;
    Ok(found.filter(is_nameless))
}

/// Gives a message the id that Meta has for it, and tells of it.
pub(super) async fn name(
    door: &mut Door<'_>,
    session: &session::Model,
    row: message::Model,
    wa_id: &str,
) -> Result<message::Model, DbErr> {
    // Told of by an echo before we knew whose it is: nobody has heard of that.
    message::Entity::delete_many()
        .filter(message::COLUMN.session_key.eq(session.id.clone()))
        .filter(message::COLUMN.wa_id.eq(wa_id))
        .filter(message::COLUMN.id.ne(row.id.clone()))
        .filter(message::COLUMN.history.eq(true))
        .exec(door.txn)
        .await?;
    let row = announce(door, session, row, wa_id).await?;
    audience::named(door.txn, &session.id, (&row.id, wa_id), door.now).await?;
    Ok(row)
}

/// Writes down what a message is called by, and tells of it.
async fn announce(
    door: &mut Door<'_>,
    session: &session::Model,
    row: message::Model,
    wa_id: &str,
) -> Result<message::Model, DbErr> {
    let sender = session.account_jid.clone().unwrap_or_default();
    let key = message_key(&row.chat, &sender, wa_id);
    // It is sealed for the key that the row had.
    let raw = secrets::reseal_raw(door.sealer, &session.id, &row, &key);
    let mut row = row.into_active_model();
    (row.wa_id, row.dedupe_key, row.sender) = (Set(wa_id.to_owned()), Set(key), Set(sender));
    (row.raw, row.updated_at) = (Set(raw), Set(door.now));
    let row = row.update(door.txn).await?;
    let told = NewMessage::sent_here(row.clone());
    door.record(session, Event::Message(Box::new(told)), door.now, None).await?;
    Ok(row)
}

/// Meta has taken a message. `held` is what it does with it, if it does not simply send it.
pub(in crate::store::meta) async fn accepted(
    door: &mut Door<'_>,
    session: &session::Model,
    row: message::Model,
    (wa_id, held): (&str, Option<&str>),
) -> Result<(), DbErr> {
    // Statuses may have been faster, and have named it.
    let row = if is_nameless(&row) { name(door, session, row, wa_id).await? } else { row };
    let mut statuses = Statuses::read(door.txn, &session.id, wa_id).await?;
    let before = statuses.level();
    let status = NewStatus {
        wa_id: wa_id.to_owned(),
        word: held.unwrap_or(ACCEPTED).to_owned(),
        level: i16::from(held.is_none()),
        participant: String::new(),
        at: door.now,
        error: None,
        pricing: None,
    };
    let organization = &session.organization_id;
    if statuses.add(door.txn, organization, &session.id, &status, door.now).await? {
        audience::apply(door.txn, &session.id, wa_id, &statuses, door.now).await?;
    }
    let level = statuses.level();
    let mut come = row.clone();
    (come.status, come.error) = (MessageStatus::Sending, held.map(str::to_owned));
    reach(&mut come, level, statuses.error());
    write(door, row, &come).await?;
    match AckLevel::of(level) {
        Some(reached) if level != before => {
            let error = statuses.error().filter(|_| reached == AckLevel::Error);
            tell(door, session, &come, (reached, error)).await
        }
        _ => Ok(()),
    }
}

/// A message is not sent, or nobody knows whether it is; `error` says which.
pub(in crate::store::meta) async fn failed(
    door: &mut Door<'_>,
    session: &session::Model,
    row: message::Model,
    error: &str,
) -> Result<(), DbErr> {
    let own = row.id.to_string();
    let row = announce(door, session, row, &own).await?;
    let mut come = row.clone();
    reach(&mut come, AckLevel::Error.level(), Some(error));
    write(door, row, &come).await?;
    // Meta will tell nothing of it: so this is what was told, for whoever counts it.
    let status = NewStatus {
        wa_id: own,
        word: word(AckLevel::Error.level()).unwrap_or_default().to_owned(),
        level: AckLevel::Error.level(),
        participant: String::new(),
        at: door.now,
        error: Some(error.to_owned()),
        pricing: None,
    };
    add_told(door, &come, &status).await?;
    tell(door, session, &come, (AckLevel::Error, Some(error))).await
}

/// Writes how far it has come.
async fn write(door: &Door<'_>, row: message::Model, come: &message::Model) -> Result<(), DbErr> {
    let mut row = row.into_active_model();
    (row.status, row.ack, row.error) = (Set(come.status), Set(come.ack), Set(come.error.clone()));
    (row.next_attempt_at, row.updated_at) = (Set(None::<UnixMillis>), Set(door.now));
    row.update(door.txn).await?;
    Ok(())
}

async fn tell(
    door: &mut Door<'_>,
    session: &session::Model,
    row: &message::Model,
    (level, error): (AckLevel, Option<&str>),
) -> Result<(), DbErr> {
    let ack = Ack {
        wa_id: row.wa_id.clone(),
        chat: row.chat.clone(),
        by: row.chat.clone(),
        level,
        error: error.map(str::to_owned),
        at: door.now,
    };
    let at = door.now;
    door.record(session, Event::Ack(ack), at, None).await
}
