//! Reading what happened.

use std::ops::RangeInclusive;

use entity::{
    event,
    id::{OrganizationId, SessionKey},
    kind::EventKind,
    organization,
    webhook::event as notice,
};
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect, sea_query::Expr};

use crate::store::{Error, Patience, Store, secrets};

/// Something that happened.
#[derive(Clone, Debug)]
pub enum Entry {
    /// What the run of a session has seen.
    Recorded(event::Model),
    /// What became of an endpoint, or of a session itself.
    Noticed(notice::Model),
}

impl Entry {
    /// Its number.
    pub const fn seq(&self) -> i64 {
        match self {
            Self::Recorded(row) => row.seq,
            Self::Noticed(row) => row.seq,
        }
    }
}

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
        self.recorded(organization, session, after_seq..=i64::MAX, limit).await
    }

    /// The same, with what no session's run has seen: notices about endpoints, and about sessions.
    ///
    /// They are in another table. What both have up to the newest number at one moment is complete, as
    /// numbers become visible in order; what comes while the two are read waits for the next page.
    pub async fn feed(
        &self,
        organization: &OrganizationId,
        session: Option<&SessionKey>,
        after_seq: i64,
        limit: u64,
    ) -> Result<Vec<Entry>, Error> {
        let newest = self.last_seq(organization).await?;
        if newest <= after_seq {
            return Ok(Vec::new());
        }
        let recorded = self.recorded(organization, session, after_seq..=newest, limit).await?;
        let mut query = notice::Entity::find()
            .filter(notice::COLUMN.organization_id.eq(organization.clone()))
            .filter(notice::COLUMN.seq.gt(after_seq))
            .filter(notice::COLUMN.seq.lte(newest))
            .filter(Expr::cust("in_feed"))
            .order_by_asc(notice::COLUMN.seq)
            .limit(limit);
        if let Some(session) = session {
            query = query.filter(notice::COLUMN.session_key.eq(session.clone()));
        }
        let noticed = query.all(self.store.reader()).await?;
        let mut entries: Vec<_> = recorded.into_iter().map(Entry::Recorded).collect();
        entries.extend(noticed.into_iter().map(Entry::Noticed));
        entries.sort_by_key(Entry::seq);
        entries.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
        Ok(entries)
    }

    /// Events behind the first number, up to the last.
    async fn recorded(
        &self,
        organization: &OrganizationId,
        session: Option<&SessionKey>,
        span: RangeInclusive<i64>,
        limit: u64,
    ) -> Result<Vec<event::Model>, Error> {
        let mut query = event::Entity::find()
            .filter(event::COLUMN.organization_id.eq(organization.clone()))
            .filter(event::COLUMN.seq.gt(*span.start()))
            .filter(event::COLUMN.seq.lte(*span.end()))
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
