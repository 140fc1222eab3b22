//! Deleting what is old, a few rows at a time.
//!
//! The rows to delete are found through an index and named by their keys, so that a chunk costs what
//! it deletes and not what the table holds. No other table refers to them, so nothing goes with them but a few rows of
//! an endpoint's and a contact's. Everything in these statements is ours (tables, numbers,
//! an id made of a time), so nothing needs binding.
//!
//! - `table.rs`: what is retired, and what of it is old. `found.rs`: rows that are few among many that stay.
//!   `cleared.rs`: all rows of a session that was deleted.
//! - `bite.rs`: how many at once.

mod bite;
mod cleared;
mod found;
mod table;

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use entity::{UnixMillis, id::OrganizationId, writer_lane};
use sea_orm::{
    ColumnTrait, ConnectionTrait, DatabaseTransaction, DbBackend, DbErr, EntityTrait, QueryFilter,
    Statement,
};
use tokio::time::Instant;

use self::table::Scope;
use super::{Error, Patience, Store, mark};

pub use self::{bite::Bite, table::Table};

/// A key of the writer's lanes: every chunk goes through the same one.
const LANE: &str = "retention";

/// What a chunk's rows may hold together, unless it is one row: the pages of what is large are freed one by one.
const BYTES: i64 = 512 * 1024;

/// How often, and from one time to the next, a chunk lets others go first while they queue.
const YIELDS: (u32, Duration) = (40, Duration::from_millis(5));

/// Rows of one table that are old enough, and lie together in an index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Due {
    table: Table,
    condition: String,
    /// Rows up to this id are looked at: those that were left are still to be sent, or stay for another reason.
    seen: Option<String>,
    /// The session or the organization whose they are, if it is one's.
    owner: Option<String>,
    /// Whose they are, where that is one's and is to be locked.
    organization: Option<OrganizationId>,
}

impl Due {
    fn of(table: Table, condition: String) -> Self {
        Self { table, condition, seen: None, owner: None, organization: None }
    }

    /// The statement that retires up to `rows` of them.
    pub fn delete(&self, database: DbBackend, rows: u64) -> String {
        let (name, key, order) = (self.table.rows(), self.table.key(), self.table.order());
        let retire = match self.table {
            Table::Notices => format!("UPDATE {name} SET in_feed = FALSE"),
            _ => format!("DELETE FROM {name}"),
        };
        let condition = self.condition();
        let returning = match self.table {
            Table::Events | Table::Notices => " RETURNING organization_id, seq",
            Table::Messages | Table::WebhookEvents => " RETURNING id",
            _ => "",
        };
        match database {
            // The array is computed once. What another daemon is deleting is left to it.
            DbBackend::Postgres => format!(
                "{retire} WHERE ctid = ANY(ARRAY(SELECT ctid FROM {name} WHERE \
                 {condition} ORDER BY {order} LIMIT {rows} FOR UPDATE SKIP LOCKED)){returning}"
            ),
            _ => format!(
                "{retire} WHERE ({key}) IN (SELECT {key} FROM {name} \
                 WHERE {condition} ORDER BY {order} LIMIT {rows}){returning}"
            ),
        }
    }
    fn condition(&self) -> String {
        match &self.seen {
            Some(seen) => format!("{} AND id > '{seen}'", self.condition),
            None => self.condition.clone(),
        }
    }
}

/// What one chunk was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chunk {
    /// Rows that are gone.
    pub rows: u64,
    /// Rows that it was for. There are no more if fewer are gone.
    pub asked: u64,
    /// How long the statements took.
    pub took: Duration,
    /// How long a lane of the writer was held: from the first statement to the end of the commit,
    /// which is that of all others in the group. What anybody behind it waited.
    pub held: Duration,
}

/// Counts since start.
#[derive(Debug, Default)]
pub(super) struct Counters {
    rows: [AtomicU64; Table::ALL.len()],
    chunks: AtomicU64,
    slow: AtomicU64,
}

/// What was retired since the start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RetentionStats {
    /// Rows deleted, of each table.
    pub rows: BTreeMap<Table, u64>,
    /// Transactions' worth of work.
    pub chunks: u64,
    /// Those of them that kept writers waiting too long.
    pub slow: u64,
}

/// Retiring rows.
#[derive(Clone, Debug)]
pub struct Retention {
    store: Store,
}

