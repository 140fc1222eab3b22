//! Replays go on: each by a step a second, and organizations by turns.
//!
//! A step looks at the next events (`stretch.rs`), writes what of them the endpoint wants as owed, and how far it came:
//! one transaction. So a replay survives every restart, and no daemon has to be its owner.

use std::collections::HashSet;

use entity::{
    UnixMillis,
    id::{DeliveryId, EndpointId, EventId, ReplayId, in_order},
    webhook::{
        delivery, endpoint, event, replay,
        state::{Cause, DeliveryState, EndpointState, ReplayState},
    },
};
use sea_orm::{
    ActiveValue::{Set, Unchanged},
    ConnectionTrait, DatabaseTransaction, DbErr, EntityTrait, IntoActiveModel, QuerySelect,
    Statement,
    sea_query::{LockBehavior, LockType, OnConflict},
};

use super::{
    Webhooks,
    fanout::{filter, has_place, order_key},
    missed::delivered,
    replay::finish,
    stretch::stretch,
};
use crate::{
    store::{Error, Patience},
    webhook::{EventType, body::is_unreadable},
};

/// A lane of their own: what is sent is written in another.
const LANE: &str = "webhook replays";

/// Events of one step: few enough that nobody waits long behind it.
const STEP: i64 = 200;

/// Replays that go on by one step in one round.
pub const ROUND: usize = 20;

impl Webhooks {
    /// Has replays go on that have not for a second, by one step each: one of each organization, beginning with the one
    /// whose last step is longest ago, then a second of each, up to [`ROUND`]. Returns how many have gone on.
    pub async fn step_replays(&self) -> Result<usize, Error> {
        let now = self.store.clock().now();
        let next = format!(
            "SELECT id, endpoint_id, stepped_at FROM (SELECT id, endpoint_id, stepped_at, \
             ROW_NUMBER() OVER (PARTITION BY organization_id ORDER BY stepped_at, id) AS turn, \
             MAX(stepped_at) OVER (PARTITION BY organization_id) AS latest \
             FROM webhook_replay WHERE state = 'running') AS r \
             WHERE stepped_at <= {} OR stepped_at > {} ORDER BY turn, latest, id LIMIT {ROUND}",
            now.0.saturating_sub(1000),
            now.0
        );
        let db = self.store.reader();
        let rows =
            db.query_all_raw(Statement::from_string(db.get_database_backend(), next)).await?;
        let (mut stepped, mut failed) = (0, None);
        for row in rows {
            let id: ReplayId = row.try_get_by_index(0)?;
            let endpoint: EndpointId = row.try_get_by_index(1)?;
            let seen: UnixMillis = row.try_get_by_index(2)?;
            let step = self.store.writer().run(LANE, Patience::Fail, move |txn| {
                let id = id.clone();
                Box::pin(async move { step(txn, &id, seen, now).await })
            });
            match step.await {
                Ok(Step::None) => continue,
                Ok(Step::Idle) => {}
                Ok(Step::Owes) => self.touch([endpoint]),
                // One replay's trouble is not that of those after it, in the next round neither.
                Err(error) => {
                    failed = failed.or(Some(error));
                    self.put_behind(row.try_get_by_index(0)?, seen, now).await.ok();
                    continue;
                }
            }
            stepped += 1;
        }
        failed.map_or(Ok(stepped), Err)
    }

    /// Has a replay wait for its next turn as if it had gone on.
    async fn put_behind(
        &self,
        id: ReplayId,
        seen: UnixMillis,
        now: UnixMillis,
    ) -> Result<(), Error> {
        let behind = format!(
            "UPDATE webhook_replay SET stepped_at = {} WHERE id = '{id}' AND stepped_at = {}",
            now.0, seen.0
        );
        self.store
            .writer()
            .run(LANE, Patience::Fail, move |txn| {
                let behind = behind.clone();
                Box::pin(async move { txn.execute_unprepared(&behind).await.map(drop) })
            })
            .await
    }
}

/// What a step came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// It has ended, or another daemon is at it.
    None,
    /// Nobody is owed anything by it.
    Idle,
    Owes,
}

