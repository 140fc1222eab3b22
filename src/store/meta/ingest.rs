//! Keeping what was posted: once, with each thing that is told in it.
//!
//! In one transaction, unless there are very many things: then a part at a time, so that nobody who writes beside it waits for
//! all of them. Whoever posts the same again, because that was broken off, has the rest kept.

use std::collections::HashSet;

use entity::{
    id::MetaBodyId,
    meta::{body, event, state::MetaEventState},
};
use sea_orm::{
    ColumnTrait, DatabaseTransaction, DbErr, EntityTrait, IntoActiveModel, QueryFilter,
    QuerySelect, TryInsertResult,
};

use super::{Meta, closed, sealed};
use crate::store::{Error, Patience};

/// Rows of one statement, and of one body in one transaction. SQLite binds some thirty thousand values at most.
const CHUNK: usize = 500;

/// What one organization was told in one request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// Its `body` is in clear.
    pub body: body::Model,
    pub events: Vec<event::Model>,
}

impl Meta {
    /// Keeps what was posted, for every organization or for none. How many of the bodies were new.
    ///
    /// When this returns it is on disk. What is not new changes nothing, nor does a thing that another body
    /// has told before; unless it was refused, and is taken now.
    pub async fn keep(&self, all: Vec<Kept>) -> Result<usize, Error> {
        let mut ready = Vec::with_capacity(all.len());
        let mut rest = Vec::new();
        for mut kept in all {
            let organization = &kept.body.organization_id;
            let sealer = self.store.sealer(organization, Patience::Fail).await?;
            kept.body.body = sealed::seal_body(&sealer, &kept.body, &kept.body.body);
            let mut seen = HashSet::new();
            kept.events.retain(|it| seen.insert(it.dedup_key.clone()));
            let more = kept.events.split_off(CHUNK.min(kept.events.len()));
            rest.push(more);
            ready.push(kept);
        }
        let writer = self.store.writer();
        let lane = ready.first().map(|it| it.body.organization_id.to_string()).unwrap_or_default();
        let has_more: Vec<bool> = rest.iter().map(|it| !it.is_empty()).collect();
        let bodies = writer
            .run(&lane, Patience::Fail, move |txn| {
                let (all, has_more) = (ready.clone(), has_more.clone());
                Box::pin(async move {
                    let mut bodies = Vec::with_capacity(all.len());
                    for (kept, has_more) in all.into_iter().zip(has_more) {
                        bodies.push(begin(txn, kept, has_more).await?);
                    }
                    Ok(bodies)
                })
            })
            .await?;
        for (_, id) in &bodies {
            tracing::debug!(meta.body = %id, "Kept what Meta posted, or had it");
        }
        for ((_, id), mut rows) in bodies.iter().zip(rest) {
            for row in &mut rows {
                row.body_id = id.clone();
            }
            for chunk in rows.chunks(CHUNK) {
                let chunk = chunk.to_vec();
                let unit = writer.run(&lane, Patience::Fail, move |txn| {
                    let chunk = chunk.clone();
                    Box::pin(async move { insert(txn, chunk).await })
                });
                unit.await?;
            }
        }
        // Whoever carries it out need not wait for his next look.
        writer.ring();
        Ok(bodies.into_iter().filter(|(is_new, _)| *is_new).count())
    }
}

/// Keeps a body and the first of what is told in it. Whether it is new, and the id that it has.
async fn begin(
    txn: &DatabaseTransaction,
    Kept { body, mut events }: Kept,
    has_more: bool,
) -> Result<(bool, MetaBodyId), DbErr> {
    let (organization, sha256, id) =
        (body.organization_id.clone(), body.sha256.clone(), body.id.clone());
    let inserted = body::Entity::insert(body.into_active_model())
        .on_conflict_do_nothing_on([body::Column::OrganizationId, body::Column::Sha256])
        .exec(txn)
        .await?;
    if matches!(inserted, TryInsertResult::Inserted(_)) {
        insert(txn, events).await?;
        return Ok((true, id));
    }
    if !has_more {
        let taken = events.into_iter().filter(|it| it.state == MetaEventState::Waiting);
        let keys = taken.map(|it| it.dedup_key).collect();
        closed::take(txn, &organization, keys).await?;
        return Ok((false, id));
    }
    // It may have been broken off.
    let there: Option<MetaBodyId> = body::Entity::find()
        .select_only()
        .column(body::Column::Id)
        .filter(body::COLUMN.organization_id.eq(organization))
        .filter(body::COLUMN.sha256.eq(sha256))
        .into_tuple()
        .one(txn)
        .await?;
    let there = there.unwrap_or(id);
    for row in &mut events {
        row.body_id = there.clone();
    }
    insert(txn, events).await?;
    Ok((false, there))
}

async fn insert(txn: &DatabaseTransaction, rows: Vec<event::Model>) -> Result<(), DbErr> {
    if rows.is_empty() {
        return Ok(());
    }
    let rows = rows.into_iter().map(IntoActiveModel::into_active_model);
    event::Entity::insert_many::<event::ActiveModel, _>(rows)
        .on_conflict(closed::on_conflict())
        .exec_without_returning(txn)
        .await?;
    Ok(())
}
