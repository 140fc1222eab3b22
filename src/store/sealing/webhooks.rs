//! Sealing what is of webhooks: where endpoints are, and what others were told of that.

use entity::{
    id::{EndpointId, EventId},
    webhook::{endpoint, event as webhook_event},
};
use sea_orm::{
    ActiveValue::Set, ColumnTrait, DatabaseTransaction, DbErr, EntityTrait, IntoActiveModel,
    QueryFilter, QueryOrder, QuerySelect, QueryTrait,
};

use super::CHUNK;
use crate::{
    store::{Error, Patience, Store, secrets, webhooks},
    vault::Sealer,
    webhook::EventType,
};

impl Store {
    pub(super) async fn seal_endpoints(&self, sealer: &Sealer) -> Result<u64, Error> {
        self.in_chunks(sealer, |txn, sealer, after: Option<EndpointId>| {
            Box::pin(async move {
                let rows = endpoint::Entity::find()
                    .filter(endpoint::COLUMN.organization_id.eq(sealer.organization().clone()))
                    .apply_if(after, |rows, id| rows.filter(endpoint::COLUMN.id.gt(id)))
                    .order_by_asc(endpoint::COLUMN.id)
                    .limit(CHUNK)
                    .lock_exclusive()
                    .all(txn)
                    .await?;
                let last = rows.last().map(|row| row.id.clone());
                let mut count = 0;
                for row in rows {
                    if row.url.is_empty() || webhooks::is_url_sealed(sealer, &row) {
                        continue;
                    }
                    let url = webhooks::seal_url(sealer, &row.id, &row.url);
                    let mut row = row.into_active_model();
                    row.url = Set(url);
                    endpoint::Entity::update(row).exec(txn).await?;
                    count += 1;
                }
                Ok((last, count))
            })
        })
        .await
    }

    /// What endpoints were told of endpoints, and under names that are none of ours: copies of what is sealed elsewhere.
    ///
    /// They are few among many, so they are looked for by a reader, which holds nobody up and has no deadline.
    pub(super) async fn seal_notices(&self, sealer: &Sealer) -> Result<u64, Error> {
        let names = EventType::OF_ENDPOINTS.into_iter().chain([EventType::Unknown]);
        let names: Vec<_> = names.map(EventType::name).collect();
        let (mut after, mut count) = (None::<EventId>, 0);
        loop {
            let ids: Vec<EventId> = webhook_event::Entity::find()
                .select_only()
                .column(webhook_event::Column::Id)
                .filter(webhook_event::COLUMN.organization_id.eq(sealer.organization().clone()))
                .filter(webhook_event::COLUMN.event_type.is_in(names.iter().copied()))
                .apply_if(after, |rows, id| rows.filter(webhook_event::COLUMN.id.gt(id)))
                .order_by_asc(webhook_event::COLUMN.id)
                .limit(CHUNK)
                .into_tuple()
                .all(self.reader())
                .await?;
            let Some(last) = ids.last() else { return Ok(count) };
            after = Some(last.clone());
            let own = sealer.clone();
            let sealing = self.writer().run("sealing", Patience::Fail, move |txn| {
                let (own, ids) = (own.clone(), ids.clone());
                Box::pin(async move { seal_some(txn, &own, ids).await })
            });
            count += sealing.await?;
        }
    }
}

async fn seal_some(
    txn: &DatabaseTransaction,
    sealer: &Sealer,
    ids: Vec<EventId>,
) -> Result<u64, DbErr> {
    let rows = webhook_event::Entity::find()
        .filter(webhook_event::COLUMN.id.is_in(ids))
        .order_by_asc(webhook_event::COLUMN.id)
        .lock_exclusive()
        .all(txn)
        .await?;
    let mut count = 0;
    for row in rows {
        let mut told = row.payload.clone();
        let is_unknown = row.event_type == EventType::Unknown.name();
        let was_clear = match row.session_key.as_ref().filter(|_| is_unknown) {
            Some(session) => secrets::seal_old_told(sealer, session, &mut told),
            None => webhooks::seal_old_notice(sealer, &mut told),
        };
        if was_clear {
            let mut row = row.into_active_model();
            row.payload = Set(told);
            webhook_event::Entity::update(row).exec(txn).await?;
            count += 1;
        }
    }
    Ok(count)
}
