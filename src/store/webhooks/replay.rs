//! Sending a range of events again, or for the first time after a gap: a row that goes on by itself.
//!
//! A step looks at the next events, writes what of them the endpoint wants as owed, and how far it came:
//! one transaction. So a replay survives every restart, and no daemon has to be its owner.

use std::collections::HashMap;

use entity::{
    UnixMillis,
    id::{DeliveryId, EndpointId, OrganizationId, ReplayId, SessionKey, in_order},
    kind::AuditAction,
    session,
    webhook::{
        delivery, endpoint, event, replay,
        state::{Cause, DeliveryState, EndpointState, ReplayState},
    },
};
use sea_orm::{
    ActiveValue::{Set, Unchanged},
    ColumnTrait, DatabaseTransaction, DbErr, EntityTrait, IntoActiveModel, QueryFilter, QueryOrder,
    QuerySelect,
    sea_query::{Expr, OnConflict},
};
use serde_json::json;

use super::{
    LANE, PATIENCE, Webhooks,
    fanout::{filter, order_key},
    traced::trace,
};
use crate::{
    store::{
        Error, Made, Patience,
        audit::By,
        idempotency::{Key, made_before},
    },
    webhook::EventType,
};

/// Events of one step: few enough that nobody waits long behind it.
const STEP: i64 = 200;

/// What became of a replay that was to be stopped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cancelled {
    Now(Box<replay::Model>),
    /// It had come to its end.
    Ended,
    NotFound,
}

impl Webhooks {
    /// Makes a replay of the events after a number, up to another or the newest one. Once for each key.
    pub async fn replay(
        &self,
        organization: &OrganizationId,
        endpoint: &EndpointId,
        (after, through): (i64, i64),
        rate: i32,
        (key, by): (Option<Key>, By),
    ) -> Result<Made<replay::Model>, Error> {
        let now = self.store.clock().now();
        let row = replay::Model {
            id: ReplayId::new(now, in_order(rand::random())),
            organization_id: organization.clone(),
            endpoint_id: endpoint.clone(),
            state: ReplayState::Running,
            after_seq: after,
            through_seq: through,
            cursor_seq: after,
            owed: 0,
            rate_per_second: rate,
            stepped_at: UnixMillis(0),
            created_at: now,
            finished_at: None,
        };
        let made = self
            .store
            .writer()
            .run(LANE, Patience::Fail, move |txn| {
                let (row, key, by) = (row.clone(), key.clone(), by.clone());
                Box::pin(async move {
                    let owner = &row.organization_id;
                    let of = |id| {
                        replay::Entity::find()
                            .filter(replay::COLUMN.organization_id.eq(owner.clone()))
                            .filter(replay::COLUMN.id.eq(id))
                    };
                    let (key, id) = (key.as_ref(), row.id.as_str());
                    if let Some(made) = made_before(txn, owner, key, id, now, of).await? {
                        return Ok(made);
                    }
                    let detail = json!({
                        "replayId": row.id,
                        "afterSequence": row.after_seq,
                        "throughSequence": row.through_seq,
                    });
                    let whose = (&row.organization_id, &row.endpoint_id);
                    trace(txn, whose, &by, now, AuditAction::WebhookReplayed, &detail).await?;
                    let insert = replay::Entity::insert(row.clone().into_active_model());
                    insert.exec_without_returning(txn).await?;
                    Ok(Made::New(row))
                })
            })
            .await?;
        self.touch([]);
        Ok(made)
    }

    /// Replays of an endpoint, the newest first.
    pub async fn replays(
        &self,
        organization: &OrganizationId,
        endpoint: &EndpointId,
        state: Option<ReplayState>,
        before: Option<&ReplayId>,
        limit: u64,
    ) -> Result<Vec<replay::Model>, Error> {
        let mut query = replay::Entity::find()
            .filter(replay::COLUMN.organization_id.eq(organization.clone()))
            .filter(replay::COLUMN.endpoint_id.eq(endpoint.clone()))
            .order_by_desc(replay::COLUMN.id)
            .limit(limit);
        if let Some(state) = state {
            query = query.filter(replay::Column::State.eq(state));
        }
        if let Some(before) = before {
            query = query.filter(replay::COLUMN.id.lt(before.clone()));
        }
        Ok(query.all(self.store.reader()).await?)
    }

