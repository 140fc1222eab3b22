//! Having something carried out again: after a mistake of ours was mended, or somebody has set a number up.

use entity::{
    UnixMillis,
    id::{MetaAccountId, MetaEventId, OrganizationId},
    kind::AuditAction,
    meta::{event, state::MetaEventState},
};
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect, sea_query::Expr};
use serde_json::json;

use super::Meta;
use crate::store::{
    Error, Patience,
    audit::{self, By},
    idempotency::{self, Claimed, Key},
};

/// The most that one request puts back. What is left is put back by the next.
const MOST: u64 = 10_000;

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
    /// Has events carried out again, once for each key.
    pub async fn reprocess(
        &self,
        organization: &OrganizationId,
        wanted: Wanted,
        key: Option<Key>,
        by: By,
    ) -> Result<Requeued, Error> {
        let now = self.store.clock().now();
        let lane = organization.to_string();
        let work = (organization.clone(), wanted, key, by);
        let writer = self.store.writer();
        let done = writer
            .run(&lane, Patience::Fail, move |txn| {
                let (organization, wanted, key, by) = work.clone();
                Box::pin(async move {
                    if let Some(key) = &key {
                        match idempotency::claim(txn, &organization, key, "", now).await? {
                            Claimed::Free => {}
                            Claimed::Reused => return Ok(Requeued::KeyReused),
                            Claimed::Made { resource_id } => {
                                let events = resource_id.parse().unwrap_or(0);
                                return Ok(Requeued::Done { events, replayed: true });
                            }
                        }
                    }
                    // What waits already is as it should be.
                    let mut find = event::Entity::find()
                        .select_only()
                        .column(event::Column::Id)
                        .filter(event::COLUMN.organization_id.eq(organization.clone()))
                        .filter(event::COLUMN.state.ne(MetaEventState::Waiting))
                        // What was not carried out for the longest time: so whoever asks again gets to the rest.
                        .order_by_asc(event::Column::ProcessedAt)
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
                    let ids: Vec<MetaEventId> = find.into_tuple().all(txn).await?;
                    for chunk in ids.chunks(500) {
                        event::Entity::update_many()
                            .col_expr(event::Column::State, Expr::value(MetaEventState::Waiting))
                            .col_expr(event::Column::Processed, Expr::value(false))
                            .col_expr(event::Column::ProcessedAt, Expr::value(None::<UnixMillis>))
                            .col_expr(event::Column::Attempts, Expr::value(0))
                            .col_expr(event::Column::NextAt, Expr::value(0_i64))
                            .col_expr(event::Column::Claim, Expr::value(None::<i64>))
                            .col_expr(event::Column::LeaseUntil, Expr::value(0_i64))
                            .filter(event::COLUMN.id.is_in(chunk.iter().cloned()))
                            .exec(txn)
                            .await?;
                    }
                    let events = ids.len() as u64;
                    if let Some(key) = &key {
                        let count = events.to_string();
                        idempotency::reassign(txn, &organization, key, &count).await?;
                    }
                    let about = wanted.id.as_ref().map_or("range", MetaEventId::as_str);
                    let what = (AuditAction::MetaEventsReprocessed, about);
                    let detail = json!({
                        "events": events, "type": wanted.event_type, "state": wanted.state,
                    });
                    audit::write(txn, &organization, &by, now, what, &detail).await?;
                    Ok(Requeued::Done { events, replayed: false })
                })
            })
            .await?;
        writer.ring();
        Ok(done)
    }
}