/// Goes on with one replay whose last step was `seen`: if there was another since, a second daemon has made it.
async fn step(
    txn: &DatabaseTransaction,
    id: &ReplayId,
    seen: UnixMillis,
    now: UnixMillis,
) -> Result<Step, DbErr> {
    let found = replay::Entity::find_by_id(id.clone())
        .lock_with_behavior(LockType::Update, LockBehavior::SkipLocked)
        .one(txn)
        .await?;
    let Some(row) = found.filter(|row| row.state == ReplayState::Running && row.stepped_at == seen)
    else {
        return Ok(Step::None);
    };
    let endpoint = endpoint::Entity::find_by_id(row.endpoint_id.clone()).one(txn).await?;
    let Some(endpoint) = endpoint.filter(|it| it.state != EndpointState::Deleted) else {
        finish(txn, row, ReplayState::Cancelled, now).await?;
        return Ok(Step::Idle);
    };
    // What would be owed now would be given up before anybody is called. How far it came stays.
    if endpoint.state == EndpointState::Disabled {
        finish(txn, row, ReplayState::Stopped, now).await?;
        return Ok(Step::Idle);
    }
    let limit = i64::from(row.rate_per_second).clamp(1, STEP);
    let events = stretch(txn, &row, limit).await?;
    let end = i64::try_from(events.len()).unwrap_or(i64::MAX) < limit;
    let cursor = if end {
        row.through_seq
    } else {
        events.last().map_or(row.through_seq, |(event, _)| event.seq)
    };

    let wants = filter(&endpoint);
    let wanted = events.into_iter().filter(|(event, number)| {
        EventType::of_name(&event.event_type).is_some_and(|kind| {
            // One about this endpoint was never for it.
            event.conversation != endpoint.id.as_str()
                && has_place(endpoint.format, || is_unreadable(&event.payload))
                && wants.wants(kind, event.session_id.as_deref(), number.as_deref())
        })
    });
    let mut wanted: Vec<event::Model> = wanted.map(|(event, _)| event).collect();
    if row.undelivered_only && !wanted.is_empty() {
        let ids = wanted.iter().map(|event| event.id.clone()).collect();
        let told: HashSet<EventId> = delivered(txn, &endpoint.id, ids).await?.into_iter().collect();
        wanted.retain(|event| !told.contains(&event.id));
    }
    let owed: Vec<_> = wanted
        .iter()
        .map(|event| again(event, &endpoint, &row.id, now).into_active_model())
        .collect();
    let count = i64::try_from(owed.len()).unwrap_or(i64::MAX);
    if count > 0 {
        event::Entity::insert_many(wanted.into_iter().map(IntoActiveModel::into_active_model))
            .on_conflict(OnConflict::column(event::Column::Id).do_nothing().to_owned())
            .exec_without_returning(txn)
            .await?;
        delivery::Entity::insert_many(owed).exec_without_returning(txn).await?;
    }
    replay::Entity::update(replay::ActiveModel {
        id: Unchanged(row.id.clone()),
        cursor_seq: Set(cursor),
        owed: Set(row.owed + count),
        stepped_at: Set(now),
        ..Default::default()
    })
    .exec(txn)
    .await?;
    if end {
        let row = replay::Model { owed: row.owed + count, cursor_seq: cursor, ..row };
        finish(txn, row, ReplayState::Done, now).await?;
    }
    Ok(if count > 0 { Step::Owes } else { Step::Idle })
}

fn again(
    event: &event::Model,
    to: &endpoint::Model,
    replay: &ReplayId,
    now: UnixMillis,
) -> delivery::Model {
    delivery::Model {
        id: DeliveryId::new(now, in_order(rand::random())),
        organization_id: event.organization_id.clone(),
        endpoint_id: to.id.clone(),
        event_id: event.id.clone(),
        event_type: event.event_type.clone(),
        seq: event.seq,
        order_key: order_key(to.ordering, &event.conversation),
        replay_id: replay.to_string(),
        cause: Cause::Replay,
        state: DeliveryState::Pending,
        attempts: 0,
        next_at: 0,
        expires_at: UnixMillis(now.0.saturating_add(to.max_age_ms)),
        claim: None,
        claimed_by: None,
        lease_until: None,
        last_status: None,
        last_error: None,
        created_at: now,
        finished_at: None,
    }
}