    /// The numbers of the first event at or after a time, and of the last before another; less than the
    /// first when there is none between.
    pub async fn span(
        &self,
        organization: &OrganizationId,
        since: Option<UnixMillis>,
        until: Option<UnixMillis>,
    ) -> Result<(i64, i64), Error> {
        let row = self.store.organizations().find(organization).await?;
        let last = row.map_or(0, |row| row.last_seq);
        let edge = async |at: UnixMillis| {
            // Ids begin with the time they were made at. Those of one moment, or of two lanes of the
            // writer, are in no order: so the lowest number of many is the first.
            let first = entity::id::EventId::new(at, 0);
            let found: Vec<i64> = entity::event::Entity::find()
                .select_only()
                .column(entity::event::Column::Seq)
                .filter(entity::event::COLUMN.organization_id.eq(organization.clone()))
                .filter(entity::event::COLUMN.id.gte(first))
                .order_by_asc(entity::event::COLUMN.id)
                .limit(1000)
                .into_tuple()
                .all(self.store.reader())
                .await?;
            Ok::<_, Error>(found.into_iter().min().map_or(last, |seq| seq - 1))
        };
        let after = match since {
            None => 0,
            Some(since) => edge(since).await?,
        };
        let through = match until {
            None => last,
            Some(until) => edge(until).await?,
        };
        Ok((after, through))
    }

    /// A replay of an endpoint.
    pub async fn find_replay(
        &self,
        organization: &OrganizationId,
        id: &ReplayId,
    ) -> Result<Option<replay::Model>, Error> {
        let found = replay::Entity::find_by_id(id.clone())
            .filter(replay::COLUMN.organization_id.eq(organization.clone()))
            .one(self.store.reader())
            .await?;
        Ok(found)
    }

    /// Stops a replay. What it has made owed is still sent.
    pub async fn cancel_replay(
        &self,
        organization: &OrganizationId,
        id: &ReplayId,
        by: By,
    ) -> Result<Cancelled, Error> {
        let now = self.store.clock().now();
        let (organization, id) = (organization.clone(), id.clone());
        self.store
            .writer()
            .run(LANE, Patience::Fail, move |txn| {
                let (organization, id, by) = (organization.clone(), id.clone(), by.clone());
                Box::pin(async move {
                    let found = replay::Entity::find_by_id(id)
                        .filter(replay::COLUMN.organization_id.eq(organization.clone()))
                        .lock_exclusive()
                        .one(txn)
                        .await?;
                    match found {
                        None => Ok(Cancelled::NotFound),
                        Some(row) if row.state != ReplayState::Running => Ok(Cancelled::Ended),
                        Some(row) => {
                            let whose = (&organization, &row.endpoint_id);
                            let (action, which) = (
                                AuditAction::WebhookReplayCancelled,
                                json!({ "replayId": row.id }),
                            );
                            trace(txn, whose, &by, now, action, &which).await?;
                            let row = finish(txn, row, ReplayState::Cancelled, now).await?;
                            Ok(Cancelled::Now(Box::new(row)))
                        }
                    }
                })
            })
            .await
    }

    /// Has every replay go on that may, by one step. Returns how many are not at their end.
    pub async fn step_replays(&self) -> Result<usize, Error> {
        let running: Vec<replay::Model> = replay::Entity::find()
            .filter(Expr::cust("state = 'running'"))
            .order_by_asc(replay::COLUMN.id)
            .limit(20)
            .all(self.store.reader())
            .await?;
        let now = self.store.clock().now();
        for row in &running {
            if now.since(row.stepped_at).as_secs() == 0 && row.stepped_at <= now {
                continue;
            }
            let id = row.id.clone();
            let owed = self.store.writer().run(LANE, PATIENCE, move |txn| {
                let id = id.clone();
                Box::pin(async move { step(txn, &id, now).await })
            });
            if owed.await? {
                self.touch([row.endpoint_id.clone()]);
            }
        }
        Ok(running.len())
    }
}

