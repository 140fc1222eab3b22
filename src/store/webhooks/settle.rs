//! What came of attempts: one transaction for all that have ended meanwhile.
//!
//! The attempt, what becomes of its delivery, what is remembered of its endpoint, and what follows from
//! that (alerts, the endpoint's being disabled) are there together or not at all.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use entity::{
    UnixMillis,
    id::{AttemptId, DeliveryId, EndpointId, EventId, OrganizationId, in_order},
    webhook::{attempt, endpoint, health, state::EndpointState},
};
use sea_orm::{
    ActiveModelTrait, ColumnTrait, ConnectionTrait, DatabaseTransaction, DbErr, EntityTrait,
    IntoActiveModel, QueryFilter, QueryOrder, QuerySelect, Statement,
};
use serde_json::json;

use super::{
    LANE, PATIENCE, Webhooks,
    announce::{About, announce},
    changes::disable,
    fanout::{Known, STRICT},
    stats::Tally,
};
use crate::{
    event::payload::rfc3339,
    store::Error,
    webhook::{
        EventType,
        health::{Alert, Sign, learn},
    },
};

/// One HTTP request, as it is remembered.
#[derive(Clone, Debug)]
pub struct AttemptRecord {
    pub started_at: UnixMillis,
    pub duration_ms: i32,
    pub peer: Option<String>,
    pub status: Option<i32>,
    pub error: Option<&'static str>,
    pub response: Option<String>,
}

/// What becomes of a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    Succeeded,
    /// It is tried again then.
    Retry(UnixMillis),
    /// It is given up.
    Exhausted,
    /// It was not tried, for reasons of ours: somebody else may, from then on.
    Released(UnixMillis),
}

/// A delivery that was taken, and what came of it.
#[derive(Clone, Debug)]
pub struct Settled {
    pub delivery: DeliveryId,
    /// What was to be told; none if retention has taken it.
    pub event: Option<EventId>,
    pub endpoint: EndpointId,
    pub organization: OrganizationId,
    pub order_key: Option<String>,
    /// The token under which it was taken.
    pub claim: i64,
    /// Attempts before this one.
    pub attempts: i32,
    pub ending: Ending,
    /// Why it was given up without an attempt.
    pub error: Option<&'static str>,
    pub attempt: Option<AttemptRecord>,
    /// What it says of the endpoint; none to say nothing.
    pub sign: Option<Sign>,
    /// The URL that was called, as it is kept, if any was.
    pub called: Option<Arc<str>>,
}

/// What a batch came to.
#[derive(Clone, Debug, Default)]
pub struct Settlement {
    /// Results that came too late: somebody else had taken the delivery, or it was cancelled.
    pub fenced: u64,
    /// Of those, the ones that did not succeed.
    pub lost: BTreeSet<DeliveryId>,
    /// How endpoints are, as far as it was written.
    pub health: Vec<health::Model>,
    pub disabled: Vec<EndpointId>,
    pub exhausted: u64,
    /// What endpoints' tenants were told.
    pub alerts: Vec<Alert>,
}

impl Webhooks {
    /// Writes what came of some attempts. An endpoint is disabled when it has failed for `disable_after`.
    pub async fn settle(
        &self,
        batch: Vec<Settled>,
        disable_after: Duration,
    ) -> Result<Settlement, Error> {
        let now = self.store.clock().now();
        let known = self.store.writer().known().clone();
        let batch = Arc::new(batch);
        let (settlement, touched) = self
            .store
            .writer()
            .run(LANE, PATIENCE, move |txn| {
                let (batch, known) = (batch.clone(), known.clone());
                Box::pin(async move { settle(txn, &known, &batch, now, disable_after).await })
            })
            .await?;
        if !touched.is_empty() {
            self.touch(touched);
        }
        Ok(settlement)
    }
}

async fn settle(
    txn: &DatabaseTransaction,
    known: &Known,
    batch: &[Settled],
    now: UnixMillis,
    disable_after: Duration,
) -> Result<(Settlement, BTreeSet<EndpointId>), DbErr> {
    let mut settlement = Settlement::default();
    let mut written = succeed(txn, batch, now).await?;
    let mut tally = Tally::default();
    for settled in batch.iter().filter(|it| it.ending != Ending::Succeeded) {
        let ended = end(txn, settled, now).await?;
        if ended == 0 {
            settlement.lost.insert(settled.delivery.clone());
        }
        if ended > 0 && settled.ending == Ending::Exhausted {
            tally.exhausted(&settled.endpoint);
            settlement.exhausted += 1;
        }
        written += ended;
    }
    settlement.fenced = (batch.len() as u64).saturating_sub(written);
    record_attempts(txn, batch).await?;
    tally.attempts(batch);
    tally.write(txn, now).await?;

    let mut signs = Signs::new();
    for settled in batch {
        if let Some(sign) = settled.sign {
            let of = || (settled.organization.clone(), Vec::new());
            let heard = (settled.called.clone(), sign);
            signs.entry(settled.endpoint.clone()).or_insert_with(of).1.push(heard);
        }
    }
    let touched = learned(txn, known, &signs, now, disable_after, &mut settlement).await?;
    Ok((settlement, touched))
}

