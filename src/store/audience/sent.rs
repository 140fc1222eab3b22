//! Messages that are called by our own id until Meta has named them, and whose they are.

use std::collections::HashMap;

use entity::{
    UnixMillis, audience,
    id::{MessageId, SessionKey},
    message,
    state::Direction,
};
use sea_orm::{ColumnTrait, DatabaseTransaction, DbErr, EntityTrait, QueryFilter, QuerySelect};

use super::{
    CHUNK, Counts, NewMember,
    apply::{add, write},
    member::judged,
};
use crate::store::statuses::Statuses;

/// Writes Meta's ids of messages in the place of our own, as far as Meta has named them. The place of the first member whose
/// message is none of the session's, if there is one.
pub(super) async fn called_by_meta(
    txn: &DatabaseTransaction,
    session: &SessionKey,
    members: &mut [NewMember],
) -> Result<Option<usize>, DbErr> {
    let ours = |it: &NewMember| it.wa_id.as_ref().and_then(|id| id.parse::<MessageId>().ok());
    let ids: Vec<MessageId> = members.iter().filter_map(ours).collect();
    let mut known = HashMap::<MessageId, String>::new();
    for chunk in ids.chunks(CHUNK) {
        let rows: Vec<(MessageId, String)> = message::Entity::find()
            .select_only()
            .column(message::Column::Id)
            .column(message::Column::WaId)
            .filter(message::COLUMN.session_key.eq(session.clone()))
            .filter(message::COLUMN.direction.eq(Direction::Outbound))
            .filter(message::COLUMN.id.is_in(chunk.iter().cloned()))
            .into_tuple()
            .all(txn)
            .await?;
        known.extend(rows);
    }
    for (n, member) in members.iter_mut().enumerate() {
        let Some(id) = ours(member) else { continue };
        match known.get(&id) {
            Some(wa_id) => member.wa_id = Some(wa_id.clone()),
            None => return Ok(Some(n)),
        }
    }
    Ok(None)
}

/// Meta has named a message: it is the one of whoever it was attached to by our own id.
pub(in crate::store) async fn named(
    txn: &DatabaseTransaction,
    session: &SessionKey,
    (ours, wa_id): (&MessageId, &str),
    now: UnixMillis,
) -> Result<(), DbErr> {
    let attached = |id: &str| {
        audience::Entity::find()
            .filter(audience::COLUMN.session_key.eq(session.clone()))
            .filter(audience::COLUMN.wa_id.eq(id))
    };
    let Some(before) = attached(ours.as_str()).one(txn).await? else { return Ok(()) };
    // Somebody else has been given it by Meta's id.
    if attached(wa_id).one(txn).await?.is_some() {
        return Ok(());
    }
    let statuses = Statuses::read(txn, session, wa_id).await?;
    let renamed = audience::Model { wa_id: Some(wa_id.to_owned()), ..before.clone() };
    // It has not failed, whatever was thought of it before.
    let after = judged(&renamed, &statuses);
    write(txn, &after, now).await?;
    let change = Counts::of(&after).minus(Counts::of(&before));
    add(txn, (&after.organization_id, &after.campaign_id), change, now).await
}
