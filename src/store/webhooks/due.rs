//! Which endpoints have something to be sent.

use entity::{
    UnixMillis,
    id::{EndpointId, OrganizationId},
    webhook::state::{EndpointState, Ordering},
};
use sea_orm::{ConnectionTrait, FromQueryResult, Statement};

use super::{Webhooks, among, joined};
use crate::store::Error;

/// An active endpoint, and when the first of what it is owed is due.
#[derive(Clone, Debug, FromQueryResult)]
pub struct Waiting {
    pub id: EndpointId,
    pub organization_id: OrganizationId,
    pub version: i64,
    pub ordering: Ordering,
    pub max_in_flight: i32,
    pub rate_per_second: Option<i32>,
    pub consecutive_failures: i32,
    pub hold_until: Option<UnixMillis>,
    pub next_at: i64,
}

impl Webhooks {
    /// Endpoints that have something to be sent, now or later: of these, or of all.
    ///
    /// One look into an index each, however much an endpoint is owed.
    pub async fn waiting(&self, only: Option<&[EndpointId]>) -> Result<Vec<Waiting>, Error> {
        let db = self.store.reader();
        let database = db.get_database_backend();
        let (condition, values) = match only {
            Some([]) => return Ok(Vec::new()),
            Some(ids) => (format!("AND {}", among(database, "e.id", 1)), vec![joined(ids).into()]),
            None => (String::new(), Vec::new()),
        };
        let ask = format!(
            "SELECT * FROM (SELECT e.id, e.organization_id, e.version, e.ordering, \
             e.max_in_flight, e.rate_per_second, h.consecutive_failures, h.hold_until, \
             (SELECT MIN(d.next_at) FROM webhook_delivery d \
             WHERE d.endpoint_id = e.id AND d.state = 'pending') AS next_at \
             FROM webhook_endpoint e JOIN webhook_health h ON h.endpoint_id = e.id \
             WHERE e.state = 'active' {condition}) AS w WHERE next_at IS NOT NULL"
        );
        let ask = Statement::from_sql_and_values(database, ask, values);
        Ok(Waiting::find_by_statement(ask).all(db).await?)
    }

    /// When the first delivery to an endpoint that is due should have been sent; none if all is.
    pub async fn oldest_due_of(
        &self,
        endpoint: &EndpointId,
        now: UnixMillis,
    ) -> Result<Option<UnixMillis>, Error> {
        self.oldest_among(&[endpoint], now).await
    }

    /// How many endpoints are in each state, and how many of them fail.
    pub async fn endpoint_states(&self) -> Result<Vec<(EndpointState, i64, i64)>, Error> {
        let ask = "SELECT e.state, COUNT(*), CAST(SUM(CASE WHEN h.alerted <> 0 THEN 1 ELSE 0 END) AS BIGINT) \
             FROM webhook_endpoint e JOIN webhook_health h ON h.endpoint_id = e.id \
             WHERE e.state <> 'deleted' GROUP BY e.state";
        let db = self.store.reader();
        let rows = db.query_all_raw(Statement::from_string(db.get_database_backend(), ask)).await?;
        let states = rows.iter().map(|row| {
            Ok((row.try_get_by_index(0)?, row.try_get_by_index(1)?, row.try_get_by_index(2)?))
        });
        states.collect::<Result<_, sea_orm::DbErr>>().map_err(Error::from)
    }

    /// When the first delivery of all should have been sent already; none if all is sent that is due.
    pub async fn oldest_due(&self, now: UnixMillis) -> Result<Option<UnixMillis>, Error> {
        let due = self.waiting(None).await?;
        let ids: Vec<_> = due.iter().filter(|it| it.next_at <= now.0).map(|it| &it.id).collect();
        if ids.is_empty() {
            return Ok(None);
        }
        self.oldest_among(&ids, now).await
    }

    async fn oldest_among(
        &self,
        endpoints: &[&EndpointId],
        now: UnixMillis,
    ) -> Result<Option<UnixMillis>, Error> {
        // What is due at once has been since it was made; the oldest of it is not that of what is tried again.
        let first = |id: &EndpointId, at: &str, condition: &str| {
            format!(
                "SELECT * FROM (SELECT {at} AS at FROM webhook_delivery WHERE endpoint_id = '{id}' \
                 AND state = 'pending' AND {condition} ORDER BY next_at, seq LIMIT 1) AS o"
            )
        };
        let again = format!("next_at > 0 AND next_at <= {}", now.0);
        let parts = endpoints
            .iter()
            .flat_map(|id| [first(id, "created_at", "next_at <= 0"), first(id, "next_at", &again)]);
        let parts: Vec<_> = parts.collect();
        let mut oldest = None;
        for chunk in parts.chunks(100) {
            let ask = format!("SELECT MIN(at) FROM ({}) AS a", chunk.join(" UNION ALL "));
            let db = self.store.reader();
            let ask = Statement::from_string(db.get_database_backend(), ask);
            let row = db.query_one_raw(ask).await?;
            let at = row.map_or(Ok(None), |row| row.try_get_by_index::<Option<i64>>(0))?;
            oldest = [oldest, at].into_iter().flatten().min();
        }
        Ok(oldest.map(UnixMillis))
    }
}