/// What has been learned of endpoints, with the organization of each; in the order in which rows are locked. Each with
/// the URL that was called, as it is kept, if any was.
pub(super) type Signs = BTreeMap<EndpointId, (OrganizationId, Vec<(Option<Arc<str>>, Sign)>)>;

/// Writes what signs say of their endpoints, and what follows from it. Returns who is owed an alert.
pub(super) async fn learned(
    txn: &DatabaseTransaction,
    known: &Known,
    signs: &Signs,
    now: UnixMillis,
    disable_after: Duration,
    settlement: &mut Settlement,
) -> Result<BTreeSet<EndpointId>, DbErr> {
    let mut touched = BTreeSet::new();
    if signs.is_empty() {
        return Ok(touched);
    }
    // In one order always: the rows stay locked until the commit.
    let rows = health::Entity::find()
        .filter(health::COLUMN.endpoint_id.is_in(signs.keys().cloned()))
        .order_by_asc(health::COLUMN.endpoint_id)
        .lock_exclusive()
        .all(txn)
        .await?;
    let places = places(txn, signs).await?;
    for mut row in rows {
        let Some((organization, heard)) = signs.get(&row.endpoint_id) else { continue };
        let place = places.get(&row.endpoint_id).map(String::as_str);
        let said = |(called, sign): &(Option<Arc<str>>, Sign)| {
            if called.as_deref().is_none_or(|called| place == Some(called)) {
                return Some(*sign);
            }
            // It is elsewhere by now, and how it was where it was says nothing of it; but what was given up is given up.
            let given_up = matches!(sign, Sign::Failure { exhausted: true, .. });
            given_up.then_some(Sign::GivenUp)
        };
        let signs: Vec<_> = heard.iter().filter_map(said).collect();
        if signs.is_empty() {
            continue;
        }
        let verdict = learn(&mut row, &signs, now, disable_after);
        let id = row.endpoint_id.clone();
        health::Entity::update(row.clone().into_active_model().reset_all()).exec(txn).await?;
        for alert in verdict.alerts {
            let kind = match alert {
                Alert::Failing => EventType::EndpointFailing,
                Alert::Recovered => EventType::EndpointRecovered,
                Alert::Exhausted => EventType::DeliveryExhausted,
            };
            settlement.alerts.push(alert);
            touched.extend(tell(txn, known, now, organization, &row, kind).await?);
        }
        if let Some(reason) = verdict.disable
            && disable(txn, organization, &id, reason, now).await?
        {
            let kind = EventType::EndpointDisabled;
            touched.extend(tell(txn, known, now, organization, &row, kind).await?);
            settlement.disabled.push(id);
        }
        settlement.health.push(row);
    }
    Ok(touched)
}

/// Where endpoints are, as it is kept. Whoever changes that waits for their health, which is locked here.
async fn places(
    txn: &DatabaseTransaction,
    signs: &Signs,
) -> Result<BTreeMap<EndpointId, String>, DbErr> {
    let rows: Vec<(EndpointId, String)> = endpoint::Entity::find()
        .select_only()
        .column(endpoint::Column::Id)
        .column(endpoint::Column::Url)
        .filter(endpoint::COLUMN.id.is_in(signs.keys().cloned()))
        .into_tuple()
        .all(txn)
        .await?;
    Ok(rows.into_iter().collect())
}

/// Ends those that succeeded, in one statement for each status.
async fn succeed(
    txn: &DatabaseTransaction,
    batch: &[Settled],
    now: UnixMillis,
) -> Result<u64, DbErr> {
    let mut by_status: BTreeMap<i32, Vec<&Settled>> = BTreeMap::new();
    for settled in batch.iter().filter(|it| it.ending == Ending::Succeeded) {
        let status = settled.attempt.as_ref().and_then(|it| it.status).unwrap_or(0);
        by_status.entry(status).or_default().push(settled);
    }
    let mut written = 0;
    for (status, some) in by_status {
        let pairs: Vec<_> =
            some.iter().map(|it| format!("('{}', {})", it.delivery, it.claim)).collect();
        let end = format!(
            "UPDATE webhook_delivery SET state = 'succeeded', attempts = attempts + 1, \
             claim = NULL, claimed_by = NULL, lease_until = NULL, last_status = {status}, \
             last_error = NULL, finished_at = {} \
             WHERE (id, claim) IN (VALUES {}) AND state = 'claimed'",
            now.0,
            pairs.join(", ")
        );
        written += txn.execute_unprepared(&end).await?.rows_affected();
        for settled in some.into_iter().filter(|it| it.attempts > 0) {
            release_followers(txn, settled).await?;
        }
    }
    Ok(written)
}

