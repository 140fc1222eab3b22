//! Messages: live ones through the one door, those of the past beside it.

use std::collections::BTreeSet;

use entity::{
    UnixMillis,
    id::{EndpointId, EventId},
    message, session,
    state::Direction,
};
use sea_orm::{
    ActiveModelTrait, ActiveValue::Set, ColumnTrait, DatabaseTransaction, DbErr, EntityTrait,
    IntoActiveModel, QueryFilter,
};

use super::{Exchanged, renaming};
use crate::{
    event::{AckLevel, Event, NewMessage},
    store::{
        audience,
        contacts::{self, Heard, Told},
        events, secrets,
        sessions::own_address,
        statuses::{NewStatus, Statuses},
        webhooks::Known,
    },
    vault::Sealer,
};

/// What everything is written through.
pub(in crate::store::meta) struct Door<'a> {
    pub(in crate::store::meta) txn: &'a DatabaseTransaction,
    pub(in crate::store::meta) sealer: &'a Sealer,
    pub(in crate::store::meta) known: &'a Known,
    pub(in crate::store::meta) now: UnixMillis,
    /// The business account that tells.
    pub(in crate::store::meta) waba: Option<String>,
    /// Endpoints that are owed word.
    pub(in crate::store::meta) touched: BTreeSet<EndpointId>,
    /// Events that were recorded.
    pub(in crate::store::meta) recorded: Vec<EventId>,
}

impl<'a> Door<'a> {
    pub(in crate::store::meta) const fn new(
        txn: &'a DatabaseTransaction,
        sealer: &'a Sealer,
        known: &'a Known,
        now: UnixMillis,
    ) -> Self {
        Self { txn, sealer, known, now, waba: None, touched: BTreeSet::new(), recorded: Vec::new() }
    }
}

/// A message that somebody has just written.
pub(super) async fn live(
    door: &mut Door<'_>,
    session: &session::Model,
    exchanged: Exchanged,
) -> Result<(), DbErr> {
    let known = reread(door, session, &exchanged.message).await?;
    // The past has brought it first, and nobody was told.
    let is_untold = |row: &message::Model| row.history && row.direction == Direction::Inbound;
    if known.as_ref().is_some_and(|row| !is_untold(row)) {
        return Ok(());
    }
    let mut message = placed(door, session, exchanged).await?;
    if let Some(row) = known {
        message.id = row.id.clone();
        rekey(door, session, row, &message).await?;
    }
    let at = message.sent_at;
    door.record(session, Event::Message(Box::new(message)), at, None).await
}

/// Messages that nobody is told of: of the past, or written on the phone.
pub(super) async fn past(
    door: &mut Door<'_>,
    session: &session::Model,
    all: Vec<Exchanged>,
) -> Result<(), DbErr> {
    for exchanged in all {
        let level = exchanged.level;
        if reread(door, session, &exchanged.message).await?.is_some() {
            continue;
        }
        let mut message = placed(door, session, exchanged).await?;
        message.make_storable();
        let key = message.dedupe_key();
        if let Some(raw) = &mut message.raw {
            *raw = secrets::seal_raw(door.sealer, &session.id, &key, raw);
        }
        let at = message.sent_at.min(door.now);
        let own = own_address(session);
        let whose = (session.organization_id.clone(), session.id.clone());
        let row = events::row(whose.0, whose.1, message, own.as_deref(), at);
        let mut row = message::Model { history: true, updated_at: door.now, ..row };
        if row.direction == Direction::Outbound {
            let told = come_to(door, &row, level).await?;
            reach(&mut row, told.level(), told.error());
        }
        message::Entity::insert(row.into_active_model()).exec_without_returning(door.txn).await?;
    }
    Ok(())
}

/// All that was told of a message that went out, with what the past says of it.
async fn come_to(door: &Door<'_>, row: &message::Model, level: i16) -> Result<Statuses, DbErr> {
    let Some(word) = word(level) else {
        return Statuses::read(door.txn, &row.session_key, &row.wa_id).await;
    };
    let status = NewStatus {
        wa_id: row.wa_id.clone(),
        word: word.to_owned(),
        level,
        participant: String::new(),
        at: row.sent_at,
        error: None,
        pricing: None,
    };
    add_told(door, row, &status).await
}

/// Adds what is told of a message that went out, for whoever counts it. All that was told of it.
pub(super) async fn add_told(
    door: &Door<'_>,
    row: &message::Model,
    new: &NewStatus,
) -> Result<Statuses, DbErr> {
    let mut told = Statuses::read(door.txn, &row.session_key, &new.wa_id).await?;
    if told.add(door.txn, &row.organization_id, &row.session_key, new, door.now).await? {
        audience::apply(door.txn, &row.session_key, &new.wa_id, &told, door.now).await?;
    }
    Ok(told)
}