impl Retention {
    pub(super) fn new(store: Store) -> Self {
        Self { store }
    }

    /// Where there is something of `table` older than `before`. Reads only.
    pub async fn due(&self, table: Table, before: UnixMillis) -> Result<Vec<Due>, Error> {
        let db = self.store.reader();
        let (name, older) = (table.rows(), table.is_older(before));
        let scope = table.scope();
        let ask = match scope.owner() {
            Some((owner, column)) => {
                let organization = scope.organization();
                format!(
                    "SELECT id, {organization} FROM {owner} WHERE EXISTS \
                     (SELECT 1 FROM {name} WHERE {column} = {owner}.id AND {older}) ORDER BY id"
                )
            }
            None => format!("SELECT 1 WHERE EXISTS (SELECT 1 FROM {name} WHERE {older})"),
        };
        let ask = Statement::from_string(db.get_database_backend(), ask);
        let rows = db.query_all_raw(ask).await?;
        let due = rows.iter().map(|row| {
            let mut due = Due::of(table, older.clone());
            match scope {
                Scope::All => {}
                Scope::Device => {
                    let number: i32 = row.try_get_by_index(0)?;
                    due.condition = format!("device_id = {number} AND {older}");
                }
                Scope::Session | Scope::Organization => {
                    let id: String = row.try_get_by_index(0)?;
                    let column = scope.owner().map_or("id", |(_, column)| column);
                    due.condition = format!("{column} = '{id}' AND {older}");
                    due.owner = Some(id);
                    due.organization = Some(row.try_get_by_index(1)?);
                }
            }
            Ok(due)
        });
        due.collect::<Result<_, DbErr>>().map_err(Error::from)
    }

    /// Deletes up to `rows` of what is due, the oldest first; fewer, if they are large.
    pub async fn retire(&self, due: &mut Due, rows: u64) -> Result<Chunk, Error> {
        let table = due.table;
        if table.is_sparse() {
            return found::retire(&self.store, due, rows).await;
        }
        let asked = self.light(due, rows).await?;
        let delete = due.delete(self.store.reader().get_database_backend(), asked);
        let unit = self.store.writer().run_aside(LANE, Patience::Fail, move |txn| {
            let delete = delete.clone();
            Box::pin(async move {
                let begun = Instant::now();
                let (rows, last) = match table {
                    Table::Events | Table::Notices => (retire_events(txn, delete).await?, None),
                    Table::Messages | Table::WebhookEvents => retire_by_id(txn, delete).await?,
                    _ => (txn.execute_unprepared(&delete).await?.rows_affected(), None),
                };
                Ok((begun, begun.elapsed(), rows, last))
            })
        });
        let (begun, took, rows, last) = unit.await?;
        due.seen = last.or_else(|| due.seen.take());
        self.store.retired.rows[table as usize].fetch_add(rows, Ordering::Relaxed);
        Ok(Chunk { rows, asked, took, held: begun.elapsed() })
    }

    /// How many of up to `rows` that are due are together not too large. One at least.
    async fn light(&self, due: &Due, rows: u64) -> Result<u64, Error> {
        let Some(weight) = due.table.weight() else { return Ok(rows) };
        let db = self.store.reader();
        let (name, order, condition) = (due.table.rows(), due.table.order(), due.condition());
        let ask = format!(
            "SELECT CAST({weight} AS BIGINT) FROM {name} WHERE {condition} \
             ORDER BY {order} LIMIT {rows}"
        );
        let ask = Statement::from_string(db.get_database_backend(), ask);
        let (mut count, mut bytes) = (0, 0);
        for row in db.query_all_raw(ask).await? {
            bytes += row.try_get_by_index::<i64>(0)?;
            if count > 0 && bytes > BYTES {
                return Ok(count);
            }
            count += 1;
        }
        // There may be others by the time that the writer comes to it.
        Ok(rows)
    }

    /// Counts a chunk that was committed.
    pub fn count_chunk(&self, slow: bool) {
        self.store.retired.chunks.fetch_add(1, Ordering::Relaxed);
        self.store.retired.slow.fetch_add(slow.into(), Ordering::Relaxed);
    }

    /// What was retired since the start.
    pub fn stats(&self) -> RetentionStats {
        let counters = &self.store.retired;
        let rows = |table: Table| counters.rows[table as usize].load(Ordering::Relaxed);
        RetentionStats {
            rows: Table::ALL.into_iter().map(|table| (table, rows(table))).collect(),
            chunks: counters.chunks.load(Ordering::Relaxed),
            slow: counters.slow.load(Ordering::Relaxed),
        }
    }

