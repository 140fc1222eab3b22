//! What happened, as a feed that can be resumed.

use std::{collections::HashMap, time::Duration};

use entity::{
    UnixMillis,
    id::{EventId, SessionId, SessionKey},
    kind::EventKind,
    state::Role,
};
use serde::{Serialize, Serializer};
use tokio::time::Instant;

pub use super::bell::Bell;
use super::{Error, Principal, sessions};
use crate::{
    session::view::{StatusView, view},
    store::{
        Store,
        events::{Entry, Wanted},
        page::Page,
        sessions::Filter,
    },
    webhook::EventType,
};

/// What kind of thing happened. Both are written by their names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// What the run of a session has seen.
    Recorded(EventKind),
    /// What became of an endpoint, or of a session itself.
    Noticed(EventType),
}

impl Kind {
    /// The kind of this name.
    pub fn of_name(name: &str) -> Option<Self> {
        let recorded = serde_json::from_value(name.into()).map(Self::Recorded).ok();
        recorded.or_else(|| EventType::of_name(name).map(Self::Noticed))
    }
}

impl From<Kind> for Wanted {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::Recorded(kind) => Self::Recorded(kind),
            Kind::Noticed(kind) => Self::Noticed(kind),
        }
    }
}

impl Serialize for Kind {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Recorded(kind) => kind.serialize(serializer),
            Self::Noticed(kind) => serializer.serialize_str(kind.name()),
        }
    }
}

/// Something that happened, as the feed shows it.
#[derive(Clone, Debug)]
pub struct Happened {
    pub seq: i64,
    pub id: EventId,
    pub kind: Kind,
    /// None of what is about no session.
    pub session_id: Option<SessionId>,
    pub at: UnixMillis,
    /// JSON, as it was recorded.
    pub payload: String,
}

/// A part of the feed.
#[derive(Clone, Debug)]
pub struct Stretch {
    /// The oldest first.
    pub happened: Vec<Happened>,
    /// Everything wanted up to this number is in it, or was before it.
    pub through: i64,
}

/// A part of the feed that was deleted before it was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gap {
    /// The number after which the caller wanted to go on.
    pub after: i64,
    /// The last number that may be missing.
    pub through: i64,
}

/// What a feed is about.
#[derive(Clone, Debug)]
pub struct Scope {
    caller: Principal,
    session: Option<(SessionKey, SessionId)>,
    wanted: Wanted,
}

impl Scope {
    /// Only what is of this kind.
    #[must_use]
    pub fn of(mut self, kind: Option<Kind>) -> Self {
        self.wanted = kind.map(Into::into).unwrap_or_default();
        self
    }

    /// Whose feed it is.
    pub const fn caller(&self) -> &Principal {
        &self.caller
    }
}

/// The feed of events.
#[derive(Clone, Debug)]
pub struct Events {
    store: Store,
}

impl Events {
    pub const fn new(store: Store) -> Self {
        Self { store }
    }

    /// The feed of one session, or of all that the caller has.
    pub async fn scope(
        &self,
        caller: &Principal,
        session: Option<&SessionId>,
    ) -> Result<Scope, Error> {
        caller.require(Role::Viewer)?;
        let session = match session {
            None => None,
            Some(id) => {
                let row = sessions::find(&self.store, caller, id).await?;
                Some((row.id, row.session_id))
            }
        };
        Ok(Scope { caller: caller.clone(), session, wanted: Wanted::All })
    }

    /// The sequence number of the newest event; 0 before the first.
    pub async fn newest(&self, scope: &Scope) -> Result<i64, Error> {
        Ok(self.store.events().last_seq(&scope.caller.organization_id).await?)
    }

