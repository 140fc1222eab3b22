//! Reading what happened.

use entity::{
    event,
    id::{OrganizationId, SessionKey},
    kind::EventKind,
    organization,
};
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect};

use crate::store::{Error, Patience, Store, secrets};

/// Reading what happened.
#[derive(Clone, Debug)]
pub struct Events {
    store: Store,
}

impl Events {
    pub(in crate::store) fn new(store: Store) -> Self {
        Self { store }
    }

    /// Up to `limit` events after `after_seq`, oldest first, of one session or of all.
    pub async fn page(
        &self,
        organization: &OrganizationId,
        session: Option<&SessionKey>,
        after_seq: i64,
        limit: u64,
    ) -> Result<Vec<event::Model>, Error> {
        let mut query = event::Entity::find()
            .filter(event::COLUMN.organization_id.eq(organization.clone()))
            .filter(event::COLUMN.seq.gt(after_seq))
            .order_by_asc(event::COLUMN.seq)
            .limit(limit);
        if let Some(session) = session {
            query = query.filter(event::COLUMN.session_key.eq(session.clone()));
        }
        let mut rows = query.all(self.store.reader()).await?;
        if rows.iter().any(|row| row.kind == EventKind::Qr) {
            let sealer = self.store.sealer(organization, Patience::Fail).await?;
            for row in &mut rows {
                secrets::open_event(&sealer, row);
            }
        }
        Ok(rows)
    }

    /// The sequence number of the organization's newest event; 0 before the first.
    pub async fn last_seq(&self, organization: &OrganizationId) -> Result<i64, Error> {
        let row =
            organization::Entity::find_by_id(organization.clone()).one(self.store.reader()).await?;
        Ok(row.map_or(0, |row| row.last_seq))
    }

    /// The highest sequence number of the organization that retention has deleted; 0 before the first.
    pub async fn retired_seq(&self, organization: &OrganizationId) -> Result<i64, Error> {
        let row =
            organization::Entity::find_by_id(organization.clone()).one(self.store.reader()).await?;
        Ok(row.map_or(0, |row| row.retired_seq))
    }
}
