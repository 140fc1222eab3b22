//! Messages from WhatsApp, as rows.

use entity::{
    UnixMillis,
    id::{OrganizationId, SessionKey},
    message,
    state::Direction,
};
use sea_orm::{DatabaseTransaction, DbErr, EntityTrait, IntoActiveModel, sea_query::OnConflict};

use super::CHUNK;
use crate::event::NewMessage;

/// A message that is new with its event.
#[derive(Debug)]
pub(super) struct Arrived {
    pub(super) organization_id: OrganizationId,
    pub(super) session_key: SessionKey,
    pub(super) message: NewMessage,
    /// The account's address, as far as it is known.
    pub(super) own: Option<String>,
}

/// A message as a row, made at `at`. `own` is the account's address, as far as it is known.
pub(in crate::store) fn row(
    organization_id: OrganizationId,
    session_key: SessionKey,
    message: NewMessage,
    own: Option<&str>,
    at: UnixMillis,
) -> message::Model {
    let is_received = message.direction == Direction::Inbound;
    message::Model {
        dedupe_key: message.dedupe_key(),
        id: message.id,
        organization_id,
        session_key,
        wa_id: message.wa_id,
        chat: message.chat,
        sender: message.sender,
        recipient: own.filter(|_| is_received).map(str::to_owned),
        direction: message.direction,
        kind: message.kind,
        body: message.body,
        target_wa_id: message.target_wa_id,
        interaction: message.interaction,
        raw: message.raw,
        media_path: None,
        push_name: message.push_name,
        sent_at: message.sent_at,
        offline: message.offline,
        history: false,
        status: message.status,
        ack: 0,
        error: None,
        failed_attempts: 0,
        put_off_since: None,
        next_attempt_at: None,
        created_at: at,
        updated_at: at,
    }
}

/// Inserts messages. One that is there already is our own, stored before it was sent, or one of the
/// past: it is live from now on.
pub(super) async fn insert_messages(
    txn: &DatabaseTransaction,
    now: UnixMillis,
    messages: Vec<Arrived>,
) -> Result<(), DbErr> {
    let mut rows: Vec<message::ActiveModel> = messages
        .into_iter()
        .map(|Arrived { organization_id, session_key, message, own }| {
            row(organization_id, session_key, message, own.as_deref(), now).into_active_model()
        })
        .collect();
    while !rows.is_empty() {
        let rest = rows.split_off(rows.len().min(CHUNK));
        message::Entity::insert_many(rows)
            .on_conflict(
                OnConflict::columns([message::Column::SessionKey, message::Column::DedupeKey])
                    .update_column(message::Column::History)
                    .to_owned(),
            )
            .exec_without_returning(txn)
            .await?;
        rows = rest;
    }
    Ok(())
}