/// Goes on with one replay; whether anything is owed by it.
async fn step(txn: &DatabaseTransaction, id: &ReplayId, now: UnixMillis) -> Result<bool, DbErr> {
    let found = replay::Entity::find_by_id(id.clone()).lock_exclusive().one(txn).await?;
    let Some(row) = found.filter(|row| row.state == ReplayState::Running) else {
        return Ok(false);
    };
    let endpoint = endpoint::Entity::find_by_id(row.endpoint_id.clone()).one(txn).await?;
    let Some(endpoint) = endpoint.filter(|it| it.state != EndpointState::Deleted) else {
        finish(txn, row, ReplayState::Cancelled, now).await?;
        return Ok(false);
    };
    let limit = i64::from(row.rate_per_second).clamp(1, STEP);
    let events = events(txn, &row, limit).await?;
    let end = i64::try_from(events.len()).unwrap_or(i64::MAX) < limit;
    let cursor = events.last().map_or(row.through_seq, |(event, _)| event.seq);

    let wants = filter(&endpoint);
    let wanted = events.into_iter().filter(|(event, number)| {
        EventType::of_name(&event.event_type).is_some_and(|kind| {
            // One about this endpoint was never for it.
            event.conversation != endpoint.id.as_str()
                && wants.wants(kind, event.session_id.as_deref(), number.as_deref())
        })
    });
    let (mut told, mut owed) = (Vec::new(), Vec::new());
    for (event, _) in wanted {
        owed.push(again(&event, &endpoint, &row.id, now).into_active_model());
        told.push(event.into_active_model());
    }
    let count = i64::try_from(owed.len()).unwrap_or(i64::MAX);
    if count > 0 {
        event::Entity::insert_many(told)
            .on_conflict(OnConflict::column(event::Column::Id).do_nothing().to_owned())
            .exec_without_returning(txn)
            .await?;
        delivery::Entity::insert_many(owed).exec_without_returning(txn).await?;
    }
    replay::Entity::update(replay::ActiveModel {
        id: Unchanged(row.id.clone()),
        cursor_seq: Set(if end { row.through_seq } else { cursor }),
        owed: Set(row.owed + count),
        stepped_at: Set(now),
        ..Default::default()
    })
    .exec(txn)
    .await?;
    if end {
        let row = replay::Model { owed: row.owed + count, cursor_seq: row.through_seq, ..row };
        finish(txn, row, ReplayState::Done, now).await?;
    }
    Ok(count > 0)
}

async fn finish(
    txn: &DatabaseTransaction,
    row: replay::Model,
    state: ReplayState,
    now: UnixMillis,
) -> Result<replay::Model, DbErr> {
    replay::Entity::update(replay::ActiveModel {
        id: Unchanged(row.id.clone()),
        state: Set(state),
        finished_at: Set(Some(now)),
        ..Default::default()
    })
    .exec(txn)
    .await?;
    Ok(replay::Model { state, finished_at: Some(now), ..row })
}

/// The next events of a replay, in order, with their sessions' phone numbers: from the feed, and those
/// that only endpoints were told of.
async fn events(
    txn: &DatabaseTransaction,
    replay: &replay::Model,
    limit: i64,
) -> Result<Vec<(event::Model, Option<String>)>, DbErr> {
    let most = u64::try_from(limit).unwrap_or(1);
    let recorded = entity::event::Entity::find()
        .filter(entity::event::COLUMN.organization_id.eq(replay.organization_id.clone()))
        .filter(entity::event::COLUMN.seq.gt(replay.cursor_seq))
        .filter(entity::event::COLUMN.seq.lte(replay.through_seq))
        .order_by_asc(entity::event::COLUMN.seq)
        .limit(most)
        .all(txn)
        .await?;
    let told = event::Entity::find()
        .filter(event::COLUMN.organization_id.eq(replay.organization_id.clone()))
        .filter(event::COLUMN.seq.gt(replay.cursor_seq))
        .filter(event::COLUMN.seq.lte(replay.through_seq))
        .order_by_asc(event::COLUMN.seq)
        .limit(most)
        .all(txn)
        .await?;
    let keys: Vec<SessionKey> = recorded
        .iter()
        .map(|row| row.session_key.clone())
        .chain(told.iter().filter_map(|row| row.session_key.clone()))
        .collect();
    let sessions: HashMap<SessionKey, session::Model> = session::Entity::find()
        .filter(session::COLUMN.id.is_in(keys))
        .all(txn)
        .await?
        .into_iter()
        .map(|row| (row.id.clone(), row))
        .collect();
    let number = |key: Option<&SessionKey>| {
        key.and_then(|key| sessions.get(key)).and_then(|row| row.phone_number.clone())
    };
    let mut events: Vec<_> =
        told.into_iter().map(|row| (number(row.session_key.as_ref()), row)).collect();
    for row in recorded {
        if events.iter().any(|(_, told)| told.id == row.id) {
            continue;
        }
        let name = sessions.get(&row.session_key).map(|it| it.session_id.to_string());
        let kind = EventType::of_recorded(row.kind, &row.payload);
        let of = event::Model {
            id: row.id,
            organization_id: row.organization_id,
            seq: row.seq,
            event_type: kind.name().to_owned(),
            conversation: row.session_key.to_string(),
            session_id: name,
            session_key: Some(row.session_key.clone()),
            payload: row.payload,
            occurred_at: row.occurred_at,
            in_feed: false,
        };
        events.push((number(Some(&row.session_key)), of));
    }
    events.sort_by_key(|(_, event)| event.seq);
    events.truncate(usize::try_from(limit).unwrap_or(1));
    Ok(events.into_iter().map(|(number, event)| (event, number)).collect())
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
