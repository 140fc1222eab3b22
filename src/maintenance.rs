//! Work in the background that nobody asks for: what is old is deleted.
//!
//! Writers share their transactions with it, so it takes small bites: each is as large as the last
//! ones allow if it is to take [`TARGET`] at most, and is followed by a pause. A sweep of a large
//! backlog may take hours; nobody waits for it.

use std::{collections::BTreeMap, time::Duration};

use entity::UnixMillis;
use tokio_util::sync::CancellationToken;

use crate::{
    clock::Clock,
    store::{
        self, Store,
        retention::{Chunk, Table},
    },
};

/// How long one chunk's statements shall take. A fifth of what a writer may wait: the commit and
/// the checkpoint come on top, and a machine has slow moments.
const TARGET: Duration = Duration::from_millis(10);

/// The first size of a chunk, the smallest and the largest.
const CHUNK: Bite = Bite { rows: 100, least: 20, most: 2000 };

/// How long what grows is kept; none is for ever.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    pub events: Option<Duration>,
    pub messages: Option<Duration>,
    pub idempotency: Option<Duration>,
    pub sent_messages: Option<Duration>,
    pub pending_inbound: Option<Duration>,
    /// The distance between sweeps, on average.
    pub interval: Duration,
}

impl Policy {
    fn keeps(&self, table: Table) -> Option<Duration> {
        match table {
            Table::Events => self.events,
            Table::Messages => self.messages,
            Table::Idempotency => self.idempotency,
            Table::SentMessages => self.sent_messages,
            Table::PendingInbound => self.pending_inbound,
            // Each says itself when it ends.
            Table::MessageSecrets => Some(Duration::ZERO),
        }
    }
}

/// What one sweep did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Swept {
    /// Rows deleted, by table.
    pub rows: BTreeMap<Table, u64>,
    /// Transactions' worth of work.
    pub chunks: u64,
    /// The longest of them.
    pub longest: Duration,
}

impl Swept {
    /// Rows deleted in all tables.
    pub fn total(&self) -> u64 {
        self.rows.values().sum()
    }

    fn count(&mut self, chunk: Chunk) {
        self.chunks += 1;
        self.longest = self.longest.max(chunk.took);
    }
}

/// The worker.
#[derive(Clone, Debug)]
pub struct Maintenance {
    store: Store,
    policy: Policy,
    stop: CancellationToken,
}

impl Maintenance {
    /// A worker that ends, between two chunks, when `stop` is cancelled.
    pub fn new(store: Store, policy: Policy, stop: CancellationToken) -> Self {
        Self { store, policy, stop }
    }

    /// Sweeps at intervals, until it is stopped. A database that is away is tried again next time.
    pub async fn run(self) {
        let clock = self.store.clock().clone();
        loop {
            let due = next(&clock, self.policy.interval);
            tokio::select! {
                () = self.stop.cancelled() => return,
                () = clock.sleep_until(due) => {}
            }
            match self.sweep().await {
                Ok(swept) if swept.chunks > 0 => tracing::info!(
                    retention.rows = swept.total(),
                    retention.chunks = swept.chunks,
                    retention.longest_ms = u64::try_from(swept.longest.as_millis()).unwrap_or(0),
                    "Old rows were deleted: {}",
                    listed(&swept)
                ),
                Ok(_) => {}
                Err(error) => {
                    let error: &dyn std::error::Error = &error;
                    tracing::warn!(error, "Old rows could not be deleted; trying again later");
                }
            }
        }
    }

    /// Deletes all that is old enough now.
    pub async fn sweep(&self) -> Result<Swept, store::Error> {
        let now = self.store.clock().now();
        let mut swept = Swept::default();
        let mut bite = CHUNK;
        for table in Table::ALL {
            let Some(keeps) = self.policy.keeps(table) else { continue };
            let kept = i64::try_from(keeps.as_millis()).unwrap_or(i64::MAX);
            let before = UnixMillis(now.0.saturating_sub(kept));
            for due in self.store.retention().due(table, before).await? {
                loop {
                    if self.stop.is_cancelled() {
                        return Ok(swept);
                    }
                    let asked = bite.rows;
                    let chunk = self.store.retention().retire(&due, asked).await?;
                    swept.count(chunk);
                    *swept.rows.entry(table).or_default() += chunk.rows;
                    if chunk.rows < asked {
                        break;
                    }
                    bite.learn(chunk.took);
                    pause(chunk.took).await;
                }
            }
        }
        if swept.total() > 0 {
            self.shrink(&mut swept).await?;
        }
        Ok(swept)
    }

    /// Makes an SQLite file smaller, if a good part of it is free.
    async fn shrink(&self, swept: &mut Swept) -> Result<(), store::Error> {
        let mut bite = CHUNK;
        while !self.stop.is_cancelled() {
            let Some(chunk) = self.store.retention().shrink(bite.rows).await? else { break };
            swept.count(chunk);
            bite.learn(chunk.took);
            pause(chunk.took).await;
        }
        Ok(())
    }
}

/// Half to one and a half intervals from now, so that daemons on one database do not sweep together.
fn next(clock: &Clock, interval: Duration) -> UnixMillis {
    let distance = interval.mul_f64(rand::random_range(0.5..1.5));
    let millis = i64::try_from(distance.as_millis()).unwrap_or(i64::MAX);
    UnixMillis(clock.now().0.saturating_add(millis))
}

/// As long as the work took, so that at least half of the time is for others.
async fn pause(took: Duration) {
    tokio::time::sleep(took.clamp(Duration::from_millis(1), Duration::from_secs(1))).await;
}

fn listed(swept: &Swept) -> String {
    let tables: Vec<_> = swept.rows.iter().filter(|(_, rows)| **rows > 0).collect();
    let words = tables.into_iter().map(|(table, rows)| format!("{rows} of {}", table.name()));
    words.collect::<Vec<_>>().join(", ")
}

/// How many rows to delete at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Bite {
    rows: u64,
    least: u64,
    most: u64,
}

impl Bite {
    /// Smaller at once after one that took too long, larger by a quarter after one that was quick.
    fn learn(&mut self, took: Duration) {
        let rows = if took > TARGET {
            self.rows / 2
        } else if took < TARGET / 2 {
            self.rows + self.rows / 4 + 1
        } else {
            self.rows
        };
        self.rows = rows.clamp(self.least, self.most);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chunk_shrinks_at_once_and_grows_slowly_within_its_limits() {
        let mut bite = CHUNK;
        bite.learn(TARGET * 2);
        assert_eq!(bite.rows, 50);
        bite.learn(TARGET * 3 / 4);
        assert_eq!(bite.rows, 50);
        bite.learn(TARGET / 4);
        assert_eq!(bite.rows, 63);
        for _ in 0..50 {
            bite.learn(Duration::ZERO);
        }
        assert_eq!(bite.rows, CHUNK.most);
        for _ in 0..50 {
            bite.learn(TARGET * 2);
        }
        assert_eq!(bite.rows, CHUNK.least);
    }

    #[test]
    fn sweeps_are_spread_around_their_interval() {
        let clock = Clock::manual(UnixMillis(1_000_000));
        for _ in 0..100 {
            let due = next(&clock, Duration::from_secs(100)).0 - 1_000_000;
            assert!((50_000..=150_000).contains(&due), "{due}");
        }
    }
}
