//! What the wall clock's being set means for what is owed, and for what is remembered of endpoints.
//!
//! Each statement can be made twice, by two daemons whose clocks were both set, or once more after an error: what is too
//! far away is brought near, and what has time left keeps at least that, though no more than its endpoint asks.

use std::time::Duration;

use entity::id::DeliveryId;
use sea_orm::{ConnectionTrait, Statement};

use super::{LANE, PATIENCE, Webhooks, list, upkeep::CHUNK};
use crate::store::Error;

/// How old a delivery may grow, in milliseconds.
const AGE: &str =
    "(SELECT e.max_age_ms FROM webhook_endpoint e WHERE e.id = webhook_delivery.endpoint_id)";

impl Webhooks {
    /// The clock was set back, to now. What waits for its next attempt waits as long as it was to wait, from now
    /// on. Returns how many deliveries it was.
    pub async fn clock_went_back(&self) -> Result<u64, Error> {
        let now = self.store.clock().now().0;
        // Its last attempt was then, by the clock that was ahead; what has none waits for nobody in particular.
        let last = "(SELECT MAX(a.started_at) FROM webhook_attempt a \
                    WHERE a.delivery_id = webhook_delivery.id)";
        let waits = format!(
            "CASE WHEN next_at <= {now} THEN next_at WHEN COALESCE({last}, {now} + 1) <= {now} \
             THEN next_at ELSE COALESCE({now} + next_at - {last}, 0) END"
        );
        self.write(format!(
            "UPDATE webhook_health SET hold_until = {now} + hold_until - last_failure_at \
             WHERE hold_until > {now} AND last_failure_at > {now}"
        ))
        .await?;
        // How long it is kept is left: another daemon's clock, or this one when it is put right, would find it too old.
        self.each("('pending')", &format!("next_at = {waits}")).await
    }

    /// The clock was set ahead by so much. What waits or is being sent has as long left as it had, and an endpoint has
    /// failed for as long as it had. Returns how many deliveries it was.
    pub async fn clock_went_ahead(&self, by: Duration) -> Result<u64, Error> {
        let now = self.store.clock().now().0;
        let by = i64::try_from(by.as_millis()).unwrap_or(i64::MAX);
        let before = now.saturating_sub(by);
        self.write(format!(
            "UPDATE webhook_health SET first_failure_at = first_failure_at + {by} \
             WHERE first_failure_at <= {before}"
        ))
        .await?;
        // What had grown too old before stays so.
        let set = format!(
            "expires_at = CASE WHEN expires_at <= {before} THEN expires_at \
             WHEN expires_at + {by} > {now} + {AGE} THEN {now} + {AGE} ELSE expires_at + {by} END"
        );
        // In one go: what is being sent may wait the next moment, and is not to be given twice as long.
        self.each("('pending', 'claimed')", &set).await
    }

    /// Changes each delivery in one of these states, once; a few hundred at a time.
    async fn each(&self, states: &str, set: &str) -> Result<u64, Error> {
        let db = self.store.reader();
        let (mut after, mut total) = (String::new(), 0);
        loop {
            let ask = format!(
                "SELECT id FROM webhook_delivery WHERE state IN {states} AND id > $1 \
                 ORDER BY id LIMIT {CHUNK}"
            );
            let ask =
                Statement::from_sql_and_values(db.get_database_backend(), ask, [after.into()]);
            let rows = db.query_all_raw(ask).await?;
            let ids = rows.iter().map(|row| row.try_get_by_index::<DeliveryId>(0));
            let ids = ids.collect::<Result<Vec<_>, _>>()?;
            let Some(last) = ids.last() else { return Ok(total) };
            after = last.to_string();
            // What has another state meanwhile goes by the clock as it is.
            total += self
                .write(format!(
                    "UPDATE webhook_delivery SET {set} WHERE id IN ({}) AND (state || '') IN {states}",
                    list(&ids)
                ))
                .await?;
        }
    }

    async fn write(&self, statement: String) -> Result<u64, Error> {
        self.store
            .writer()
            .run(LANE, PATIENCE, move |txn| {
                let statement = statement.clone();
                Box::pin(
                    async move { Ok(txn.execute_unprepared(&statement).await?.rows_affected()) },
                )
            })
            .await
    }
}
