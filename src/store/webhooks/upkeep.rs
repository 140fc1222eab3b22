//! What nobody asks for: leases of the dead, what is too old, what nobody will be told any more.
//!
//! Each a few hundred rows at a time, so that nobody waits long behind it.

use std::{collections::BTreeSet, time::Duration};

use entity::{
    UnixMillis,
    id::{DeliveryId, EndpointId},
};
use sea_orm::{ConnectionTrait, DatabaseTransaction, DbBackend, DbErr, Statement};

use super::{
    LANE, PATIENCE, Webhooks,
    fanout::Known,
    list,
    settle::{Settlement, Signs, learned},
    stats::Tally,
};
use crate::{
    store::Error,
    webhook::{health::Sign, schedule::LONGEST},
};

/// Rows of one transaction.
pub(super) const CHUNK: u64 = 500;

/// Chunks of what has grown too old that are given up at one time.
const EXPIRED_AT_ONCE: u32 = 40;

/// No delivery is taken for so long. One that seems to be was taken under a clock that was ahead.
const NO_LEASE: Duration = Duration::from_hours(1);

/// Said again of a row that was found: somebody may have taken it meanwhile. Said plainly, planners would look for it in
/// an index of all that is pending.
const UNTAKEN: &str = "(state || '') = 'pending'";

/// What is being sent: as its index has it.
pub(super) const CLAIMED: &str = "state = 'claimed' AND lease_until > 0";

impl Webhooks {
    /// Lets go of all that this daemon was sending when it last ended; on SQLite of all, as nobody else
    /// can be there. Returns how many.
    pub async fn recover(&self, me: &str) -> Result<u64, Error> {
        let whose = match self.store.reader().get_database_backend() {
            DbBackend::Postgres => "AND claimed_by = $1",
            _ => "AND $1 IS NOT NULL",
        };
        self.let_go(&format!("{CLAIMED} {whose}"), me).await
    }

    /// Lets go of what was taken, and not sent in time. Returns how many.
    ///
    /// What is `under_way` here is in good hands, whatever a clock says.
    pub async fn reclaim(&self, me: &str, under_way: &[DeliveryId]) -> Result<u64, Error> {
        let now = self.store.clock().now();
        let mine = if under_way.is_empty() {
            "OR claimed_by = $1".to_owned()
        } else {
            format!("OR id NOT IN ({})", list(under_way))
        };
        let over = format!(
            "{CLAIMED} AND (lease_until < {} OR lease_until > {}) AND (claimed_by <> $1 {mine})",
            now.0,
            (now + NO_LEASE).0
        );
        self.let_go(&over, me).await
    }

    async fn let_go(&self, condition: &str, me: &str) -> Result<u64, Error> {
        let there = format!("SELECT 1 FROM webhook_delivery WHERE {condition} LIMIT 1");
        let db = self.store.reader();
        let there = Statement::from_sql_and_values(db.get_database_backend(), there, [me.into()]);
        let mut total = 0;
        if db.query_one_raw(there).await?.is_none() {
            return Ok(total);
        }
        loop {
            let (update, me) = (
                format!(
                    "UPDATE webhook_delivery SET state = 'pending', claim = NULL, \
                     claimed_by = NULL, lease_until = NULL, next_at = 0 WHERE id IN \
                     (SELECT id FROM webhook_delivery WHERE {condition} LIMIT {CHUNK})"
                ),
                me.to_owned(),
            );
            let rows = self
                .store
                .writer()
                .run(LANE, PATIENCE, move |txn| {
                    let (update, me) = (update.clone(), me.clone());
                    Box::pin(async move {
                        let database = txn.get_database_backend();
                        let update = Statement::from_sql_and_values(database, update, [me.into()]);
                        Ok(txn.execute_raw(update).await?.rows_affected())
                    })
                })
                .await?;
            total += rows;
            if rows < CHUNK {
                return Ok(total);
            }
        }
    }

    /// Gives up what was owed for too long, and tells so: a few hundred at a time, until there is no more
    /// of it or so much that the rest can wait for the next time.
    pub async fn expire(&self) -> Result<Settlement, Error> {
        let mut all = Settlement::default();
        for _ in 0..EXPIRED_AT_ONCE {
            let some = self.expire_some().await?;
            let was_last = some.exhausted < CHUNK;
            all.exhausted += some.exhausted;
            all.alerts.extend(some.alerts);
            all.health.extend(some.health);
            if was_last {
                break;
            }
        }
        Ok(all)
    }

