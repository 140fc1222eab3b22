//! Is this database the one it says it is, and as new as we know it to be?
//!
//! A copy of a live device's state is dangerous: its Signal ratchets are where they were when it was
//! made. A daemon that goes on from there uses counters a second time, and if the original still
//! runs, two clients push each other out. Two signs tell:
//!
//! - The database has a name and a count, `epoch`, which grows at every start, every stop and at
//!   intervals between. The state directory remembers the highest seen. If the database says less
//!   under the same name, it was **set back**. That is seen at a start, and within an interval while the daemon
//!   runs, which then stops to be started again.
//! - A copy made by `wagate backup` has neither: it is a **copy**, wherever it is opened. (A dump made
//!   by hand becomes one by `pg_dump --exclude-table-data=installation`.)
//!
//! What was done outside and within one interval is not seen: a file copied by hand into a new state
//! directory.
//!
//! A third case is neither: a database with nothing in it, where this state directory has served another
//! one. A path that was mistyped or a volume that is not mounted looks like that, and a daemon that
//! answers with an empty list is the last thing its operator expects. It is refused.
//!
//! Restored, every linked session ends with the reason `restored` and is not started until somebody does
//! so, which says that no other copy is in use; or, if so configured, goes on by itself. In both cases
//! its Signal sessions are forgotten, so that no counter is used twice: the client makes new ones, and
//! asks for again what it cannot read.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

use entity::UnixMillis;
use tokio_util::sync::CancellationToken;

use crate::{
    device,
    event::{Disconnect, Event},
    state_dir,
    store::{self, Patience, Store, events::NewEvent},
};

/// The file in the state directory: the database's name and the highest epoch seen.
const FILE: &str = "installation";

/// How often the epoch grows while the daemon runs.
const INTERVAL: Duration = Duration::from_mins(5);

/// By how much it grows when a database was set back: more than daemons on one database can be
/// apart, so that what one of them has found is not found again by the next.
const LEAP: i64 = 1 << 20;

/// By how much what is remembered is raised when a database was set back under a running daemon: more often no epoch grows
/// until the next start.
const MARGIN: i64 = 1 << 10;

/// What is wrong with the database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Restored {
    /// It is a copy.
    Copy,
    /// It is older than it was.
    SetBack,
}

/// What came of growing the epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Advance {
    /// It is the database that it was, and as new as that.
    Remembered,
    /// It has no name, or says less than it did: it was set back, or is a copy.
    Swapped,
    /// The database or the file was not to be had.
    Unknown,
}

/// Remembers what the database says of itself.
#[derive(Clone, Debug)]
pub struct Copies {
    store: Store,
    file: PathBuf,
}

impl Copies {
    /// For the database `store`, remembered in `state_dir`.
    pub fn new(store: Store, state_dir: &Path) -> Self {
        Self { store, file: state_dir.join(FILE) }
    }

    /// Whether nothing is in this database, and what was here before was another one.
    pub async fn is_out_of_place(&self) -> Result<bool, store::Error> {
        let Some((known, _)) = self.known() else { return Ok(false) };
        let row = self.store.installation().read().await?;
        if row.is_none_or(|row| row.name == known) {
            return Ok(false);
        }
        let counts = self.store.sessions().count_all().await?;
        Ok(counts.iter().all(|count| count.sessions == 0))
    }

    /// The file that remembers the database.
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// Looks at the database, before any session is started. If it was restored, all linked sessions
    /// are flagged; with `hold` they are not started either.
    pub async fn look(&self, hold: bool) -> Result<Option<Restored>, store::Error> {
        let known = self.known();
        let row = self.store.installation().read().await?;
        let found = match (&row, &known) {
            (None, _) => Some((Restored::Copy, new_name(), LEAP)),
            (Some(row), Some((name, epoch))) if row.name == *name && row.epoch < *epoch => {
                Some((Restored::SetBack, name.clone(), epoch.saturating_add(LEAP)))
            }
            _ => None,
        };
        let restored = found.as_ref().map(|(restored, ..)| *restored);
        if let Some((restored, name, epoch)) = found {
            let sessions = self.flag(hold).await?;
            // Last: a start that is killed before finds the same again.
            self.store.installation().adopt(name, epoch).await?;
            if sessions > 0 {
                tracing::warn!(
                    restored.sessions = sessions,
                    restored.held = hold,
                    "The database {}: {sessions} linked sessions need a review{}",
                    match restored {
                        Restored::Copy => "is a copy",
                        Restored::SetBack => "was set back to an earlier state",
                    },
                    if hold { " and are not started until they are asked to" } else { "" },
                );
            }
        }
        self.advance().await;
        Ok(restored)
    }

