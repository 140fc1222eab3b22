//! Deleting what is old, a few rows at a time.
//!
//! The rows to delete are found through an index and named by their keys, so that a chunk costs what
//! it deletes and not what the table holds. No other table refers to them, so nothing goes with them.
//! Everything in these statements is ours (tables, numbers,
//! an id made of a time), so nothing needs binding.

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use entity::{
    UnixMillis,
    id::{AttemptId, DeliveryId, EventId, MessageId, MetaBodyId, MetaEventId, OrganizationId},
    writer_lane,
};
use sea_orm::{
    ColumnTrait, ConnectionTrait, DatabaseTransaction, DbBackend, DbErr, EntityTrait, QueryFilter,
    Statement,
};
use tokio::time::Instant;

use super::{Error, Patience, Store, mark};

/// A key of the writer's lanes: every chunk goes through the same one.
const LANE: &str = "retention";

/// What grows, and is retired.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Table {
    /// The feed. What was retired of it is remembered: see [`super::events::Events::retired_seq`].
    Events,
    /// Messages, but for those that are still to be sent.
    Messages,
    /// Idempotency keys.
    Idempotency,
    /// What recipients may ask for again.
    SentMessages,
    /// Decrypted, but not recorded before a crash.
    PendingInbound,
    /// Secrets of messages, which carry their own end.
    MessageSecrets,
    /// Webhook deliveries that have come to an end.
    WebhookDeliveries,
    /// Requests that were made for them.
    WebhookAttempts,
    /// What no session's run has seen: it leaves the feed with its other events. The rows stay for the
    /// log of deliveries.
    Notices,
    /// What endpoints were told; none in the feed. None that is still owed: what is owed for the first time is younger,
    /// and what was asked for again is looked for.
    WebhookEvents,
    /// What Meta has told.
    MetaEvents,
    /// What Meta has posted, which it was told in.
    MetaBodies,
}

impl Table {
    /// All of them.
    pub const ALL: [Self; 12] = [
        Self::Events,
        Self::Messages,
        Self::Idempotency,
        Self::SentMessages,
        Self::PendingInbound,
        Self::MessageSecrets,
        Self::WebhookDeliveries,
        Self::WebhookAttempts,
        Self::Notices,
        Self::WebhookEvents,
        Self::MetaEvents,
        Self::MetaBodies,
    ];

    /// What it is called: its name in the database, unless it is a part of another one.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Notices => "notice",
            table => table.rows(),
        }
    }

    /// The table in the database that its rows are in.
    pub const fn rows(self) -> &'static str {
        match self {
            Self::Events => "event",
            Self::Messages => "message",
            Self::Idempotency => "idempotency",
            Self::SentMessages => "wa_sent_message",
            Self::PendingInbound => "wa_pending_inbound",
            Self::MessageSecrets => "wa_msg_secret",
            Self::WebhookDeliveries => "webhook_delivery",
            Self::WebhookAttempts => "webhook_attempt",
            Self::Notices | Self::WebhookEvents => "webhook_event",
            Self::MetaEvents => "meta_event",
            Self::MetaBodies => "meta_body",
        }
    }

    const fn key(self) -> &'static str {
        match self {
            Self::Events
            | Self::Messages
            | Self::WebhookDeliveries
            | Self::WebhookAttempts
            | Self::Notices
            | Self::WebhookEvents
            | Self::MetaEvents
            | Self::MetaBodies => "id",
            Self::Idempotency => "organization_id, key",
            Self::SentMessages => "device_id, chat_jid, message_id",
            Self::PendingInbound | Self::MessageSecrets => "device_id, chat, sender, message_id",
        }
    }

    /// What is older than `before`. Ids begin with the time they were made at, and sort by it.
    fn is_older(self, before: UnixMillis) -> String {
        let seconds = before.0.div_euclid(1000);
        match self {
            Self::Events => format!("id < '{}'", EventId::new(before, 0)),
            Self::Notices => format!("in_feed AND id < '{}'", EventId::new(before, 0)),
            Self::WebhookEvents => format!(
                "NOT in_feed AND id < '{}' AND NOT EXISTS (SELECT 1 FROM webhook_delivery d \
                 WHERE d.event_id = webhook_event.id AND d.state IN ('pending', 'claimed') \
                 AND d.cause <> 'event')",
                EventId::new(before, 0)
            ),
            Self::Messages => format!(
                "id < '{}' AND status NOT IN ('queued', 'sending')",
                MessageId::new(before, 0)
            ),
            Self::Idempotency => format!("created_at < {}", before.0),
            Self::SentMessages | Self::PendingInbound => format!("stored_at < {seconds}"),
            Self::WebhookDeliveries => format!(
                "id < '{}' AND state NOT IN ('pending', 'claimed')",
                DeliveryId::new(before, 0)
            ),
            Self::WebhookAttempts => format!("id < '{}'", AttemptId::new(before, 0)),
            Self::MetaEvents => {
                format!("id < '{}' AND state <> 'waiting'", MetaEventId::new(before, 0))
            }
            // What of it waits is read from it.
            Self::MetaBodies => format!(
                "id < '{}' AND NOT EXISTS (SELECT 1 FROM meta_event WHERE body_id = meta_body.id \
                 AND state = 'waiting')",
                MetaBodyId::new(before, 0)
            ),
            // Zero is for ever.
            Self::MessageSecrets => format!("expires_at > 0 AND expires_at < {seconds}"),
        }
    }

    /// The order of the index that finds what is old.
    const fn order(self) -> &'static str {
        match self {
            Self::Events
            | Self::Messages
            | Self::WebhookDeliveries
            | Self::WebhookAttempts
            | Self::Notices
            | Self::WebhookEvents
            | Self::MetaEvents
            | Self::MetaBodies => "id",
            Self::Idempotency => "created_at",
            // Few, and found by their device.
            Self::SentMessages | Self::PendingInbound => "stored_at",
            Self::MessageSecrets => "expires_at",
        }
    }

    /// Whether its indices begin with the device.
    const fn is_of_device(self) -> bool {
        matches!(self, Self::SentMessages | Self::PendingInbound | Self::MessageSecrets)
    }
}

