//! Sending a range of events again, or for the first time after a gap: a row that goes on by itself (`stepping.rs`).

use entity::{
    UnixMillis,
    id::{EndpointId, OrganizationId, ReplayId, in_order},
    kind::AuditAction,
    webhook::{replay, state::ReplayState},
};
use sea_orm::{
    ActiveValue::{Set, Unchanged},
    ColumnTrait, DatabaseTransaction, DbErr, EntityTrait, IntoActiveModel, PaginatorTrait,
    QueryFilter, QueryOrder, QuerySelect,
    sea_query::Expr,
};
use serde_json::json;

use super::{LANE, Webhooks, traced::trace};
use crate::store::{
    Error, Made, Patience,
    audit::By,
    idempotency::{Key, made_before, release},
    organizations,
};

/// A replay that is wanted.
#[derive(Clone, Copy, Debug)]
pub struct NewReplay {
    /// Of the events after this number …
    pub after: i64,
    /// … up to this one.
    pub through: i64,
    /// Events to look at in a second.
    pub rate: i32,
    /// Only of those that the endpoint was not told of.
    pub undelivered_only: bool,
}

/// What became of a replay that was to be stopped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cancelled {
    Now(Box<replay::Model>),
    /// It had come to its end.
    Ended,
    NotFound,
}

impl Webhooks {
    /// Makes a replay. Once for each key; none if the organization has `most` that run.
    pub async fn replay(
        &self,
        organization: &OrganizationId,
        endpoint: &EndpointId,
        new: NewReplay,
        most: u64,
        (key, by): (Option<Key>, By),
    ) -> Result<Option<Made<replay::Model>>, Error> {
        let now = self.store.clock().now();
        let row = replay::Model {
            id: ReplayId::new(now, in_order(rand::random())),
            organization_id: organization.clone(),
            endpoint_id: endpoint.clone(),
            state: ReplayState::Running,
            after_seq: new.after,
            through_seq: new.through,
            undelivered_only: new.undelivered_only,
            cursor_seq: new.after,
            owed: 0,
            rate_per_second: new.rate,
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
                    // They are counted one after the other.
                    organizations::lock(txn, owner).await?;
                    let of = |id| {
                        replay::Entity::find()
                            .filter(replay::COLUMN.organization_id.eq(owner.clone()))
                            .filter(replay::COLUMN.id.eq(id))
                    };
                    let (key, id) = (key.as_ref(), row.id.as_str());
                    if let Some(made) = made_before(txn, owner, key, id, now, of).await? {
                        return Ok(Some(made));
                    }
                    let running = replay::Entity::find()
                        .filter(replay::COLUMN.organization_id.eq(owner.clone()))
                        .filter(Expr::cust("state = 'running'"))
                        .count(txn)
                        .await?;
                    if running >= most {
                        release(txn, owner, id).await?;
                        return Ok(None);
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
                    Ok(Some(Made::New(row)))
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
}

/// Ends a replay.
pub(super) async fn finish(
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
