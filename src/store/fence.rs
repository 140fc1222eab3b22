//! Whether those who write in a group still own the sessions they write for.
//!
//! One statement for all sessions of a group, or of what joined it. On PostgreSQL it locks the rows
//! until the transaction ends: who takes a session over does so before this look, and is seen, or
//! after the commit. There is nothing in between. SQLite has one writer at a time anyway.

use std::collections::{BTreeSet, HashMap};

use entity::{id::SessionKey, lease};
use sea_orm::{
    ColumnTrait, DatabaseTransaction, DbErr, EntityTrait, QueryFilter, QueryOrder, QuerySelect,
};

use super::{
    group::{Outcome, Refused},
    lane::Job,
};

/// What one transaction knows of leases, and has locked.
#[derive(Debug, Default)]
pub(super) struct Fences {
    /// None for a session that has no owner or is not there any more.
    epochs: HashMap<SessionKey, Option<i64>>,
}

impl Fences {
    /// Refuses the jobs whose owner has been superseded: they are not to be run.
    pub(super) async fn check(
        &mut self,
        txn: &DatabaseTransaction,
        jobs: &[Job],
        outcomes: &mut [Outcome],
    ) -> Result<(), DbErr> {
        let leases = || jobs.iter().filter_map(|job| job.lease.as_ref());
        let unknown: BTreeSet<SessionKey> = leases()
            .map(|lease| &lease.session)
            .filter(|session| !self.epochs.contains_key(session))
            .cloned()
            .collect();
        if !unknown.is_empty() {
            let found: Vec<(SessionKey, i64)> = lease::Entity::find()
                .select_only()
                .column(lease::Column::SessionKey)
                .column(lease::Column::Epoch)
                .filter(lease::COLUMN.session_key.is_in(unknown.iter().cloned()))
                // In one order always, or two lanes could wait for each other.
                .order_by_asc(lease::COLUMN.session_key)
                .lock_shared()
                .into_tuple()
                .all(txn)
                .await?;
            self.epochs.extend(unknown.into_iter().map(|session| (session, None)));
            self.epochs.extend(found.into_iter().map(|(session, epoch)| (session, Some(epoch))));
        }
        for (job, outcome) in jobs.iter().zip(outcomes) {
            if let Some(lease) = &job.lease
                && self.epochs.get(&lease.session) != Some(&Some(lease.epoch))
            {
                *outcome = Err(Refused::LeaseLost);
            }
        }
        Ok(())
    }
}
