//! One group of units in one transaction.
//!
//! # Savepoints, and when there are none
//!
//! A unit that fails must not take its neighbours with it, which is what savepoints are for: two
//! more statements a unit. But units hardly ever fail, and a unit may run twice. So a group is
//! first run without any; if all goes well, as nearly always, it is committed as it is. If a unit
//! fails, everything is rolled back and the group runs again, carefully: each unit in a savepoint
//! of its own. A unit that is alone needs no savepoint at all: its transaction is one.
//!
//! # Time
//!
//! A group that takes too long is rolled back, and nobody can say from here whether the connection hangs or a
//! unit does. The lane asks the database, and if that takes writes it runs the group's units one by one.
//!
//! `plan.rs`: in which order a group's work is done. `run.rs`: doing it, with savepoints or without.

mod plan;
mod run;

use std::{collections::BTreeSet, sync::Mutex, time::Duration};

use entity::{UnixMillis, id::EndpointId};
use sea_orm::{
    DatabaseConnection, DatabaseTransaction, DbBackend, DbErr, SqliteTransactionMode,
    TransactionOptions, TransactionTrait,
};
use tokio::time::timeout;

use self::run::{run_boldly, run_carefully};
use super::{
    Error, error::Fault, events::Recorded, fence::Fences, lane::Job, limits::Learned, mark::Mark,
    progress::Progress, webhooks::Known,
};
use crate::fault::moment;

/// A transaction that intends to write.
///
/// Takes SQLite's lock before the first read: two transactions that read first and upgrade later
/// would have one of them fail at once, without ever waiting for the busy timeout.
pub(super) const WRITE: TransactionOptions = TransactionOptions {
    isolation_level: None,
    access_mode: None,
    sqlite_transaction_mode: Some(SqliteTransactionMode::Immediate),
};

/// How one unit ended: an event says whether it was new, other units keep their result themselves.
pub(super) type Outcome = Result<Option<Recorded>, Refused>;

/// Why one unit came to nothing, while its neighbours did not.
#[derive(Clone, Debug)]
pub(super) enum Refused {
    /// The database refused it, or it refused itself.
    Failed(DbErr),
    /// Whoever wrote it does not own its session any more. It was not run.
    LeaseLost,
    /// It alone took longer than a whole group may.
    TooLong,
}

impl From<DbErr> for Refused {
    fn from(err: DbErr) -> Self {
        Self::Failed(err)
    }
}

impl From<Refused> for Error {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Failed(err) => err.into(),
            Refused::LeaseLost => Self::LeaseLost,
            Refused::TooLong => Self::TooLong,
        }
    }
}

/// What a group runs in.
#[derive(Clone, Copy)]
pub(super) struct Surroundings<'a> {
    pub(super) now: UnixMillis,
    /// What is known of webhook endpoints.
    pub(super) known: &'a Known,
    /// What the group is found again by.
    pub(super) mark: &'a Mark,
    /// Takes those that the group owes something, to be told of it after the commit.
    pub(super) touched: &'a Mutex<BTreeSet<EndpointId>>,
    /// How far the group has come.
    pub(super) progress: &'a Progress,
    /// How long it may take.
    pub(super) deadline: Duration,
    /// What is known of the server, which has to be told of that: of the one that the transaction has begun on, which may
    /// be on a new connection.
    pub(super) learned: &'a Learned,
}

/// Adds to a group what arrives while it runs.
pub(super) type Join<'a> = dyn FnMut(&mut Vec<Job>) + Send + 'a;

/// What became of a group.
pub(super) enum Fate {
    /// On disk. One outcome for each job, in their order.
    Committed(Vec<Outcome>),
    /// Rolled back, for a reason that is not a unit's own.
    Failed(DbErr),
    /// Its statements took too long, after the transaction had begun: the connection hangs, or they do.
    Overran {
        /// The unit that was being run, by its place.
        unit: Option<usize>,
        err: DbErr,
    },
    /// The connection broke while it was committed; [`Mark::was_committed`] tells.
    Unknown {
        /// What to answer, should it be committed.
        outcomes: Vec<Outcome>,
        /// What broke.
        err: DbErr,
    },
}

/// Why an attempt came to nothing.
enum Interrupted {
    /// A unit failed; which one is found out by running carefully.
    ByUnit(DbErr),
    /// The database is in the way.
    ByDatabase(DbErr),
}

impl Interrupted {
    fn by(err: DbErr) -> Self {
        match Fault::of(&err) {
            Fault::Statement => Self::ByUnit(err),
            Fault::Contention | Fault::Outage => Self::ByDatabase(err),
        }
    }
}

/// Whether an answer means that there is something new to look at.
pub(super) fn is_new(recorded: &Recorded) -> bool {
    matches!(recorded, Recorded::New { .. })
}

