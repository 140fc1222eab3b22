//! What other daemons have under way to endpoints: what one may have at a time is counted over all of them.

use std::collections::HashMap;

use entity::{UnixMillis, id::EndpointId};
use sea_orm::{ConnectionTrait, DatabaseTransaction, DbBackend, DbErr, Statement};

use super::{among, joined, upkeep::CLAIMED};

/// How many deliveries to each of these endpoints others than `me` have taken, and their time for them is not over.
///
/// Until the transaction ends nobody else learns it of the same endpoints, and so nobody takes more for them.
pub(super) async fn elsewhere(
    txn: &DatabaseTransaction,
    me: &str,
    endpoints: &[EndpointId],
    now: UnixMillis,
) -> Result<HashMap<EndpointId, usize>, DbErr> {
    let database = txn.get_database_backend();
    if database == DbBackend::Postgres {
        // In one order always: the rows stay locked until the commit. SQLite has one writer.
        let lock = format!(
            "SELECT endpoint_id FROM webhook_health WHERE {} ORDER BY endpoint_id FOR NO KEY UPDATE",
            among(database, "endpoint_id", 1)
        );
        let lock = Statement::from_sql_and_values(database, lock, [joined(endpoints).into()]);
        txn.query_all_raw(lock).await?;
    }
    let ask = format!(
        "SELECT endpoint_id, COUNT(*) FROM webhook_delivery WHERE {CLAIMED} AND lease_until >= $1 \
         AND claimed_by <> $2 GROUP BY endpoint_id"
    );
    let ask = Statement::from_sql_and_values(database, ask, [now.0.into(), me.into()]);
    let rows = txn.query_all_raw(ask).await?;
    let counts = rows.iter().map(|row| {
        let count: i64 = row.try_get_by_index(1)?;
        Ok((row.try_get_by_index(0)?, usize::try_from(count).unwrap_or(usize::MAX)))
    });
    counts.collect()
}