/// Ends, or puts back, one that did not succeed.
async fn end(txn: &DatabaseTransaction, settled: &Settled, now: UnixMillis) -> Result<u64, DbErr> {
    let attempt = settled.attempt.as_ref();
    let counted = i32::from(attempt.is_some());
    let status = attempt.and_then(|it| it.status).map_or("NULL".to_owned(), |it| it.to_string());
    let error = attempt.and_then(|it| it.error).or(settled.error);
    // Stable words of ours: nothing in them needs escaping.
    let error = error.map_or("NULL".to_owned(), |word| format!("'{word}'"));
    let told = if counted > 0 || settled.error.is_some() {
        format!("last_status = {status}, last_error = {error},")
    } else {
        String::new()
    };
    let (state, next_at, finished) = match settled.ending {
        Ending::Retry(at) | Ending::Released(at) => ("pending", at.0, "NULL".to_owned()),
        Ending::Exhausted | Ending::Succeeded => ("exhausted", 0, now.0.to_string()),
    };
    let end = format!(
        "UPDATE webhook_delivery SET state = '{state}', attempts = attempts + {counted}, \
         next_at = {next_at}, claim = NULL, claimed_by = NULL, lease_until = NULL, {told} \
         finished_at = {finished} WHERE id = '{}' AND claim = {} AND state = 'claimed'",
        settled.delivery, settled.claim
    );
    let written = txn.execute_unprepared(&end).await?.rows_affected();
    if written == 0 {
        // It is somebody else's now, with all that waits behind it.
        return Ok(written);
    }
    match settled.ending {
        Ending::Retry(at) => hold_followers(txn, settled, at).await?,
        Ending::Exhausted => release_followers(txn, settled).await?,
        Ending::Succeeded | Ending::Released(_) => {}
    }
    Ok(written)
}

/// What waits behind a delivery of its conversation need not be looked at before it is tried again.
/// So many at a time are spared the looks; the rest are looked at and left.
const FOLLOWERS: u64 = 500;

async fn hold_followers(
    txn: &DatabaseTransaction,
    settled: &Settled,
    until: UnixMillis,
) -> Result<(), DbErr> {
    followers(txn, settled, &format!("next_at >= 0 AND next_at < {}", until.0), until.0 + 1).await
}

async fn release_followers(txn: &DatabaseTransaction, settled: &Settled) -> Result<(), DbErr> {
    followers(txn, settled, "attempts = 0 AND next_at > 0", 0).await
}

async fn followers(
    txn: &DatabaseTransaction,
    settled: &Settled,
    condition: &str,
    next_at: i64,
) -> Result<(), DbErr> {
    // A queue of one is looked at by its head alone.
    let Some(key) = settled.order_key.as_ref().filter(|key| *key != STRICT) else {
        return Ok(());
    };
    let hold = format!(
        "UPDATE webhook_delivery SET next_at = {next_at} WHERE id IN (\
         SELECT id FROM webhook_delivery WHERE endpoint_id = '{}' AND order_key = $1 \
         AND state IN ('pending', 'claimed') AND order_key IS NOT NULL AND state = 'pending' \
         AND id <> '{}' AND {condition} ORDER BY seq LIMIT {FOLLOWERS})",
        settled.endpoint, settled.delivery
    );
    let database = txn.get_database_backend();
    let hold = Statement::from_sql_and_values(database, hold, [key.clone().into()]);
    txn.execute_raw(hold).await.map(drop)
}

async fn record_attempts(txn: &DatabaseTransaction, batch: &[Settled]) -> Result<(), DbErr> {
    let rows: Vec<_> = batch
        .iter()
        .filter_map(|settled| {
            let made = settled.attempt.clone()?;
            let row = attempt::Model {
                id: AttemptId::new(made.started_at, in_order(rand::random())),
                delivery_id: settled.delivery.clone(),
                endpoint_id: settled.endpoint.clone(),
                number: settled.attempts + 1,
                started_at: made.started_at,
                duration_ms: made.duration_ms,
                peer: made.peer,
                status: made.status,
                error: made.error.map(str::to_owned),
                response: made.response,
            };
            Some(row.into_active_model())
        })
        .collect();
    if !rows.is_empty() {
        attempt::Entity::insert_many(rows).exec_without_returning(txn).await?;
    }
    Ok(())
}

/// Tells an organization's other endpoints how one of them is.
async fn tell(
    txn: &DatabaseTransaction,
    known: &Known,
    now: UnixMillis,
    organization: &OrganizationId,
    row: &health::Model,
    kind: EventType,
) -> Result<BTreeSet<EndpointId>, DbErr> {
    let found = endpoint::Entity::find_by_id(row.endpoint_id.clone()).one(txn).await?;
    let Some(endpoint) = found.filter(|it| it.state != EndpointState::Deleted) else {
        return Ok(BTreeSet::new());
    };
    let data = json!({
        "endpointId": endpoint.id,
        "url": endpoint.url,
        "description": endpoint.description,
        "state": endpoint.state,
        "disabledReason": endpoint.disabled_reason,
        "consecutiveFailures": row.consecutive_failures,
        "failingSince": row.first_failure_at.map(rfc3339),
        "lastSuccessAt": row.last_success_at.map(rfc3339),
    });
    let about = About::Endpoint(organization, &row.endpoint_id);
    announce(txn, known, now, about, kind, &data).await
}
