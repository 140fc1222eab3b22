//! What is to be written, and writing it.

use std::collections::{BTreeMap, HashMap, HashSet};

use entity::{
    UnixMillis,
    id::{OrganizationId, SessionKey},
    idempotency, message, organization, session,
    state::{Direction, Origin},
};
use sea_orm::{
    ActiveModelTrait, ColumnTrait, DatabaseTransaction, DbErr, EntityTrait, ExprTrait,
    IntoActiveModel, QueryFilter, sea_query::Expr,
};

use super::{
    NewEvent,
    columns::status_columns,
    early::{self, Early},
    messages::{Arrived, insert_messages},
    own::{self, Turned},
    present::Present,
};
use crate::event::{Ack, AckLevel};

/// What is to be written, collected while deciding.
#[derive(Default)]
pub(super) struct Plan {
    /// New events per organization.
    pub(super) counts: HashMap<OrganizationId, i64>,
    pub(super) messages: Vec<Arrived>,
    /// Messages that were received, and are the account's own.
    pub(super) turned: Vec<Turned>,
    /// Highest new level per message.
    pub(super) acks: HashMap<(SessionKey, String), Ack>,
    /// Acknowledgements that are to wait for their message.
    pub(super) early: Early,
    /// Messages for which acknowledgements need not wait any more.
    pub(super) arrived: HashSet<(SessionKey, String)>,
    /// What clients have called their requests.
    pub(super) requests: Vec<idempotency::Model>,
    /// Sessions whose status columns changed.
    pub(super) statuses: HashSet<SessionKey>,
    /// Sessions that became connected, and whose number is known; and since when those had to be idle that hand over to
    /// them, where it is not enough that they are.
    pub(super) ready: BTreeMap<SessionKey, Option<UnixMillis>>,
    /// How many messages could not be read, of each session.
    pub(super) undecryptable: HashMap<SessionKey, i64>,
    /// Sessions of which only the last activity moved.
    pub(super) active: HashSet<SessionKey>,
}

/// What the rows of organizations said when sequence numbers were taken from them.
#[derive(Debug, Default)]
pub(super) struct Allocated {
    /// The first number of each one's new events.
    pub(super) next_seq: HashMap<OrganizationId, i64>,
    /// Which webhook endpoints each has: see [`crate::store::webhooks`].
    pub(super) versions: HashMap<OrganizationId, i64>,
}

impl Plan {
    /// Notes that others may hand over to the session of `event`. That is done under the lock of its organization's
    /// row, which goes with taking numbers, be they none: what comes too late is no event. If it is told late, only those
    /// do that were idle `by` then.
    pub(super) fn became_connected(&mut self, event: &NewEvent, by: Option<UnixMillis>) {
        let latest = self.ready.entry(event.session_key.clone()).or_insert(by);
        *latest = latest.zip(by).map(|(one, another)| Ord::max(one, another));
        self.counts.entry(event.organization_id.clone()).or_default();
    }

    /// Takes sequence numbers for the new events and says where each organization's begin.
    ///
    /// The organization's row stays locked until the transaction ends, so numbers become visible in
    /// order: a reader that has seen one has seen all before it.
    pub(super) async fn allocate(&self, txn: &DatabaseTransaction) -> Result<Allocated, DbErr> {
        // In one order always, or two lanes could wait for each other.
        let mut counts: Vec<_> = self.counts.iter().collect();
        counts.sort();
        let mut allocated = Allocated::default();
        for (organization, count) in counts {
            let rows = organization::Entity::update_many()
                .col_expr(
                    organization::Column::LastSeq,
                    Expr::col(organization::Column::LastSeq).add(*count),
                )
                .filter(organization::COLUMN.id.eq(organization.clone()))
                .exec_with_returning(txn)
                .await?;
            let last = rows.first().ok_or_else(|| {
                DbErr::RecordNotFound("an event's organization does not exist".to_owned())
            })?;
            allocated.next_seq.insert(organization.clone(), last.last_seq - count + 1);
            allocated.versions.insert(organization.clone(), last.webhook_version);
        }
        Ok(allocated)
    }

    pub(super) async fn write(
        self,
        txn: &DatabaseTransaction,
        now: UnixMillis,
        present: &Present,
    ) -> Result<(), DbErr> {
        insert_messages(txn, now, self.messages).await?;
        own::write(txn, now, self.turned).await?;
        // Before those that wait: what has arrived may be gone from here, and be acknowledged early again.
        for (session, wa_id) in self.arrived {
            early::arrived(txn, present.families.of(&session), wa_id).await?;
        }
        for ((session, _), ack) in self.early {
            early::wait(txn, session, ack, now).await?;
        }
        if !self.requests.is_empty() {
            let keys = self.requests.into_iter().map(IntoActiveModel::into_active_model);
            idempotency::Entity::insert_many::<idempotency::ActiveModel, _>(keys)
                .on_conflict_do_nothing_on([
                    idempotency::Column::OrganizationId,
                    idempotency::Column::Key,
                ])
                .exec_without_returning(txn)
                .await?;
        }
        for ((session, wa_id), ack) in self.acks {
            // Also as others of the account have it. Each by itself never goes down.
            let sessions = present.families.of(&session).iter().cloned();
            // Of a number at Meta's the level was decided by all that is known of the message (`statuses.rs`).
            let is_decided =
                present.sessions.get(&session).is_some_and(|row| row.origin == Origin::Cloud);
            let advances = match ack.level {
                _ if is_decided => message::COLUMN.ack.ne(ack.level.level()),
                AckLevel::Error => message::COLUMN.ack.eq(0),
                level => message::COLUMN.ack.lt(level.level()),
            };
            message::Entity::update_many()
                .col_expr(message::Column::Ack, Expr::value(ack.level.level()))
                .col_expr(message::Column::Status, Expr::value(ack.level.status()))
                .col_expr(message::Column::Error, Expr::value(ack.error))
                .col_expr(message::Column::UpdatedAt, Expr::value(now))
                .filter(message::COLUMN.session_key.is_in(sessions))
                .filter(message::COLUMN.wa_id.eq(wa_id))
                .filter(advances)
                .filter(message::COLUMN.direction.eq(Direction::Outbound))
                .exec(txn)
                .await?;
        }
        for key in &self.statuses {
            if let (Some(row), Some(before)) = (present.sessions.get(key), present.before.get(key))
            {
                status_columns(row, before).update(txn).await?;
            }
        }
        for key in self.active.difference(&self.statuses) {
            if let Some(row) = present.sessions.get(key) {
                session::Entity::update_many()
                    .col_expr(session::Column::LastActiveAt, Expr::value(row.last_active_at))
                    .filter(session::COLUMN.id.eq(key.clone()))
                    .exec(txn)
                    .await?;
            }
        }
        for (key, count) in self.undecryptable {
            session::Entity::update_many()
                .col_expr(
                    session::Column::Undecryptable,
                    Expr::col(session::Column::Undecryptable).add(count),
                )
                .filter(session::COLUMN.id.eq(key))
                .exec(txn)
                .await?;
        }
        Ok(())
    }
}