    /// Up to `limit` events after the one with the number `after`, in order.
    pub async fn page(&self, scope: &Scope, after: i64, limit: u64) -> Result<Stretch, Error> {
        let organization = &scope.caller.organization_id;
        let key = scope.session.as_ref().map(|(key, _)| key);
        let events = self.store.events();
        let stretch = events.feed(organization, key, scope.wanted, after, limit).await?;
        let (rows, through) = (stretch.entries, stretch.through);
        let names = match &scope.session {
            Some((key, id)) => HashMap::from([(key.clone(), id.clone())]),
            None if rows.is_empty() => HashMap::new(),
            None => {
                let key = |entry: &Entry| match entry {
                    Entry::Recorded(row) => Some(row.session_key.clone()),
                    Entry::Noticed(_) => None,
                };
                let mut keys: Vec<_> = rows.iter().filter_map(key).collect();
                keys.sort_unstable();
                keys.dedup();
                self.store.sessions().names(organization, keys).await?
            }
        };
        // An event whose session was deleted between the two reads has no name, and goes with it.
        let happened = rows.into_iter().filter_map(|entry| match entry {
            Entry::Recorded(row) => Some(Happened {
                seq: row.seq,
                id: row.id,
                kind: Kind::Recorded(row.kind),
                session_id: Some(names.get(&row.session_key)?.clone()),
                at: row.occurred_at,
                payload: row.payload,
            }),
            Entry::Noticed(row) => Some(Happened {
                seq: row.seq,
                id: row.id,
                // One of a later version has no name here.
                kind: Kind::Noticed(EventType::of_name(&row.event_type)?),
                session_id: row.session_id.and_then(|id| id.parse().ok()),
                at: row.occurred_at,
                payload: row.payload,
            }),
        });
        Ok(Stretch { happened: happened.collect(), through })
    }

    /// What retention has deleted of the feed between `after` and `first`, the number of the first event
    /// there is after it. Asked after the page was read: what is deleted meanwhile shows.
    pub async fn gap(
        &self,
        scope: &Scope,
        after: i64,
        first: Option<i64>,
    ) -> Result<Option<Gap>, Error> {
        if first == after.checked_add(1) {
            return Ok(None);
        }
        let retired = self.store.events().retired_seq(&scope.caller.organization_id).await?;
        let through = first.map_or(retired, |first| retired.min(first - 1));
        Ok((through > after).then_some(Gap { after, through }))
    }

    /// Like [`Events::page`], but waits up to `patience` for the first event.
    pub async fn next_page(
        &self,
        scope: &Scope,
        mut after: i64,
        limit: u64,
        patience: Duration,
    ) -> Result<Stretch, Error> {
        let deadline = Instant::now() + patience;
        let mut bell = self.bell();
        loop {
            let page = self.page(scope, after, limit).await?;
            after = page.through;
            let waits = page.happened.is_empty() && Instant::now() < deadline;
            if !waits || tokio::time::timeout_at(deadline, bell.rung()).await.is_err() {
                return Ok(page);
            }
        }
    }

    /// What all sessions of the feed look like now. [`Error::NotFound`] when its session is gone.
    pub async fn snapshot(&self, scope: &Scope) -> Result<Vec<StatusView>, Error> {
        if let Some((_, id)) = &scope.session {
            let row = sessions::find(&self.store, &scope.caller, id).await?;
            return Ok(vec![sessions::show(&self.store, &row).await?]);
        }
        let now = self.store.clock().now();
        let organization = &scope.caller.organization_id;
        let sessions = self.store.sessions();
        let rows = sessions.list(organization, &Filter::default(), &Page::all()).await?;
        let mut migrated = sessions.migrated_in(organization).await?;
        let show = |row: &entity::session::Model| {
            let mut view = view(row, now);
            view.handover.from = migrated.remove(&row.id).unwrap_or_default();
            view
        };
        Ok(rows.iter().map(show).collect())
    }

    /// Whether the feed's session is still there. A deleted one can be made again under its id, and
    /// is another session then.
    pub async fn goes_on(&self, scope: &Scope) -> Result<bool, Error> {
        match &scope.session {
            None => Ok(true),
            Some((key, _)) => Ok(self.store.sessions().find_by_key(key).await?.is_some()),
        }
    }

    /// Rings when there may be something new.
    pub fn bell(&self) -> Bell {
        Bell::of(&self.store)
    }

    /// What time it is.
    pub fn now(&self) -> UnixMillis {
        self.store.clock().now()
    }
}
