//! Keeping what was posted: once, with each thing that is told in it, in one transaction.

use entity::meta::{body, event};
use sea_orm::{EntityTrait, IntoActiveModel, TryInsertResult};

use super::{Meta, sealed};
use crate::store::{Error, Patience};

/// Rows of one statement: SQLite binds some thirty thousand values at most.
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
    /// has told before.
    pub async fn keep(&self, all: Vec<Kept>) -> Result<usize, Error> {
        let mut ready = Vec::with_capacity(all.len());
        for mut kept in all {
            let organization = &kept.body.organization_id;
            let sealer = self.store.sealer(organization, Patience::Fail).await?;
            kept.body.body = sealed::seal_body(&sealer, &kept.body, &kept.body.body);
            ready.push(kept);
        }
        let writer = self.store.writer();
        let lane = ready.first().map(|it| it.body.organization_id.to_string()).unwrap_or_default();
        let new = writer
            .run(&lane, Patience::Fail, move |txn| {
                let all = ready.clone();
                Box::pin(async move {
                    let mut new = 0;
                    for Kept { body, events } in all {
                        let inserted = body::Entity::insert(body.into_active_model())
                            .on_conflict_do_nothing_on([
                                body::Column::OrganizationId,
                                body::Column::Sha256,
                            ])
                            .exec(txn)
                            .await?;
                        if !matches!(inserted, TryInsertResult::Inserted(_)) {
                            continue;
                        }
                        new += 1;
                        for chunk in events.chunks(CHUNK) {
                            let rows =
                                chunk.iter().cloned().map(IntoActiveModel::into_active_model);
                            event::Entity::insert_many::<event::ActiveModel, _>(rows)
                                .on_conflict_do_nothing_on([
                                    event::Column::OrganizationId,
                                    event::Column::DedupKey,
                                ])
                                .exec_without_returning(txn)
                                .await?;
                        }
                    }
                    Ok(new)
                })
            })
            .await?;
        // Whoever carries it out need not wait for his next look.
        writer.ring();
        Ok(new)
    }
}
