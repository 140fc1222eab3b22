//! Having something carried out again: after a mistake of ours was mended, or somebody has set a number up.
//!
//! What is wanted is looked for by a reader, and put back a part at a time, each a unit of the writer's: nobody who writes
//! beside it waits for ten thousand rows. A request that was broken off goes on with the same key.

use entity::{
    UnixMillis,
    id::{MetaAccountId, MetaEventId, OrganizationId},
    kind::AuditAction,
    meta::{event, state::MetaEventState},
};
use sea_orm::{
    ColumnTrait, DatabaseTransaction, DbErr, EntityTrait, Order, QueryFilter, QueryOrder,
    QuerySelect,
    sea_query::{Expr, NullOrdering},
};
use serde_json::json;

use super::Meta;
use crate::store::{
    Error, Patience,
    audit::{self, By},
    idempotency::{self, Claimed, Key},
};

/// The most that one request puts back. What is left is put back by the next.
const MOST: u64 = 10_000;

/// The most that one unit of the writer's puts back.
const PART: usize = 500;

/// Behind the count that a key stands for, while there is more to be put back.
const UNFINISHED: char = '+';

/// Which events are wanted.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    /// This one alone.
    pub id: Option<MetaEventId>,
    pub state: Option<MetaEventState>,
    pub event_type: Option<String>,
    pub account: Option<MetaAccountId>,
    pub is_unrouted: Option<bool>,
    /// That happened from this time on, and before that one.
    pub from: Option<UnixMillis>,
    pub to: Option<UnixMillis>,
}

/// What came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Requeued {
    Done {
        events: u64,
        /// An earlier request with the same key has done it.
        replayed: bool,
    },
    KeyReused,
}

impl Meta {
    /// Whether a key has nothing more to be done for it: what was asked for with it is done, or was something else.
    pub async fn was_reprocessed(
        &self,
        organization: &OrganizationId,
        key: &Key,
    ) -> Result<bool, Error> {
        let made = entity::idempotency::Entity::find_by_id((organization.clone(), key.key.clone()))
            .one(self.store.reader())
            .await?;
        Ok(made.is_some_and(|it| {
            it.fingerprint != key.fingerprint || !it.resource_id.ends_with(UNFINISHED)
        }))
    }

    /// Has events carried out again, once for each key.
    pub async fn reprocess(
        &self,
        organization: &OrganizationId,
        wanted: Wanted,
        key: Option<Key>,
        by: By,
    ) -> Result<Requeued, Error> {
        let ids = self.wanted(organization, &wanted).await?;
        let about = wanted.id.as_ref().map_or("range", MetaEventId::as_str).to_owned();
        let detail = json!({
            "events": ids.len(), "type": wanted.event_type, "state": wanted.state,
        });
        let now = self.store.clock().now();
        let lane = organization.to_string();
        let writer = self.store.writer();
        // At least one, which says that it was asked for.
        let parts = ids.chunks(PART).collect::<Vec<_>>();
        let count = parts.len().max(1);
        let mut done = 0;
        for n in 0..count {
            let part = parts.get(n).map(|it| it.to_vec()).unwrap_or_default();
            let (is_first, is_last) = (n == 0, n + 1 == count);
            let work = (organization.clone(), part, key.clone(), by.clone());
            let (about, detail) = (about.clone(), detail.clone());
            let unit = writer.run(&lane, Patience::Fail, move |txn| {
                let (organization, part, key, by) = work.clone();
                let (about, detail) = (about.clone(), detail.clone());
                let mut done = done;
                Box::pin(async move {
                    if is_first {
                        if let Some(key) = &key {
                            match before(txn, &organization, key, now).await? {
                                Before::Nothing => {}
                                Before::Part(events) => done = events,
                                Before::All(answer) => return Ok(Err(answer)),
                            }
                        }
                        let what = (AuditAction::MetaEventsReprocessed, about.as_str());
                        audit::write(txn, &organization, &by, now, what, &detail).await?;
                    }
                    done += put_back(txn, part).await?;
                    if let Some(key) = &key {
                        let mut count = done.to_string();
                        count.extend((!is_last).then_some(UNFINISHED));
                        idempotency::reassign(txn, &organization, key, &count).await?;
                    }
                    Ok(Ok(done))
                })
            });
            match unit.await? {
                Ok(events) => done = events,
                Err(answer) => return Ok(answer),
            }
            writer.ring();
        }
        Ok(Requeued::Done { events: done, replayed: false })
    }

