//! Figures of an endpoint: counted by the hour, in the transaction that writes what came of attempts.
//!
//! Durations are counted in buckets (`crate::webhook::durations`), so an hour is a handful of rows however
//! much is sent, and a month of an endpoint is read in one look.

use std::{collections::BTreeMap, time::Duration};

use entity::{UnixMillis, id::EndpointId};
use sea_orm::{ConnectionTrait, DatabaseTransaction, DbErr, Statement};

use super::{LANE, PATIENCE, Settled, Webhooks, settle::Ending, upkeep::CLAIMED};
use crate::{store::Error, webhook::durations::bucket};

/// How long figures are kept.
const KEPT: Duration = Duration::from_hours(90 * 24);

/// Rows of one transaction.
const CHUNK: u64 = 500;

const HOUR: i64 = 3_600_000;

/// Attempts that succeeded, attempts that failed, deliveries that were given up.
const SUCCEEDED: &str = "succeeded";
const FAILED: &str = "failed";
const EXHAUSTED: &str = "exhausted";

/// What was counted of an endpoint in some time, and how it stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    /// The time as it was counted: whole hours.
    pub since: UnixMillis,
    pub until: UnixMillis,
    /// Requests that succeeded, by bucket of their duration, and those that failed.
    pub succeeded: Vec<(i32, i64)>,
    pub failed: Vec<(i32, i64)>,
    /// Deliveries that were given up.
    pub exhausted: i64,
    /// Now: deliveries that wait, and that are being sent.
    pub pending: i64,
    pub in_flight: i64,
    /// Since when the first of what should have been sent is due.
    pub oldest_due: Option<UnixMillis>,
}

/// Counts, by endpoint, outcome and bucket: in the order in which rows are locked.
#[derive(Debug, Default)]
pub(super) struct Tally(BTreeMap<(EndpointId, &'static str, i32), i64>);

impl Tally {
    /// Counts the attempts of a batch.
    pub(super) fn attempts(&mut self, batch: &[Settled]) {
        for settled in batch {
            if let Some(attempt) = &settled.attempt {
                let good = settled.ending == Ending::Succeeded;
                let outcome = if good { SUCCEEDED } else { FAILED };
                self.add(&settled.endpoint, outcome, bucket(attempt.duration_ms));
            }
        }
    }

    /// Counts a delivery that was given up.
    pub(super) fn exhausted(&mut self, endpoint: &EndpointId) {
        self.add(endpoint, EXHAUSTED, 0);
    }

    fn add(&mut self, endpoint: &EndpointId, outcome: &'static str, bucket: i32) {
        *self.0.entry((endpoint.clone(), outcome, bucket)).or_default() += 1;
    }

    /// Adds it to what was counted in this hour.
    pub(super) async fn write(
        self,
        txn: &DatabaseTransaction,
        now: UnixMillis,
    ) -> Result<(), DbErr> {
        if self.0.is_empty() {
            return Ok(());
        }
        let hour = now.0.div_euclid(HOUR);
        let rows: Vec<_> = self
            .0
            .iter()
            .map(|((endpoint, outcome, bucket), number)| {
                format!("('{endpoint}', {hour}, '{outcome}', {bucket}, {number})")
            })
            .collect();
        let count = format!(
            "INSERT INTO webhook_stat (endpoint_id, hour, outcome, bucket, number) VALUES {} \
             ON CONFLICT (endpoint_id, hour, outcome, bucket) \
             DO UPDATE SET number = webhook_stat.number + excluded.number",
            rows.join(", ")
        );
        txn.execute_unprepared(&count).await.map(drop)
    }
}

impl Webhooks {
    /// What was counted of an endpoint between two times, as far as whole hours say it.
    pub async fn figures(
        &self,
        endpoint: &EndpointId,
        since: UnixMillis,
        until: UnixMillis,
    ) -> Result<Figures, Error> {
        let (first, end) = (since.0.div_euclid(HOUR), until.0.saturating_add(HOUR - 1) / HOUR);
        let db = self.store.reader();
        let database = db.get_database_backend();
        let ask = format!(
            "SELECT outcome, bucket, CAST(SUM(number) AS BIGINT) FROM webhook_stat \
             WHERE endpoint_id = '{endpoint}' AND hour >= {first} AND hour < {end} \
             GROUP BY outcome, bucket"
        );
        let mut figures = Figures {
            since: UnixMillis(first.saturating_mul(HOUR)),
            until: UnixMillis(end.saturating_mul(HOUR)),
            ..Figures::default()
        };
        for row in db.query_all_raw(Statement::from_string(database, ask)).await? {
            let outcome: String = row.try_get_by_index(0)?;
            let (bucket, number): (i32, i64) = (row.try_get_by_index(1)?, row.try_get_by_index(2)?);
            match outcome.as_str() {
                SUCCEEDED => figures.succeeded.push((bucket, number)),
                FAILED => figures.failed.push((bucket, number)),
                _ => figures.exhausted += number,
            }
        }
        let ask = format!(
            "SELECT (SELECT COUNT(*) FROM webhook_delivery WHERE endpoint_id = '{endpoint}' \
             AND state = 'pending'), (SELECT COUNT(*) FROM webhook_delivery \
             WHERE endpoint_id = '{endpoint}' AND {CLAIMED})"
        );
        if let Some(row) = db.query_one_raw(Statement::from_string(database, ask)).await? {
            figures.pending = row.try_get_by_index(0)?;
            figures.in_flight = row.try_get_by_index(1)?;
        }
        figures.oldest_due = self.oldest_due_of(endpoint, self.store.clock().now()).await?;
        Ok(figures)
    }

    /// Forgets figures that are too old. Returns how many, and may be called again if that is many.
    pub async fn forget_figures(&self) -> Result<u64, Error> {
        let before = (self.store.clock().now().0 - i64::try_from(KEPT.as_millis()).unwrap_or(0))
            .div_euclid(HOUR);
        let which = format!("hour < {before} LIMIT");
        let db = self.store.reader();
        let there = format!("SELECT 1 FROM webhook_stat WHERE {which} 1");
        let there = Statement::from_string(db.get_database_backend(), there);
        if db.query_one_raw(there).await?.is_none() {
            return Ok(0);
        }
        let delete = format!(
            "DELETE FROM webhook_stat WHERE (endpoint_id, hour, outcome, bucket) IN \
             (SELECT endpoint_id, hour, outcome, bucket FROM webhook_stat WHERE {which} {CHUNK})"
        );
        self.store
            .writer()
            .run(LANE, PATIENCE, move |txn| {
                let delete = delete.clone();
                Box::pin(async move { Ok(txn.execute_unprepared(&delete).await?.rows_affected()) })
            })
            .await
    }
}
