//! How much to delete at once: what is old, and what a deleted session has left.

use std::time::Duration;

use super::{Chunk, Table};

/// How long one chunk's statements may take before the next is made smaller.
const STATEMENTS: Duration = Duration::from_millis(5);

/// The same with its commit. A third of what a writer may wait: it may come to wait for the group before
/// and for its own commit as well, and a machine has slow moments.
const HELD: Duration = Duration::from_millis(16);

/// The size of the next chunk, learnt from those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bite {
    rows: u64,
    most: u64,
}

impl Bite {
    /// Not even a disk that needs long for any commit makes a chunk smaller: it would be slow for
    /// nothing.
    const LEAST: u64 = 5;

    /// The first one of a table.
    pub const fn of(table: Table) -> Self {
        match table {
            // A row of these may be a hundred kilobytes.
            Table::Messages
            | Table::SentMessages
            | Table::PendingInbound
            | Table::MetaBodies
            | Table::WebhookAttempts => Self { rows: 20, most: 100 },
            Table::Events
            | Table::Idempotency
            | Table::MessageSecrets
            | Table::WebhookDeliveries
            | Table::Notices
            | Table::MetaEvents
            | Table::EarlyAcks
            | Table::WebhookEvents
            | Table::MessageStatuses
            | Table::Audit
            | Table::Conversations
            | Table::Contacts
            | Table::Tokens
            | Table::WebhookReplays
            | Table::WebhookGaps => Self { rows: 50, most: 400 },
            // With each go its secrets, its health and its gaps.
            Table::WebhookEndpoints => Self { rows: 10, most: 50 },
        }
    }

    /// The first one of free pages.
    pub const fn pages() -> Self {
        Self { rows: 50, most: 400 }
    }

    /// The same, and no more than so many rows at once.
    #[must_use]
    pub fn at_most(self, most: u64) -> Self {
        let most = self.most.min(most);
        Self { rows: self.rows.min(most), most }
    }

    pub const fn rows(self) -> u64 {
        self.rows
    }

    /// Half at once after one that took too long, an eighth more after one that was quick.
    pub fn learn(&mut self, chunk: Chunk) {
        let rows = if chunk.took > STATEMENTS || chunk.held > HELD {
            self.rows / 2
        } else if chunk.took < STATEMENTS / 2 && chunk.held < HELD / 2 {
            self.rows + self.rows / 8 + 1
        } else {
            self.rows
        };
        self.rows = rows.clamp(Self::LEAST, self.most);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn chunk(took: Duration, held: Duration) -> Chunk {
        Chunk { rows: 1, asked: 1, took, held }
    }

    fn any_bite() -> impl Strategy<Value = Bite> {
        prop_oneof![
            proptest::sample::select(&Table::ALL[..]).prop_map(Bite::of),
            Just(Bite::pages())
        ]
    }

    proptest! {
        #[test]
        fn chunks_that_took_too_long_are_halved_and_none_leaves_its_limits(
            mut bite in any_bite(),
            times in proptest::collection::vec((0_u64..40_000, 0_u64..80_000), 0..200),
        ) {
            for (took, commit) in times {
                let took = Duration::from_micros(took);
                let held = took + Duration::from_micros(commit);
                let before = bite.rows();
                bite.learn(chunk(took, held));
                prop_assert!((Bite::LEAST..=bite.most).contains(&bite.rows()));
                if took > STATEMENTS || held > HELD {
                    prop_assert!(bite.rows() <= (before / 2).max(Bite::LEAST));
                } else {
                    prop_assert!(bite.rows() >= before);
                    prop_assert!(bite.rows() <= before + before / 8 + 1);
                }
            }
        }
    }

    #[test]
    fn the_largest_chunk_is_reached_in_time_and_left_at_once() {
        for table in Table::ALL {
            let mut bite = Bite::of(table);
            for _ in 0..50 {
                bite.learn(chunk(Duration::ZERO, Duration::ZERO));
            }
            assert_eq!(bite.rows(), bite.most);
            assert!(bite.most <= 400);
            bite.learn(chunk(Duration::ZERO, HELD * 2));
            assert_eq!(bite.rows(), bite.most / 2);
        }
    }
}
