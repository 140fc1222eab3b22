//! Deleting what is old, a few rows at a time.
//!
//! The rows to delete are found through an index and named by their keys, so that a chunk costs what
//! it deletes and not what the table holds. Everything in these statements is ours (tables, numbers,
//! an id made of a time), so nothing needs binding.

use std::time::Duration;

use entity::{
    UnixMillis,
    id::{EventId, MessageId, OrganizationId},
};
use sea_orm::{ConnectionTrait, DatabaseTransaction, DbBackend, DbErr, Statement};
use tokio::time::Instant;

use super::{Error, Patience, Store};

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
}

impl Table {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Events,
        Self::Messages,
        Self::Idempotency,
        Self::SentMessages,
        Self::PendingInbound,
        Self::MessageSecrets,
    ];

    /// Its name in the database.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Events => "event",
            Self::Messages => "message",
            Self::Idempotency => "idempotency",
            Self::SentMessages => "wa_sent_message",
            Self::PendingInbound => "wa_pending_inbound",
            Self::MessageSecrets => "wa_msg_secret",
        }
    }

    const fn key(self) -> &'static str {
        match self {
            Self::Events | Self::Messages => "id",
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
            Self::Messages => format!(
                "id < '{}' AND status NOT IN ('queued', 'sending')",
                MessageId::new(before, 0)
            ),
            Self::Idempotency => format!("created_at < {}", before.0),
            Self::SentMessages | Self::PendingInbound => format!("stored_at < {seconds}"),
            // Zero is for ever.
            Self::MessageSecrets => format!("expires_at > 0 AND expires_at < {seconds}"),
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
}

/// What one chunk was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chunk {
    /// Rows that are gone.
    pub rows: u64,
    /// How long the statements took: what everybody behind them waited.
    pub took: Duration,
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
        let (name, older) = (table.name(), table.is_older(before));
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
            Ok(Due { table, condition })
        });
        due.collect::<Result<_, DbErr>>().map_err(Error::from)
    }

    /// Deletes up to `rows` of what is due, the oldest first where that has a meaning.
    pub async fn retire(&self, due: &Due, rows: u64) -> Result<Chunk, Error> {
        let due = due.clone();
        self.store
            .writer()
            .run(LANE, Patience::Fail, move |txn| {
                let due = due.clone();
                Box::pin(async move {
                    let begun = Instant::now();
                    let rows = match due.table {
                        Table::Events => retire_events(txn, &due, rows).await?,
                        _ => {
                            txn.execute_unprepared(&delete(txn, &due, rows)).await?.rows_affected()
                        }
                    };
                    Ok(Chunk { rows, took: begun.elapsed() })
                })
            })
            .await
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
        let chunk = self.store.writer().run(LANE, Patience::Fail, move |txn| {
            Box::pin(async move {
                let begun = Instant::now();
                txn.execute_unprepared(&format!("PRAGMA incremental_vacuum({pages})")).await?;
                Ok(Chunk { rows: pages, took: begun.elapsed() })
            })
        });
        chunk.await.map(Some)
    }
}

/// Free pages worth keeping: four megabytes.
const KEPT_FREE: i64 = 1024;

fn delete(txn: &DatabaseTransaction, due: &Due, rows: u64) -> String {
    let Due { table, condition } = due;
    let (name, key) = (table.name(), table.key());
    let order = match table {
        Table::Events | Table::Messages => "ORDER BY id ",
        _ => "",
    };
    match txn.get_database_backend() {
        // The array is computed once. What another daemon is deleting is left to it.
        DbBackend::Postgres => format!(
            "DELETE FROM {name} WHERE ctid = ANY(ARRAY(SELECT ctid FROM {name} WHERE {condition} \
             {order}LIMIT {rows} FOR UPDATE SKIP LOCKED))"
        ),
        _ => format!(
            "DELETE FROM {name} WHERE ({key}) IN \
             (SELECT {key} FROM {name} WHERE {condition} {order}LIMIT {rows})"
        ),
    }
}

/// Deletes events, and remembers how far each organization's were retired.
async fn retire_events(txn: &DatabaseTransaction, due: &Due, rows: u64) -> Result<u64, DbErr> {
    let delete = format!("{} RETURNING organization_id, seq", delete(txn, due, rows));
    let database = txn.get_database_backend();
    let gone = txn.query_all_raw(Statement::from_string(database, delete)).await?;
    // In one order always: the rows stay locked until the commit.
    let mut highest = std::collections::BTreeMap::<OrganizationId, i64>::new();
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