/// Runs `group` in one transaction and commits it. `join` adds to it what arrives meanwhile.
///
/// Neither takes longer than its deadline. Units that do are rolled back; a commit that does may have
/// happened, and is never simply run again.
pub(super) async fn commit(
    db: &DatabaseConnection,
    group: &mut Vec<Job>,
    around: Surroundings<'_>,
    join: &mut Join<'_>,
) -> Fate {
    let deadline = around.deadline;
    let Attempt { txn, is_marked, outcomes } =
        match timeout(deadline, run(db, group, around, join)).await {
            Ok(Ok(attempt)) => attempt,
            Ok(Err(fate)) => return fate,
            Err(_) if around.progress.has_begun() => {
                return Fate::Overran { unit: around.progress.unit(), err: timed_out(deadline) };
            }
            Err(_) => return Fate::Failed(timed_out(deadline)),
        };
    moment!("store.before_commit");
    let committed = match db.get_database_backend() {
        DbBackend::Postgres => {
            timeout(deadline, txn.commit()).await.unwrap_or_else(|_| Err(timed_out(deadline)))
        }
        // Once begun, it goes on whether anybody waits or not, and says how it ended.
        _ => txn.commit().await,
    };
    match (committed, is_marked) {
        (Ok(()), _) => {
            moment!("store.committed");
            Fate::Committed(outcomes)
        }
        (Err(err), true) if Fault::of(&err) == Fault::Outage => Fate::Unknown { outcomes, err },
        (Err(err), _) => Fate::Failed(err),
    }
}

/// Runs the units, ready to be committed; or what became of them without.
async fn run(
    db: &DatabaseConnection,
    group: &mut Vec<Job>,
    around: Surroundings<'_>,
    join: &mut Join<'_>,
) -> Result<Attempt, Fate> {
    let run = match attempt(db, group, around, Some(join)).await {
        Err(Interrupted::ByUnit(err)) if group.len() == 1 => {
            return Err(Fate::Committed(vec![Err(err.into())]));
        }
        Err(Interrupted::ByUnit(_)) => attempt(db, group, around, None).await,
        run => run,
    };
    run.map_err(|interrupted| match interrupted {
        Interrupted::ByDatabase(err) | Interrupted::ByUnit(err) => Fate::Failed(err),
    })
}

/// The connection is taken for lost.
pub(super) fn timed_out(deadline: Duration) -> DbErr {
    let reason = format!("no answer within {} seconds", deadline.as_secs_f64());
    DbErr::Conn(sea_orm::RuntimeErr::Internal(reason))
}

/// All that is left to do is to commit it.
struct Attempt {
    txn: DatabaseTransaction,
    /// Whether PostgreSQL can be asked, should the connection break during the commit.
    is_marked: bool,
    outcomes: Vec<Outcome>,
}

/// Runs the units, in savepoints if nobody is to `join`. On an error all of it is rolled back.
async fn attempt(
    db: &DatabaseConnection,
    group: &mut Vec<Job>,
    around: Surroundings<'_>,
    mut join: Option<&mut Join<'_>>,
) -> Result<Attempt, Interrupted> {
    let txn = db.begin_with_options(WRITE).await.map_err(Interrupted::ByDatabase)?;
    around.progress.at(Progress::SEVERAL);
    if let Err(err) = around.learned.get().set(&txn, around.deadline).await {
        // Nothing has been done that would have to be undone.
        return Err(Interrupted::ByDatabase(err));
    }
    let careful = join.is_none();
    let mut outcomes: Vec<Outcome> = Vec::new();
    let mut fences = Fences::default();
    let mut result = Ok(());
    while outcomes.len() < group.len() && result.is_ok() {
        let begun = outcomes.len();
        outcomes.resize_with(group.len(), || Ok(None));
        let (jobs, answers) = (&mut group[begun..], &mut outcomes[begun..]);
        around.progress.at(Progress::SEVERAL);
        // Before anything is run for a session: whether it is still its owner who writes.
        result = fences.check(&txn, jobs, answers).await.map_err(Interrupted::by);
        if result.is_ok() {
            result = if careful {
                run_carefully(&txn, begun, jobs, around, answers).await
            } else {
                run_boldly(&txn, begun, jobs, around, answers).await
            };
        }
        if let Some(join) = &mut join {
            join(group);
        }
    }
    // An error a unit met on PostgreSQL has ended the transaction, even if the unit kept quiet about
    // it: then this statement fails too, and it comes before the commit would be a silent rollback.
    let result = match result {
        Ok(()) => around.mark.write(&txn, around.now).await.map_err(Interrupted::by),
        Err(interrupted) => Err(interrupted),
    };
    match result {
        Ok(is_marked) => Ok(Attempt { txn, is_marked, outcomes }),
        Err(interrupted) => match txn.rollback().await {
            Ok(()) => Err(interrupted),
            // SQLite has rolled back by itself, or the connection is gone: it is not to be used
            // again, whatever the reason was.
            Err(err) => Err(Interrupted::ByDatabase(broken(interrupted, &err))),
        },
    }
}

/// An error that makes the lane open a new connection.
fn broken(interrupted: Interrupted, rollback: &DbErr) -> DbErr {
    match interrupted {
        Interrupted::ByDatabase(err) if Fault::of(&err) == Fault::Outage => err,
        Interrupted::ByDatabase(_) | Interrupted::ByUnit(_) => {
            DbErr::Conn(sea_orm::RuntimeErr::Internal(format!("cannot roll back: {rollback}")))
        }
    }
}
