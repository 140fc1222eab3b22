//! A group's units, one after the other: all in one, or each in a savepoint of its own.

use std::{panic::AssertUnwindSafe, sync::PoisonError};

use futures_util::FutureExt;
use sea_orm::{ConnectionTrait, DatabaseTransaction, DbBackend, DbErr, TransactionTrait};

use super::{Interrupted, Outcome, Surroundings, plan::plan};
use crate::store::{
    error::Fault,
    events::{self, NewEvent, Recorded},
    lane::Job,
    progress::Progress,
    writer::Work,
};

/// `base` is the place of the first of these in the whole group.
pub(super) async fn run_boldly(
    txn: &DatabaseTransaction,
    base: usize,
    group: &mut [Job],
    around: Surroundings<'_>,
    outcomes: &mut [Outcome],
) -> Result<(), Interrupted> {
    for phase in plan(group, outcomes) {
        if !phase.events.is_empty() {
            let recorded =
                record(txn, around, group, &phase.events).await.map_err(Interrupted::by)?;
            for (&at, recorded) in phase.events.iter().zip(recorded) {
                outcomes[at] = Ok(Some(recorded));
            }
        }
        for at in phase.units {
            run_unit(txn, around, base + at, &mut group[at]).await.map_err(Interrupted::by)?;
        }
    }
    Ok(())
}

pub(super) async fn run_carefully(
    txn: &DatabaseTransaction,
    base: usize,
    group: &mut [Job],
    around: Surroundings<'_>,
    outcomes: &mut [Outcome],
) -> Result<(), Interrupted> {
    for phase in plan(group, outcomes) {
        // One bad event spoils the call for all; without it the others still share one.
        let mut together: Vec<Vec<usize>> = vec![phase.events];
        while let Some(some) = together.pop().filter(|some| !some.is_empty()) {
            let savepoint = txn.begin().await.map_err(Interrupted::by)?;
            match record(&savepoint, around, group, &some).await {
                Ok(recorded) => {
                    savepoint.commit().await.map_err(Interrupted::by)?;
                    for (&at, recorded) in some.iter().zip(recorded) {
                        outcomes[at] = Ok(Some(recorded));
                    }
                }
                Err(err) => {
                    savepoint.rollback().await.map_err(Interrupted::by)?;
                    blame(&err)?;
                    if let [only] = some[..] {
                        outcomes[only] = Err(err.into());
                    } else {
                        let (earlier, later) = some.split_at(some.len() / 2);
                        together.push(later.to_vec());
                        together.push(earlier.to_vec());
                    }
                }
            }
        }
        for at in phase.units {
            let savepoint = txn.begin().await.map_err(Interrupted::by)?;
            let mut run = run_unit(&savepoint, around, base + at, &mut group[at]).await;
            if run.is_ok() {
                run = still_open(&savepoint).await;
            }
            match run {
                Ok(()) => savepoint.commit().await.map_err(Interrupted::by)?,
                Err(err) => {
                    savepoint.rollback().await.map_err(Interrupted::by)?;
                    blame(&err)?;
                    outcomes[at] = Err(err.into());
                }
            }
        }
    }
    Ok(())
}

/// Passes on what is not the unit's own fault.
fn blame(err: &DbErr) -> Result<(), Interrupted> {
    match Fault::of(err) {
        Fault::Statement => Ok(()),
        Fault::Contention | Fault::Outage => Err(Interrupted::ByDatabase(err.clone())),
    }
}

async fn run_unit(
    txn: &DatabaseTransaction,
    around: Surroundings<'_>,
    place: usize,
    job: &mut Job,
) -> Result<(), DbErr> {
    around.progress.at(place);
    match &mut job.work {
        // The call is inside: a unit may also panic before it returns its future.
        Work::Unit(unit) => contained(async { unit.attempt(txn).await }).await,
        Work::Event { .. } => Ok(()),
    }
}

async fn record(
    txn: &DatabaseTransaction,
    around: Surroundings<'_>,
    group: &[Job],
    which: &[usize],
) -> Result<Vec<Recorded>, DbErr> {
    let events: Vec<&NewEvent> = which
        .iter()
        .filter_map(|&at| match &group[at].work {
            Work::Event { event, .. } => Some(&**event),
            Work::Unit(_) => None,
        })
        .collect();
    let Surroundings { now, known, touched, progress, .. } = around;
    progress.at(Progress::SEVERAL);
    let batch = contained(async { events::record_batch(txn, known, now, &events).await });
    let (recorded, owed) = batch.await?;
    touched.lock().unwrap_or_else(PoisonError::into_inner).extend(owed);
    if recorded.len() == events.len() {
        Ok(recorded)
    } else {
        Err(DbErr::Custom("not every event got an answer".to_owned()))
    }
}

/// Turns a panic into an error, so that it ends its unit and not the lane.
///
/// What the unit had in its hands is dropped with it, and its statements are rolled back; nothing
/// half-changed is left for others to see.
async fn contained<T>(work: impl Future<Output = Result<T, DbErr>>) -> Result<T, DbErr> {
    AssertUnwindSafe(work)
        .catch_unwind()
        .await
        .unwrap_or_else(|_| Err(DbErr::Custom("a unit of work panicked".to_owned())))
}

/// Fails on PostgreSQL if a statement has failed before in this (sub)transaction.
async fn still_open(txn: &DatabaseTransaction) -> Result<(), DbErr> {
    if txn.get_database_backend() == DbBackend::Postgres {
        txn.execute_unprepared("SELECT 1").await?;
    }
    Ok(())
}