/// Rows of one table that are old enough, and lie together in an index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Due {
    table: Table,
    condition: String,
    /// Up to this id all is looked at: what was left is still to be sent.
    seen: Option<String>,
}

impl Due {
    /// The statement that retires up to `rows` of them.
    pub fn delete(&self, database: DbBackend, rows: u64) -> String {
        let (name, key, order) = (self.table.rows(), self.table.key(), self.table.order());
        let retire = match self.table {
            Table::Notices => format!("UPDATE {name} SET in_feed = FALSE"),
            _ => format!("DELETE FROM {name}"),
        };
        let condition = match &self.seen {
            Some(seen) => format!("{} AND id > '{seen}'", self.condition),
            None => self.condition.clone(),
        };
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
}

/// What one chunk was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chunk {
    /// Rows that are gone.
    pub rows: u64,
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
        let ask = if table.is_of_device() {
            format!(
                "SELECT id FROM device WHERE EXISTS \
                 (SELECT 1 FROM {name} WHERE device_id = device.id AND {older}) ORDER BY id"
            )
        } else {
            format!("SELECT 1 WHERE EXISTS (SELECT 1 FROM {name} WHERE {older})")
        };
        let ask = Statement::from_string(db.get_database_backend(), ask);
        let rows = db.query_all_raw(ask).await?;
        let due = rows.iter().map(|row| {
            let number: i32 = row.try_get_by_index(0)?;
            let condition = if table.is_of_device() {
                format!("device_id = {number} AND {older}")
            } else {
                older.clone()
            };
            Ok(Due { table, condition, seen: None })
        });
        due.collect::<Result<_, DbErr>>().map_err(Error::from)
    }

    /// Deletes up to `rows` of what is due, the oldest first.
    pub async fn retire(&self, due: &mut Due, rows: u64) -> Result<Chunk, Error> {
        let table = due.table;
        let delete = due.delete(self.store.reader().get_database_backend(), rows);
        let unit = self.store.writer().run(LANE, Patience::Fail, move |txn| {
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
        due.seen = last.or(due.seen.take());
        self.store.retired.rows[table as usize].fetch_add(rows, Ordering::Relaxed);
        Ok(Chunk { rows, took, held: begun.elapsed() })
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
        let forget = self.store.writer().run(LANE, Patience::Fail, move |txn| {
            Box::pin(async move { mark::forget(txn, before).await })
        });
        forget.await
    }

    /// Whether more writers wait for the same lane than one group takes.
    pub fn is_crowded(&self) -> bool {
        self.store.writer().is_crowded(LANE)
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
        let unit = self.store.writer().run(LANE, Patience::Fail, move |txn| {
            Box::pin(async move {
                let begun = Instant::now();
                txn.execute_unprepared(&format!("PRAGMA incremental_vacuum({pages})")).await?;
                Ok((begun, begun.elapsed()))
            })
        });
        let (begun, took) = unit.await?;
        Ok(Some(Chunk { rows: pages, took, held: begun.elapsed() }))
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
