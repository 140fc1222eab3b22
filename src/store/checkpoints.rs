//! SQLite's log is put into the file by a task of its own, on a connection of its own.
//!
//! Left to itself, SQLite has a writer do it: whoever's commit brings the log to a thousand pages copies
//! them all into the file and waits for the disk, with everybody in its group and behind it. So the
//! connections of the store never do (`connect.rs`), and this task does it for them:
//!
//! - After 32 groups, or five seconds after a commit, what is in the log is copied (`PASSIVE`). That
//!   takes no lock a reader or a writer waits for.
//! - While others write, such a copy is never complete, and the log is begun anew only from a complete
//!   one. So once it holds 16 MiB, what came meanwhile is copied again and again, until that is little; the
//!   little is copied between two groups, and the next group writes to the log's beginning.
//! - A reader that has not ended keeps what it may still need in the log (`wagate backup` reads for as long
//!   as it copies). The log grows for as long as that, and nobody waits. From 256 MiB on the log says so.
//! - A log that was that large is cut off (`TRUNCATE`) once nothing has been written for half a minute.
//!
//! When the store closes, the task copies the rest once the lanes have ended, whoever else may still have
//! the database open; whoever closes the last connection removes the log. A process that is killed leaves
//! it behind, and the next one reads what it holds: nothing that was committed depends on this task.

use std::{convert::Infallible, sync::Arc, time::Duration};

use entity::UnixMillis;
use sea_orm::{ConnectionTrait, DatabaseConnection, DbBackend, DbErr, Statement};
use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::{connect::Connector, writer::Shared};

/// So many groups are worth a copy.
const GROUPS: u64 = 32;

/// And so long after a commit it is time for one, however few there were.
const PATIENCE: Duration = Duration::from_secs(5);

/// How long nothing is written before a large log is cut off.
const IDLE: Duration = Duration::from_secs(30);

/// A log of so many pages, 16 MiB, is to be begun anew.
const LARGE: i64 = 4096;

/// So few are little: they cost no more than a commit.
const LITTLE: i64 = 64;

/// How often what came meanwhile is copied, before those who write have to wait for more than a little:
/// they might be faster than the disk.
const ROUNDS: u32 = 8;

/// One of so many, 256 MiB, is worth a line.
const HUGE: i64 = 65_536;

/// What the lanes have committed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Commits {
    pub(super) groups: u64,
    /// When the last one was.
    pub(super) at: UnixMillis,
}

/// The task.
pub(super) struct Checkpoints {
    connector: Connector,
    shared: Arc<Shared>,
    /// Of the lanes: when each has written its last.
    written: Vec<CancellationToken>,
    /// None after a failure: the next copy begins by opening one.
    db: Option<DatabaseConnection>,
    /// Whether the log's file is worth cutting off.
    large: bool,
    /// Whether it has been told already what is wrong.
    told: bool,
    /// Says when the task is over, however it ends.
    ended: DropGuard,
}

/// What the log holds, in pages, and how many of those are in the file.
struct Log {
    pages: i64,
    copied: i64,
}

impl Checkpoints {
    /// The task is still to be spawned. The token says when it is over.
    pub(super) fn new(
        connector: Connector,
        shared: Arc<Shared>,
        written: Vec<CancellationToken>,
    ) -> (Self, CancellationToken) {
        let ended = CancellationToken::new();
        let guard = ended.clone().drop_guard();
        let (large, told) = (false, false);
        let task = Self { connector, shared, written, db: None, large, told, ended: guard };
        (task, ended)
    }

    /// Copies at times, until the writer is closing.
    pub(super) async fn run(mut self) {
        let closing = self.shared.closing.clone();
        closing.run_until_cancelled(self.work()).await;
        for lane in &self.written {
            lane.cancelled().await;
        }
        // A file that is copied after the end shall be whole without its log.
        self.cut().await;
        if let Some(db) = self.db.take() {
            db.close().await.ok();
        }
        drop(self.ended);
    }

