//! Work in the background that nobody asks for: what is old is deleted, and what deleted sessions have left
//! (`deleted.rs`), and handovers are looked at again (`handovers.rs`).
//!
//! Writers share their transactions with it, so it takes small bites (`store::retention::Bite`), and pauses after each
//! for at least as long as it took: half of the time and more is for others, and so is the lane while they
//! queue. A sweep of a large backlog may take hours; nobody waits for it.

mod deleted;
mod handovers;

use std::{collections::BTreeMap, time::Duration};

use entity::UnixMillis;
use tokio_util::sync::CancellationToken;

pub use self::{deleted::clear_deleted, handovers::look_again};
use crate::{
    clock::Clock,
    store::{
        self, Store,
        retention::{Bite, Chunk, Table},
    },
};

/// What a writer may wait for a chunk at most. One that took longer is counted and told.
const TOO_LONG: Duration = Duration::from_millis(50);

/// How long an acknowledgement waits for its message: clients elsewhere post again what was not taken, for days perhaps.
const EARLY_ACKS: Duration = Duration::from_hours(7 * 24);

/// How long what grows is kept; none is for ever.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    pub events: Option<Duration>,
    pub messages: Option<Duration>,
    pub idempotency: Option<Duration>,
    pub sent_messages: Option<Duration>,
    pub pending_inbound: Option<Duration>,
    pub webhooks: Option<Duration>,
    pub meta: Option<Duration>,
    pub message_statuses: Option<Duration>,
    pub contacts: Option<Duration>,
    pub tokens: Option<Duration>,
    pub audit: Option<Duration>,
    /// The distance between sweeps, on average.
    pub interval: Duration,
}

impl Policy {
    fn keeps(&self, table: Table) -> Option<Duration> {
        match table {
            Table::Events | Table::Notices => self.events,
            Table::Messages => self.messages,
            Table::Idempotency => self.idempotency,
            Table::SentMessages => self.sent_messages,
            Table::PendingInbound => self.pending_inbound,
            Table::WebhookDeliveries
            | Table::WebhookAttempts
            | Table::WebhookEvents
            | Table::WebhookReplays
            | Table::WebhookGaps
            | Table::WebhookEndpoints => self.webhooks,
            Table::MessageStatuses => self.message_statuses,
            Table::Conversations | Table::Contacts => self.contacts,
            Table::Tokens => self.tokens,
            Table::Audit => self.audit,
            Table::MetaEvents | Table::MetaBodies => self.meta,
            Table::EarlyAcks => Some(EARLY_ACKS),
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
    /// The longest that the statements of one took.
    pub longest: Duration,
    /// The longest that one held a lane of the writer: with its commit.
    pub longest_held: Duration,
    /// How many held it longer than a writer may be blocked, 50 ms.
    pub slow: u64,
}

impl Swept {
    /// Rows deleted in all tables.
    pub fn total(&self) -> u64 {
        self.rows.values().sum()
    }

    fn count(&mut self, chunk: Chunk) {
        self.chunks += 1;
        self.longest = self.longest.max(chunk.took);
        self.longest_held = self.longest_held.max(chunk.held);
        if chunk.held <= TOO_LONG {
            return;
        }
        self.slow += 1;
        if self.slow == 1 {
            tracing::warn!(
                retention.rows = chunk.rows,
                retention.statements_ms = millis(chunk.took),
                retention.held_ms = millis(chunk.held),
                "Deleting old rows kept writers waiting; going on with fewer at once"
            );
        }
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
                    retention.slow_chunks = swept.slow,
                    retention.longest_ms = millis(swept.longest_held),
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
        for table in Table::ALL {
            let Some(keeps) = self.policy.keeps(table) else { continue };
            let kept = i64::try_from(keeps.as_millis()).unwrap_or(i64::MAX);
            let before = UnixMillis(now.0.saturating_sub(kept));
            let mut bite = Bite::of(table);
            for mut due in self.store.retention().due(table, before).await? {
                loop {
                    if self.stop.is_cancelled() {
                        return Ok(swept);
                    }
                    self.give_way().await;
                    let chunk = self.store.retention().retire(&mut due, bite.rows()).await?;
                    if chunk.rows == 0 && chunk.held.is_zero() {
                        // It was looked for, and that was all.
                        break;
                    }
                    self.learn(chunk, &mut bite, &mut swept);
                    *swept.rows.entry(table).or_default() += chunk.rows;
                    pause(chunk).await;
                    if chunk.rows < chunk.asked {
                        break;
                    }
                }
            }
        }
        if swept.total() > 0 {
            self.shrink(&mut swept).await?;
        }
        self.store.retention().forget_lanes().await?;
        Ok(swept)
    }

    /// Makes an SQLite file smaller, if a good part of it is free.
    async fn shrink(&self, swept: &mut Swept) -> Result<(), store::Error> {
        let mut bite = Bite::pages();
        while !self.stop.is_cancelled() {
            self.give_way().await;
            let Some(chunk) = self.store.retention().shrink(bite.rows()).await? else { break };
            self.learn(chunk, &mut bite, swept);
            pause(chunk).await;
        }
        Ok(())
    }

    fn learn(&self, chunk: Chunk, bite: &mut Bite, swept: &mut Swept) {
        swept.count(chunk);
        self.store.retention().count_chunk(chunk.held > TOO_LONG);
        bite.learn(chunk);
    }

    /// Lets those go first who queue.
    async fn give_way(&self) {
        self.store.retention().give_way(|| !self.stop.is_cancelled()).await;
    }
}

/// As long as the chunk took, so that at least half of the time is for others.
async fn pause(chunk: Chunk) {
    tokio::time::sleep(chunk.held.clamp(Duration::from_millis(1), Duration::from_secs(1))).await;
}

/// Half to one and a half intervals from now, so that daemons on one database do not sweep together.
fn next(clock: &Clock, interval: Duration) -> UnixMillis {
    let distance = interval.mul_f64(rand::random_range(0.5..1.5));
    let millis = i64::try_from(distance.as_millis()).unwrap_or(i64::MAX);
    UnixMillis(clock.now().0.saturating_add(millis))
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

fn listed(swept: &Swept) -> String {
    let tables: Vec<_> = swept.rows.iter().filter(|(_, rows)| **rows > 0).collect();
    let words = tables.into_iter().map(|(table, rows)| format!("{rows} of {}", table.name()));
    words.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sweeps_are_spread_around_their_interval() {
        let clock = Clock::manual(UnixMillis(1_000_000));
        for _ in 0..100 {
            let due = next(&clock, Duration::from_secs(100)).0 - 1_000_000;
            assert!((50_000..=150_000).contains(&due), "{due}");
        }
    }
}
