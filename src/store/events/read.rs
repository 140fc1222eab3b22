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

use crate::{
    store::{
        Error, Patience, Store, secrets, sessions::of_one_that_is_there, webhooks::open_notice,
    },
    webhook::EventType,
};

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

/// Which events of a feed are wanted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Wanted {
    #[default]
    All,
    /// Only what runs of sessions have seen, of one kind.
    Recorded(EventKind),
    /// Only notices of one type.
    Noticed(EventType),
}

/// A part of a feed.
#[derive(Clone, Debug, Default)]
pub struct Stretch {
    /// The oldest first.
    pub entries: Vec<Entry>,
    /// Everything wanted up to this number is in it, or was before it.
    pub through: i64,
}

/// Reading what happened.
#[derive(Clone, Debug)]
pub struct Events {
    pub(super) store: Store,
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
        self.recorded(organization, session, None, after_seq..=i64::MAX, limit).await
    }

    /// The same, with what no session's run has seen: notices about endpoints, and about sessions.
    ///
    /// They are in another table. What both have up to the newest number at one moment is complete, as
    /// numbers become visible in order; what comes while the two are read waits for the next page.
    pub async fn feed(
        &self,
        organization: &OrganizationId,
        session: Option<&SessionKey>,
        wanted: Wanted,
        after_seq: i64,
        limit: u64,
    ) -> Result<Stretch, Error> {
        let newest = self.last_seq(organization).await?;
        if newest <= after_seq {
            return Ok(Stretch { entries: Vec::new(), through: after_seq });
        }
        let span = after_seq..=newest;
        let recorded = match wanted {
            Wanted::All => self.recorded(organization, session, None, span.clone(), limit).await?,
            Wanted::Recorded(kind) => {
                self.recorded(organization, session, Some(kind), span.clone(), limit).await?
            }
            Wanted::Noticed(_) => Vec::new(),
        };
        let noticed = match wanted {
            Wanted::All => self.noticed(organization, session, None, span, limit).await?,
            Wanted::Noticed(kind) => {
                self.noticed(organization, session, Some(kind), span, limit).await?
            }
            Wanted::Recorded(_) => Vec::new(),
        };
        let mut entries: Vec<_> = recorded.into_iter().map(Entry::Recorded).collect();
        entries.extend(noticed.into_iter().map(Entry::Noticed));
        entries.sort_by_key(Entry::seq);
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        entries.truncate(limit);
        let last = entries.last().filter(|_| entries.len() == limit).map(Entry::seq);
        Ok(Stretch { through: last.unwrap_or(newest), entries })
    }

    /// Notices behind the first number, up to the last.
    async fn noticed(
        &self,
        organization: &OrganizationId,
        session: Option<&SessionKey>,
        kind: Option<EventType>,
        span: RangeInclusive<i64>,
        limit: u64,
    ) -> Result<Vec<notice::Model>, Error> {
        let mut query = notice::Entity::find()
            .filter(notice::COLUMN.organization_id.eq(organization.clone()))
            .filter(notice::COLUMN.seq.gt(*span.start()))
            .filter(notice::COLUMN.seq.lte(*span.end()))
            .filter(Expr::cust("in_feed"))
            .order_by_asc(notice::COLUMN.seq)
            .limit(limit);
        if let Some(session) = session {
            query = query.filter(notice::COLUMN.session_key.eq(session.clone()));
        }
        if let Some(kind) = kind {
            query = query.filter(notice::COLUMN.event_type.eq(kind.name()));
        }
        let mut rows = query.all(self.store.reader()).await?;
        if !rows.is_empty() {
            let sealer = self.store.sealer(organization, Patience::Fail).await?;
            for row in &mut rows {
                open_notice(&sealer, &mut row.payload);
            }
        }
        Ok(rows)
    }

    /// Events behind the first number, up to the last.
    async fn recorded(
        &self,
        organization: &OrganizationId,
        session: Option<&SessionKey>,
        kind: Option<EventKind>,
        span: RangeInclusive<i64>,
        limit: u64,
    ) -> Result<Vec<event::Model>, Error> {
        let mut query = event::Entity::find()
            .filter(event::COLUMN.organization_id.eq(organization.clone()))
            .filter(event::COLUMN.seq.gt(*span.start()))
            .filter(event::COLUMN.seq.lte(*span.end()))
            .filter(of_one_that_is_there("event"))
            .order_by_asc(event::COLUMN.seq)
            .limit(limit);
        if let Some(session) = session {
            query = query.filter(event::COLUMN.session_key.eq(session.clone()));
        }
        if let Some(kind) = kind {
            query = query.filter(event::COLUMN.kind.eq(kind));
        }
        let mut rows = query.all(self.store.reader()).await?;
        if rows.iter().any(|row| secrets::is_sealed(row.kind)) {
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
