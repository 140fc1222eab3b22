//! How a lane finds out whether a commit arrived that nobody has confirmed.
//!
//! On PostgreSQL a connection can break between a commit and its answer. So each group writes its number
//! into a row of its lane, as the last thing in its transaction: the row is there, with that number, if
//! and only if the group is.
//!
//! That holds on whatever server answers the question. Its own memory of transactions
//! (`pg_xact_status`) would not do: one that takes over with the last transactions missing gives their
//! numbers to others, whose fate it would report.
//!
//! SQLite says itself how a commit ended: one that failed there did not happen.

use entity::{UnixMillis, id::LaneId, writer_lane};
use sea_orm::{
    ColumnTrait, ConnectionTrait, DatabaseConnection, DatabaseTransaction, DbBackend, DbErr,
    EntityTrait, QueryFilter, Statement,
};

/// A row this old is of a lane that is gone: whoever has not reached the database for so long owns nothing
/// any more.
pub(super) const KEPT_MILLIS: i64 = 24 * 60 * 60 * 1000;

/// A group, as its lane's row names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mark {
    lane: LaneId,
    group: i64,
}

impl Mark {
    /// That of a new lane, before its first group.
    pub(super) fn new(now: UnixMillis) -> Self {
        Self { lane: LaneId::new(now, rand::random()), group: 0 }
    }

    /// Another group. None has the mark of another, were it only tried again.
    pub(super) fn advance(&mut self) {
        self.group += 1;
    }

    /// Writes it, unless the transaction has written nothing. Says whether there is now something to ask
    /// for, should the commit not be confirmed.
    pub(super) async fn write(
        &self,
        txn: &DatabaseTransaction,
        now: UnixMillis,
    ) -> Result<bool, DbErr> {
        if txn.get_database_backend() != DbBackend::Postgres {
            return Ok(false);
        }
        let write = Statement::from_sql_and_values(
            DbBackend::Postgres,
            "INSERT INTO writer_lane (id, last_group, written_at) SELECT $1::text, $2::bigint, $3::bigint \
             WHERE pg_current_xact_id_if_assigned() IS NOT NULL ON CONFLICT (id) DO UPDATE \
             SET last_group = excluded.last_group, written_at = excluded.written_at",
            [self.lane.as_str().into(), self.group.into(), now.0.into()],
        );
        Ok(txn.execute_raw(write).await?.rows_affected() > 0)
    }

    /// Writes it, as the first thing of a transaction.
    pub(super) async fn begin(
        &self,
        txn: &DatabaseTransaction,
        now: UnixMillis,
    ) -> Result<(), DbErr> {
        let write = "INSERT INTO writer_lane (id, last_group, written_at) VALUES ($1, $2, $3) \
                     ON CONFLICT (id) DO UPDATE \
                     SET last_group = excluded.last_group, written_at = excluded.written_at";
        let values = [self.lane.as_str().into(), self.group.into(), now.0.into()];
        let write = Statement::from_sql_and_values(txn.get_database_backend(), write, values);
        txn.execute_raw(write).await.map(drop)
    }

    /// Whether the group with this mark, the last that its lane has tried, was committed.
    ///
    /// Waits while its transaction is still open on the server: that holds the row, be it new or not.
    pub(super) async fn was_committed(
        &self,
        db: &DatabaseConnection,
        now: UnixMillis,
    ) -> Result<bool, DbErr> {
        let ask = Statement::from_sql_and_values(
            DbBackend::Postgres,
            "INSERT INTO writer_lane (id, last_group, written_at) VALUES ($1, 0, $2) \
             ON CONFLICT (id) DO UPDATE SET last_group = writer_lane.last_group RETURNING last_group",
            [self.lane.as_str().into(), now.0.into()],
        );
        let row = db.query_one_raw(ask).await?.ok_or(DbErr::RecordNotInserted)?;
        Ok(row.try_get_by_index::<i64>(0)? == self.group)
    }
}

/// Forgets lanes that have written nothing since `before`.
pub(super) async fn forget(txn: &DatabaseTransaction, before: UnixMillis) -> Result<(), DbErr> {
    let old = writer_lane::Entity::delete_many().filter(writer_lane::COLUMN.written_at.lt(before));
    old.exec(txn).await.map(drop)
}
