//! What became of a message that was to be sent.

use std::{collections::BTreeSet, time::Duration};

use entity::{UnixMillis, id::EndpointId, message, meta::outbox, session, state::MessageStatus};
use sea_orm::{
    ActiveModelTrait, ActiveValue::Set, ColumnTrait, ConnectionTrait, DatabaseTransaction, DbErr,
    EntityTrait, IntoActiveModel, QueryFilter, Statement, Value,
};

use super::super::{
    Meta,
    carry::{Door, accepted, failed, is_nameless},
};
use crate::{
    store::{Error, Patience, nodes, organizations, webhooks::Known},
    vault::Sealer,
};

/// What became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Meta has it, under this id; with Meta's word for what it does with it, if it does not simply send it.
    Taken { wa_id: String, word: Option<String> },
    /// It is not sent, or nobody knows whether it is. Why, in a stable word.
    Failed(String),
    /// It is tried again after so long, and was not sent.
    PutOff { wait: Duration, why: String },
    /// The message is gone: nothing is left to be said of it.
    Gone,
}

impl Meta {
    /// Writes down what became of a message. Only whoever has it in hand may say that it is not sent; that Meta has it
    /// counts whoever says so.
    pub async fn settle_outgoing(
        &self,
        place: &outbox::Model,
        outcome: Outcome,
    ) -> Result<(), Error> {
        let sealer = self.store.sealer(&place.organization_id, Patience::Wait).await?;
        let (now, known) = (self.store.clock().now(), self.store.writer().known().clone());
        let sql_now = nodes::time_in_sql(&self.store);
        let (lane, place) = (place.organization_id.to_string(), place.clone());
        let unit = self.store.writer().run(&lane, Patience::Wait, move |txn| {
            let (place, outcome) = (place.clone(), outcome.clone());
            let (sealer, known, sql_now) = (sealer.clone(), known.clone(), sql_now.clone());
            Box::pin(async move {
                settle(txn, (&sealer, &*known), (now, &sql_now), (&place, outcome)).await
            })
        });
        let touched = unit.await?;
        self.store.webhooks().touch(touched);
        self.store.writer().ring();
        Ok(())
    }
}

async fn settle(
    txn: &DatabaseTransaction,
    (sealer, known): (&Sealer, &Known),
    (now, sql_now): (UnixMillis, &str),
    (place, outcome): (&outbox::Model, Outcome),
) -> Result<BTreeSet<EndpointId>, DbErr> {
    organizations::lock(txn, &place.organization_id).await?;
    let mut door = Door::new(txn, sealer, known, now);
    let is_ours = holds(txn, place).await?;
    if !is_ours && !matches!(outcome, Outcome::Taken { .. }) {
        return Ok(door.touched);
    }
    let row = message::Entity::find_by_id(place.message_id.clone()).one(txn).await?;
    let session = session::Entity::find_by_id(place.session_key.clone()).one(txn).await?;
    let (Some(row), Some(session)) = (row, session) else {
        leave(txn, place).await?;
        return Ok(door.touched);
    };
    match outcome {
        Outcome::PutOff { wait, why } if is_nameless(&row) => {
            put_off(txn, place, row, (wait, why), (now, sql_now)).await?;
            return Ok(door.touched);
        }
        Outcome::Taken { wa_id, word } => {
            accepted(&mut door, &session, row, (&wa_id, word.as_deref())).await?;
        }
        Outcome::Failed(why) if is_nameless(&row) => {
            failed(&mut door, &session, row, &why).await?;
        }
        // Meta has told of it meanwhile: it is sent.
        Outcome::Failed(_) | Outcome::PutOff { .. } | Outcome::Gone => {}
    }
    leave(txn, place).await?;
    Ok(door.touched)
}

/// Whether it is still in the hand that took it.
async fn holds(txn: &DatabaseTransaction, place: &outbox::Model) -> Result<bool, DbErr> {
    let found = outbox::Entity::find_by_id(place.message_id.clone())
        .filter(outbox::Column::Claim.eq(place.claim))
        .one(txn)
        .await?;
    Ok(found.is_some())
}

async fn leave(txn: &DatabaseTransaction, place: &outbox::Model) -> Result<(), DbErr> {
    outbox::Entity::delete_by_id(place.message_id.clone()).exec(txn).await?;
    Ok(())
}

/// Queues it again for later.
async fn put_off(
    txn: &DatabaseTransaction,
    place: &outbox::Model,
    row: message::Model,
    (wait, why): (Duration, String),
    (now, sql_now): (UnixMillis, &str),
) -> Result<(), DbErr> {
    let again = format!(
        "UPDATE meta_outbox SET attempts = attempts + 1, next_at = {sql_now} + $1, claim = NULL, \
         claimed_by = NULL, lease_until = 0 WHERE message_id = $2 RETURNING next_at"
    );
    let values: [Value; 2] = [nodes::millis(wait).into(), place.message_id.as_str().into()];
    let again = Statement::from_sql_and_values(txn.get_database_backend(), again, values);
    let again = txn.query_one_raw(again).await?;
    let next_at = again.map(|row| row.try_get_by_index(0)).transpose()?.map(UnixMillis);
    let attempts = row.failed_attempts.saturating_add(1);
    let since = row.put_off_since.unwrap_or(now);
    let mut row = row.into_active_model();
    (row.status, row.error) = (Set(MessageStatus::Queued), Set(Some(why)));
    (row.failed_attempts, row.next_attempt_at) = (Set(attempts), Set(next_at));
    (row.put_off_since, row.updated_at) = (Set(Some(since)), Set(now));
    row.update(txn).await?;
    Ok(())
}
