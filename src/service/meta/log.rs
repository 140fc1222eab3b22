//! What was told, for its owner.

use entity::{
    id::MetaEventId,
    meta::{body, event},
    state::Role,
};

use super::Meta;
use crate::{
    meta::Envelope,
    service::{Error, Principal, Thing, created},
    store::{
        meta::{LogFilter, Requeued, Wanted},
        page::{Page, Position},
    },
};

/// A page of events, the newest first.
#[derive(Clone, Debug)]
pub struct Listing {
    pub events: Vec<event::Model>,
    /// Where the next page begins; none after the last.
    pub next: Option<Position<MetaEventId>>,
}

/// One event, with what Meta has posted.
#[derive(Clone, Debug)]
pub struct Detail {
    pub event: event::Model,
    /// None when it is gone. Its bytes are sealed: see `payload`.
    pub body: Option<body::Model>,
    /// The body, as it came.
    pub payload: Option<Vec<u8>>,
    /// The event in it, as it was written.
    pub item: Option<String>,
}

/// How many events are to be carried out again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reprocessed {
    pub events: u64,
    /// An earlier request with the same key has asked for it.
    pub replayed: bool,
}

impl Meta {
    /// Has events carried out again that were carried out, or given up. What waits goes on waiting. Once for each key.
    ///
    /// What was told of the organization's numbers before they were set up, and was kept as nobody's, is its own from then on.
    pub async fn reprocess(
        &self,
        caller: &Principal,
        wanted: Wanted,
        key: Option<String>,
    ) -> Result<Reprocessed, Error> {
        caller.require(Role::Manager)?;
        let organization = &caller.organization_id;
        if let Some(id) = &wanted.id
            && self.store.meta().event(organization, id).await?.is_none()
        {
            return Err(Error::NotFound(Thing::MetaEvent));
        }
        let request = format!("{wanted:?}");
        let key = key.map(|key| created::key(key, &["meta reprocess", &request]));
        let is_done = match &key {
            Some(key) => self.store.meta().was_reprocessed(organization, key).await?,
            None => false,
        };
        if wanted.id.is_none() && !is_done {
            Box::pin(self.take_in(organization)).await?;
        }
        match self.store.meta().reprocess(organization, wanted, key, caller.by()).await? {
            Requeued::Done { events, replayed } => Ok(Reprocessed { events, replayed }),
            Requeued::KeyReused => Err(Error::KeyReused),
        }
    }

    /// Lists what the caller's organization was told.
    pub async fn events(
        &self,
        caller: &Principal,
        filter: &LogFilter,
        page: Page<MetaEventId>,
    ) -> Result<Listing, Error> {
        caller.require(Role::Viewer)?;
        let meta = self.store.meta();
        let mut events = meta.events(&caller.organization_id, filter, &page.one_more()).await?;
        let next = page.cut(&mut events, |row| Position { at: row.event_ts, id: row.id.clone() });
        Ok(Listing { events, next })
    }

    /// Looks one event up.
    pub async fn event(&self, caller: &Principal, id: &MetaEventId) -> Result<Detail, Error> {
        caller.require(Role::Viewer)?;
        let meta = self.store.meta();
        let found = meta.event(&caller.organization_id, id).await?;
        let (event, body) = found.ok_or(Error::NotFound(Thing::MetaEvent))?;
        let payload = match &body {
            Some(body) => meta.open_body(body).await?,
            None => None,
        };
        let item = payload.as_deref().and_then(|bytes| item(bytes, &event.place));
        Ok(Detail { event, body, payload, item })
    }
}

/// What stands at a place of a body, as it was written.
fn item(bytes: &[u8], place: &str) -> Option<String> {
    let mut numbers = place.split('.').map(str::parse::<usize>);
    let mut number = || numbers.next()?.ok();
    let (entry, change, index) = (number()?, number()?, number()?);
    let envelope = Envelope::read(bytes)?;
    let change = envelope.entries.get(entry)?.changes.get(change)?;
    change.written(index).map(|raw| raw.get().to_owned())
}