    /// Forgets lanes of writers that are long gone. A few rows for each process there was.
    pub async fn forget_lanes(&self) -> Result<(), Error> {
        let before = UnixMillis(self.store.clock().now().0 - mark::KEPT_MILLIS);
        let old = writer_lane::Entity::find().filter(writer_lane::COLUMN.written_at.lt(before));
        if old.one(self.store.reader()).await?.is_none() {
            return Ok(());
        }
        let forget = self.store.writer().run_aside(LANE, Patience::Fail, move |txn| {
            Box::pin(async move { mark::forget(txn, before).await })
        });
        forget.await
    }

    /// Lets those go first who queue, for a moment: they may queue all day. `goes_on` until the work is to end.
    pub async fn give_way(&self, goes_on: impl Fn() -> bool + Send + Sync) {
        for _ in 0..YIELDS.0 {
            // More writers wait for the same lane than one group takes.
            if !self.store.writer().is_crowded_aside() || !goes_on() {
                return;
            }
            tokio::time::sleep(YIELDS.1).await;
        }
    }

    /// Gives up to `pages` free pages of an SQLite file back to the file system. None elsewhere, and
    /// none while there are not many: the next rows need them.
    pub async fn shrink(&self, pages: u64) -> Result<Option<Chunk>, Error> {
        if self.store.reader().get_database_backend() != DbBackend::Sqlite {
            return Ok(None);
        }
        let number = async |pragma: &str| {
            let ask = format!("SELECT CAST({pragma} AS INTEGER) FROM pragma_{pragma}");
            let ask = Statement::from_string(DbBackend::Sqlite, ask);
            let row = self.store.reader().query_one_raw(ask).await?;
            row.map_or(Ok(0), |row| row.try_get_by_index::<i64>(0)).map_err(Error::from)
        };
        let (all, free) = (number("page_count").await?, number("freelist_count").await?);
        // 2: incremental. A file of before that was the rule keeps its pages, and uses them again.
        if number("auto_vacuum").await? != 2 || free < KEPT_FREE || free < all / 8 {
            return Ok(None);
        }
        let unit = self.store.writer().run_aside(LANE, Patience::Fail, move |txn| {
            Box::pin(async move {
                let begun = Instant::now();
                txn.execute_unprepared(&format!("PRAGMA incremental_vacuum({pages})")).await?;
                Ok((begun, begun.elapsed()))
            })
        });
        let (begun, took) = unit.await?;
        Ok(Some(Chunk { rows: pages, asked: pages, took, held: begun.elapsed() }))
    }
}

/// Free pages worth keeping: four megabytes.
const KEPT_FREE: i64 = 1024;

/// Deletes events, and remembers how far each organization's were retired.
async fn retire_events(txn: &DatabaseTransaction, delete: String) -> Result<u64, DbErr> {
    let database = txn.get_database_backend();
    let gone = txn.query_all_raw(Statement::from_string(database, delete)).await?;
    // In one order always: the rows stay locked until the commit.
    let mut highest = BTreeMap::<OrganizationId, i64>::new();
    for row in &gone {
        let organization: OrganizationId = row.try_get_by_index(0)?;
        let seq: i64 = row.try_get_by_index(1)?;
        let known = highest.entry(organization).or_insert(seq);
        *known = seq.max(*known);
    }
    for (organization, seq) in highest {
        let remember = format!(
            "UPDATE organization SET retired_seq = {seq} \
             WHERE id = '{organization}' AND retired_seq < {seq}"
        );
        txn.execute_unprepared(&remember).await?;
    }
    Ok(gone.len() as u64)
}

/// Deletes rows, and says how far it came.
async fn retire_by_id(
    txn: &DatabaseTransaction,
    delete: String,
) -> Result<(u64, Option<String>), DbErr> {
    let delete = Statement::from_string(txn.get_database_backend(), delete);
    let gone = txn.query_all_raw(delete).await?;
    let ids = gone.iter().map(|row| row.try_get_by_index::<String>(0));
    let ids = ids.collect::<Result<Vec<_>, _>>()?;
    Ok((ids.len() as u64, ids.into_iter().max()))
}
