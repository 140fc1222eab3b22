//! The messages of sessions that have handed over to another one (`handover/`).
//!
//! They stay in their rows. Whoever reads the history of the new session reads those of all of them, so what
//! several have, as the phone handed its past over to each, must be told apart; and what waits to be sent is
//! made the new session's own.

use entity::{
    UnixMillis,
    id::{MessageId, SessionKey},
    message, session,
    state::{Direction, MessageStatus},
};
use sea_orm::{
    ColumnTrait, Condition, DatabaseTransaction, DbErr, EntityTrait, ExprTrait,
    PaginatorTrait as _, QueryFilter, QueryOrder, QuerySelect,
    sea_query::{Alias, Expr, Query, SimpleExpr},
};

use super::{Error, messages::Messages, writer::Patience};

/// What the same message is called in a statement, as another session has it.
const TWIN: &str = "twin";

impl Messages {
    /// How many messages a session has of its own.
    pub async fn count(&self, session: &SessionKey) -> Result<u64, Error> {
        let messages = message::Entity::find()
            .filter(message::COLUMN.session_key.eq(session.clone()))
            .count(self.store.reader())
            .await?;
        Ok(messages)
    }

    /// The session, and those that have handed over to it: whose messages are its history.
    pub(super) async fn lineage(&self, session: &SessionKey) -> Result<Vec<SessionKey>, Error> {
        let mut keys: Vec<SessionKey> = session::Entity::find()
            .select_only()
            .column(session::Column::Id)
            .filter(session::COLUMN.migrated_to.eq(session.clone()))
            .into_tuple()
            .all(self.store.reader())
            .await?;
        keys.push(session.clone());
        Ok(keys)
    }

    /// Makes up to `limit` messages its own that sessions which have handed over to this one have not sent,
    /// the oldest first, and says how many. Sent they are under the ids that they have.
    ///
    /// One that this session knows already, as it was sent after all, stays where it is.
    pub async fn adopt(&self, session: &SessionKey, limit: u64) -> Result<u64, Error> {
        let now = self.store.clock().now();
        let (lane, session) = (session.to_string(), session.clone());
        self.store
            .writer()
            .run(&lane, Patience::Wait, move |txn| {
                let session = session.clone();
                Box::pin(async move { adopt(txn, &session, limit, now).await })
            })
            .await
    }
}

/// Whether no other of these sessions has had the message before.
pub(super) fn is_oldest_among(lineage: &[SessionKey]) -> SimpleExpr {
    let twin = |column: message::Column| Expr::col((Alias::new(TWIN), column));
    let own = |column: message::Column| Expr::col((message::Entity, column));
    let earlier = Condition::any()
        .add(twin(message::Column::CreatedAt).lt(own(message::Column::CreatedAt)))
        .add(
            Condition::all()
                .add(twin(message::Column::CreatedAt).eq(own(message::Column::CreatedAt)))
                .add(twin(message::Column::Id).lt(own(message::Column::Id))),
        );
    let mut twins = Query::select();
    twins
        .expr(Expr::val(1_i64))
        .from_as(message::Entity, Alias::new(TWIN))
        .and_where(twin(message::Column::SessionKey).is_in(lineage.iter().cloned()))
        .and_where(twin(message::Column::DedupeKey).eq(own(message::Column::DedupeKey)))
        .cond_where(earlier);
    Expr::exists(twins).not()
}

async fn adopt(
    txn: &DatabaseTransaction,
    session: &SessionKey,
    limit: u64,
    now: UnixMillis,
) -> Result<u64, DbErr> {
    let before: Vec<SessionKey> = session::Entity::find()
        .select_only()
        .column(session::Column::Id)
        .filter(session::COLUMN.migrated_to.eq(session.clone()))
        .into_tuple()
        .all(txn)
        .await?;
    if before.is_empty() {
        return Ok(0);
    }
    let mut known = Query::select();
    known
        .expr(Expr::val(1_i64))
        .from_as(message::Entity, Alias::new(TWIN))
        .and_where(Expr::col((Alias::new(TWIN), message::Column::SessionKey)).eq(session.clone()))
        .and_where(
            Expr::col((Alias::new(TWIN), message::Column::DedupeKey))
                .eq(Expr::col((message::Entity, message::Column::DedupeKey))),
        );
    let waiting: Vec<MessageId> = message::Entity::find()
        .select_only()
        .column(message::Column::Id)
        .filter(message::COLUMN.session_key.is_in(before))
        .filter(message::COLUMN.direction.eq(Direction::Outbound))
        .filter(message::COLUMN.status.is_in([MessageStatus::Queued, MessageStatus::Sending]))
        .filter(Expr::exists(known).not())
        .order_by_asc(message::COLUMN.created_at)
        .order_by_asc(message::COLUMN.id)
        .limit(limit)
        .into_tuple()
        .all(txn)
        .await?;
    if waiting.is_empty() {
        return Ok(0);
    }
    let adopted = message::Entity::update_many()
        .col_expr(message::Column::SessionKey, Expr::value(session.clone()))
        .col_expr(message::Column::Status, Expr::value(MessageStatus::Queued))
        .col_expr(message::Column::UpdatedAt, Expr::value(now))
        .filter(message::COLUMN.id.is_in(waiting))
        .exec(txn)
        .await?;
    Ok(adopted.rows_affected)
}