    async fn work(&mut self) -> Option<Infallible> {
        let clock = self.shared.clock.clone();
        let mut commits = self.shared.commits.subscribe();
        let mut copied = Commits::default();
        loop {
            let idle = async {
                let until = if self.large { copied.at + IDLE } else { UnixMillis(i64::MAX) };
                clock.sleep_until(until).await;
            };
            let last = tokio::select! {
                last = reach(&mut commits, copied.groups + 1) => last?,
                () = idle => {
                    self.cut().await;
                    continue;
                }
            };
            tokio::select! {
                enough = reach(&mut commits, copied.groups + GROUPS) => {
                    enough?;
                }
                () = clock.sleep_until(last.at + PATIENCE) => {}
            }
            copied = *commits.borrow();
            self.copy().await;
        }
    }

    /// Copies what is in the log.
    async fn copy(&mut self) {
        match self.pass().await {
            Ok(log) => {
                self.large = log.pages > LARGE;
                if log.pages > HUGE && log.copied < log.pages && !self.told {
                    tracing::warn!(
                        log.pages = log.pages,
                        "SQLite's log grows, as somebody has been reading for long"
                    );
                }
                self.told = log.pages > HUGE;
            }
            Err(err) => self.complain(&err),
        }
        self.count();
    }

    async fn pass(&mut self) -> Result<Log, DbErr> {
        let db = connection(&mut self.db, &self.connector).await?;
        let mut log = checkpoint(db, "PASSIVE").await?;
        for _ in 0..ROUNDS {
            // Small, begun anew by itself, or held up by somebody who reads.
            if log.pages <= LARGE || log.copied < log.pages {
                return Ok(log);
            }
            let before = log.pages;
            log = checkpoint(db, "PASSIVE").await?;
            if log.pages - before <= LITTLE {
                break;
            }
        }
        // Between two groups: complete, unless somebody reads what is older.
        let _turn = self.shared.turn.write().await;
        checkpoint(db, "PASSIVE").await
    }

    /// Cuts a large log off, if nobody is in the way.
    async fn cut(&mut self) {
        self.large = false;
        let cut = async {
            let db = connection(&mut self.db, &self.connector).await?;
            let _turn = self.shared.turn.write().await;
            checkpoint(db, "TRUNCATE").await
        };
        if let Err(err) = cut.await {
            self.complain(&err);
        }
        self.count();
    }

    /// What is in the log stays there, and is copied another time.
    fn complain(&mut self, err: &DbErr) {
        self.db = None;
        if !self.told {
            let error: &dyn std::error::Error = err;
            tracing::warn!(error, "SQLite's log cannot be put into the file; trying again later");
        }
        self.told = true;
    }

    fn count(&self) {
        self.shared.checkpoints.send_modify(|count| *count += 1);
    }
}

/// Waits until so many groups were committed.
async fn reach(commits: &mut watch::Receiver<Commits>, groups: u64) -> Option<Commits> {
    let reached = commits.wait_for(|now| now.groups >= groups).await;
    reached.map(|now| *now).ok()
}

/// The connection there is, or a new one.
async fn connection<'a>(
    db: &'a mut Option<DatabaseConnection>,
    connector: &Connector,
) -> Result<&'a DatabaseConnection, DbErr> {
    let open = match db.take() {
        Some(open) => open,
        None => connector.checkpointer().await?,
    };
    Ok(db.insert(open))
}

async fn checkpoint(db: &DatabaseConnection, mode: &str) -> Result<Log, DbErr> {
    let ask = format!("PRAGMA wal_checkpoint({mode})");
    let row = db.query_one_raw(Statement::from_string(DbBackend::Sqlite, ask)).await?;
    let row =
        row.ok_or_else(|| DbErr::RecordNotFound("a checkpoint says how it was".to_owned()))?;
    // The first column says whether it met others who copy, or read or write what it wants; then it
    // has done what it could.
    Ok(Log {
        pages: row.try_get_by_index::<i32>(1)?.into(),
        copied: row.try_get_by_index::<i32>(2)?.into(),
    })
}