    /// Ends every linked session with a reason, and forgets its Signal sessions.
    async fn flag(&self, hold: bool) -> Result<usize, store::Error> {
        let now = self.store.clock().now();
        let paired = self.store.installation().paired().await?;
        if hold {
            self.store.installation().hold().await?;
        }
        device::forget_signal_sessions(&self.store).await?;
        for (organization_id, session_key) in &paired {
            let event = NewEvent {
                organization_id: organization_id.clone(),
                session_key: session_key.clone(),
                generation: None,
                care: None,
                posted: None,
                event: Event::Disconnected(Disconnect::Restored),
                at: now,
            };
            self.store.writer().record(event, Patience::Fail).await?;
        }
        Ok(paired.len())
    }

    /// Grows the epoch at intervals, until it is stopped. Cancels `failed`, and ends, when the database is not any
    /// more the one that this daemon was started on: what its clients have in memory does not fit what they read. The
    /// next start finds the same, and flags the sessions.
    pub async fn run(self, stop: CancellationToken, failed: CancellationToken) {
        let clock = self.store.clock().clone();
        let interval = i64::try_from(INTERVAL.as_millis()).unwrap_or(i64::MAX);
        loop {
            let due = UnixMillis(clock.now().0.saturating_add(interval));
            tokio::select! {
                () = stop.cancelled() => return,
                () = clock.sleep_until(due) => {
                    if self.advance().await == Advance::Swapped {
                        tracing::error!(
                            "The database was set back, or replaced, while the daemon ran: it stops"
                        );
                        failed.cancel();
                        return;
                    }
                }
            }
        }
    }

    /// Grows the epoch and remembers it. The database first: a file that is behind raises no alarm.
    ///
    /// What is not above what is remembered raises that instead: the next start is to see it, however often it grows until
    /// then.
    pub async fn advance(&self) -> Advance {
        let row = match self.store.installation().advance().await {
            Ok(row) => row,
            Err(error) => return not_remembered(&error),
        };
        let (row, known) = match (row, self.known()) {
            // There was one, or this daemon would have made it at its start.
            (None, _) => return Advance::Swapped,
            (Some(row), known) => (row, known),
        };
        let known = known.as_ref().map(|(name, epoch)| (name.as_str(), *epoch));
        match known {
            Some((name, epoch)) if name == row.name && row.epoch <= epoch => {
                if let Err(error) = self.remember(name, epoch.saturating_add(MARGIN)) {
                    not_remembered(&error);
                }
                Advance::Swapped
            }
            _ => match self.remember(&row.name, row.epoch) {
                Ok(()) => Advance::Remembered,
                Err(error) => not_remembered(&error),
            },
        }
    }

    fn known(&self) -> Option<(String, i64)> {
        let text = fs::read_to_string(&self.file).ok()?;
        let (name, epoch) = text.trim().split_once(' ')?;
        Some((name.to_owned(), epoch.parse().ok()?))
    }

    fn remember(&self, name: &str, epoch: i64) -> io::Result<()> {
        state_dir::write_whole(&self.file, &format!("{name} {epoch}\n"))
    }
}

fn not_remembered(error: &(dyn std::error::Error + 'static)) -> Advance {
    tracing::warn!(error, "Cannot remember how new the database is");
    Advance::Unknown
}

fn new_name() -> String {
    format!("{:032x}", rand::random::<u128>())
}