/// Meta's word for a level.
pub(super) const fn word(level: i16) -> Option<&'static str> {
    match level {
        -1 => Some("failed"),
        1 => Some("sent"),
        2 => Some("delivered"),
        3 => Some("read"),
        4 => Some("played"),
        _ => None,
    }
}

/// Writes a level into a message that went out.
pub(super) fn reach(row: &mut message::Model, level: i16, error: Option<&str>) {
    if let Some(level) = AckLevel::of(level) {
        (row.ack, row.status) = (level.level(), level.status());
        row.error = error.filter(|_| level == AckLevel::Error).map(str::to_owned);
    }
}

/// The message as it is to be written: with its conversation, and with who wrote it.
async fn placed(
    door: &mut Door<'_>,
    session: &session::Model,
    exchanged: Exchanged,
) -> Result<NewMessage, DbErr> {
    let Exchanged { mut message, mut person, group, renamed, .. } = exchanged;
    let (txn, organization) = (door.txn, &session.organization_id);
    let told = Told { organization, waba: door.waba.as_deref(), at: message.sent_at };
    let contact = match renamed {
        None => contacts::resolve(txn, told, &mut person, door.now).await?,
        Some(names) => renaming::of(door, told, &mut person, names).await?,
    };
    let own = session.account_jid.clone().unwrap_or_default();
    let heard = Heard {
        organization,
        session: &session.id,
        group: group.as_deref(),
        contact: contact.as_ref(),
        person: &person,
        at: message.sent_at,
        is_inbound: message.direction == Direction::Inbound,
    };
    message.chat = contacts::heard(txn, heard, door.now).await?;
    message.is_group = group.is_some();
    message.sender = match message.direction {
        Direction::Outbound => own,
        Direction::Inbound if group.is_some() => contacts::address_of(&person),
        // Whatever the conversation is called by: it is where they are answered.
        Direction::Inbound => {
            contacts::present_address(txn, organization, contact.as_ref(), &person).await?
        }
    };
    Ok(message)
}

/// The message's row, if it is there. What is read otherwise than when it came is written as it is read now; nobody is told.
async fn reread(
    door: &Door<'_>,
    session: &session::Model,
    message: &NewMessage,
) -> Result<Option<message::Model>, DbErr> {
    let mut message = message.clone();
    message.make_storable();
    let found = message::Entity::find()
        .filter(message::COLUMN.session_key.eq(session.id.clone()))
        .filter(message::COLUMN.wa_id.eq(message.wa_id.as_str()))
        .one(door.txn)
        .await?;
    let Some(row) = found else { return Ok(None) };
    let now = (message.kind, &message.body, &message.target_wa_id, &message.interaction);
    let is_unsupported = |kind| kind == entity::kind::MessageKind::Unsupported;
    // It says less than what is there.
    let is_placeholder = is_unsupported(message.kind)
        && (!is_unsupported(row.kind) || message.interaction.is_none());
    let before = (row.kind, &row.body, &row.target_wa_id, &row.interaction);
    if before == now || is_placeholder {
        return Ok(Some(row));
    }
    let key = row.dedupe_key.clone();
    let raw = message.raw.as_ref();
    let raw = raw.map(|raw| secrets::seal_raw(door.sealer, &session.id, &key, raw));
    let mut row = row.into_active_model();
    (row.kind, row.body) = (Set(message.kind), Set(message.body));
    (row.target_wa_id, row.updated_at) = (Set(message.target_wa_id), Set(door.now));
    row.interaction = Set(message.interaction);
    if raw.is_some() {
        row.raw = Set(raw);
    }
    row.update(door.txn).await.map(Some)
}

/// Has a row be found by what an event of the message calls it, so that the event is about this row.
async fn rekey(
    door: &Door<'_>,
    session: &session::Model,
    row: message::Model,
    message: &NewMessage,
) -> Result<(), DbErr> {
    let mut told = message.clone();
    told.make_storable();
    let key = told.dedupe_key();
    if key == row.dedupe_key {
        return Ok(());
    }
    let raw = secrets::reseal_raw(door.sealer, &session.id, &row, &key);
    let mut row = row.into_active_model();
    (row.chat, row.sender, row.dedupe_key) = (Set(told.chat), Set(told.sender), Set(key));
    row.raw = Set(raw);
    row.update(door.txn).await?;
    Ok(())
}