    async fn expire_some(&self) -> Result<Settlement, Error> {
        let now = self.store.clock().now();
        let which = format!(
            "SELECT id FROM webhook_delivery WHERE state = 'pending' AND expires_at > 0 \
             AND expires_at <= {} ORDER BY expires_at LIMIT {CHUNK}",
            now.0
        );
        if !self.is_there(&which).await? {
            return Ok(Settlement::default());
        }
        let expire = format!(
            "UPDATE webhook_delivery SET state = 'exhausted', last_error = 'expired', \
             finished_at = {} WHERE id IN ({which}) AND {UNTAKEN} RETURNING endpoint_id, organization_id",
            now.0
        );
        let known = self.store.writer().known().clone();
        let (settlement, touched) = self
            .store
            .writer()
            .run(LANE, PATIENCE, move |txn| {
                let (expire, known) = (expire.clone(), known.clone());
                Box::pin(async move { expired(txn, &known, now, expire).await })
            })
            .await?;
        if !touched.is_empty() {
            self.touch(touched);
        }
        Ok(settlement)
    }

    pub(super) async fn is_there(&self, which: &str) -> Result<bool, Error> {
        let db = self.store.reader();
        let there = Statement::from_string(db.get_database_backend(), which);
        Ok(db.query_one_raw(there).await?.is_some())
    }

    /// Cancels what is owed to endpoints that were deleted.
    pub async fn cancel(&self) -> Result<u64, Error> {
        let now = self.store.clock().now();
        self.chunk(
            format!(
                "SELECT id FROM webhook_delivery WHERE state = 'pending' AND endpoint_id IN \
                 (SELECT id FROM webhook_endpoint WHERE state = 'deleted') LIMIT {CHUNK}"
            ),
            format!("state = 'cancelled', finished_at = {}", now.0),
            UNTAKEN,
        )
        .await
    }

    /// Has what seems to wait longer than anything ever waits be due at once: it was written under a
    /// clock that was ahead.
    pub async fn mend_times(&self) -> Result<u64, Error> {
        let far = self.store.clock().now() + LONGEST + Duration::from_hours(1);
        self.chunk(
            format!(
                "SELECT id FROM webhook_delivery WHERE state = 'pending' AND next_at > {} \
                 AND endpoint_id IN (SELECT id FROM webhook_endpoint) LIMIT {CHUNK}",
                far.0
            ),
            "next_at = 0".to_owned(),
            UNTAKEN,
        )
        .await
    }

    /// Changes some rows that are still `as_found`.
    pub(super) async fn chunk(
        &self,
        which: String,
        set: String,
        as_found: &str,
    ) -> Result<u64, Error> {
        if !self.is_there(&which).await? {
            return Ok(0);
        }
        let update =
            format!("UPDATE webhook_delivery SET {set} WHERE id IN ({which}) AND {as_found}");
        self.store
            .writer()
            .run(LANE, PATIENCE, move |txn| {
                let update = update.clone();
                Box::pin(async move { Ok(txn.execute_unprepared(&update).await?.rows_affected()) })
            })
            .await
    }

    /// How much is owed: pending and claimed deliveries.
    pub async fn backlog(&self) -> Result<(i64, i64), Error> {
        let db = self.store.reader();
        let count = async |which: &str| {
            let ask = format!("SELECT COUNT(*) FROM webhook_delivery WHERE {which}");
            let ask = Statement::from_string(db.get_database_backend(), ask);
            let row = db.query_one_raw(ask).await?;
            row.map_or(Ok(0), |row| row.try_get_by_index::<i64>(0)).map_err(Error::from)
        };
        Ok((count("state = 'pending'").await?, count(CLAIMED).await?))
    }
}

async fn expired(
    txn: &DatabaseTransaction,
    known: &Known,
    now: UnixMillis,
    expire: String,
) -> Result<(Settlement, BTreeSet<EndpointId>), DbErr> {
    let database = txn.get_database_backend();
    let gone = txn.query_all_raw(Statement::from_string(database, expire)).await?;
    let (mut tally, mut signs) = (Tally::default(), Signs::new());
    for row in &gone {
        let endpoint: EndpointId = row.try_get_by_index(0)?;
        tally.exhausted(&endpoint);
        // Once for each endpoint: it is not told more often.
        signs.insert(endpoint, (row.try_get_by_index(1)?, vec![(None, Sign::GivenUp)]));
    }
    tally.write(txn, now).await?;
    let mut settlement = Settlement { exhausted: gone.len() as u64, ..Settlement::default() };
    let touched = learned(txn, known, &signs, now, Duration::MAX, &mut settlement).await?;
    Ok((settlement, touched))
}