    /// The ids of those that are wanted. What waits already is as it should be.
    async fn wanted(
        &self,
        organization: &OrganizationId,
        wanted: &Wanted,
    ) -> Result<Vec<MetaEventId>, Error> {
        let mut find = event::Entity::find()
            .select_only()
            .column(event::Column::Id)
            .filter(event::COLUMN.organization_id.eq(organization.clone()))
            .filter(event::COLUMN.state.ne(MetaEventState::Waiting))
            // What was not carried out for the longest time: so whoever asks again gets to the rest.
            // Nothing says that of what has failed, and databases differ in where nothing goes.
            .order_by_with_nulls(event::Column::ProcessedAt, Order::Asc, NullOrdering::First)
            .order_by_asc(event::COLUMN.id)
            .limit(MOST);
        if let Some(id) = &wanted.id {
            find = find.filter(event::COLUMN.id.eq(id.clone()));
        }
        if let Some(state) = wanted.state {
            find = find.filter(event::COLUMN.state.eq(state));
        }
        if let Some(kind) = &wanted.event_type {
            find = find.filter(event::COLUMN.event_type.eq(kind.as_str()));
        }
        if let Some(account) = &wanted.account {
            find = find.filter(event::Column::AccountId.eq(account.clone()));
        }
        if let Some(unrouted) = wanted.is_unrouted {
            find = find.filter(event::COLUMN.is_unrouted.eq(unrouted));
        }
        if let Some(from) = wanted.from {
            find = find.filter(event::COLUMN.event_ts.gte(from));
        }
        if let Some(to) = wanted.to {
            find = find.filter(event::COLUMN.event_ts.lt(to));
        }
        Ok(find.into_tuple().all(self.store.reader()).await?)
    }
}

/// What a request with the same key has done before.
enum Before {
    Nothing,
    /// It was broken off after so many.
    Part(u64),
    All(Requeued),
}

async fn before(
    txn: &DatabaseTransaction,
    organization: &OrganizationId,
    key: &Key,
    now: UnixMillis,
) -> Result<Before, DbErr> {
    Ok(match idempotency::claim(txn, organization, key, "", now).await? {
        Claimed::Free => Before::Nothing,
        Claimed::Reused => Before::All(Requeued::KeyReused),
        Claimed::Made { resource_id } => {
            if let Some(events) = resource_id.strip_suffix(UNFINISHED) {
                Before::Part(events.parse().unwrap_or(0))
            } else {
                let events = resource_id.parse().unwrap_or(0);
                Before::All(Requeued::Done { events, replayed: true })
            }
        }
    })
}

/// Has these carried out again, but for those that wait by now. How many.
async fn put_back(txn: &DatabaseTransaction, ids: Vec<MetaEventId>) -> Result<u64, DbErr> {
    if ids.is_empty() {
        return Ok(0);
    }
    let put = event::Entity::update_many()
        .col_expr(event::Column::State, Expr::value(MetaEventState::Waiting))
        .col_expr(event::Column::Processed, Expr::value(false))
        .col_expr(event::Column::ProcessedAt, Expr::value(None::<UnixMillis>))
        .col_expr(event::Column::Attempts, Expr::value(0))
        .col_expr(event::Column::Progress, Expr::value(0))
        .col_expr(event::Column::NextAt, Expr::value(0_i64))
        .col_expr(event::Column::Claim, Expr::value(None::<i64>))
        .col_expr(event::Column::LeaseUntil, Expr::value(0_i64))
        .filter(event::COLUMN.state.ne(MetaEventState::Waiting))
        .filter(event::COLUMN.id.is_in(ids));
    Ok(put.exec(txn).await?.rows_affected)
}
