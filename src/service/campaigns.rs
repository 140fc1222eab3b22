//! Campaigns: made, and found again. What they send comes with another version. `super::audience` has to whom.

use std::collections::HashMap;

use entity::{
    campaign,
    id::{CampaignId, OrganizationId, SessionId, SessionKey},
    state::Role,
};

use super::{
    Conflict, Error, Principal, Thing,
    counting::UnderWay,
    created,
    created::Created as Outcome,
    page::{Page, Position},
    text,
};
use crate::store::{
    Store,
    campaigns::{Created, Filter, NewCampaign, SetSession},
};

/// The longest name, in characters.
pub const LONGEST_NAME: usize = 128;

/// A campaign, with the name of its session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Campaign {
    pub row: campaign::Model,
    pub session_id: Option<SessionId>,
}

/// A page of campaigns, the oldest first.
#[derive(Clone, Debug)]
pub struct Listing {
    pub campaigns: Vec<Campaign>,
    /// Where the next page begins; none after the last.
    pub next: Option<Position<CampaignId>>,
}

/// Campaigns, as far as a caller may see and make them.
#[derive(Clone, Debug)]
pub struct Campaigns {
    pub(super) store: Store,
    pub(super) counting: UnderWay<OrganizationId>,
}

impl Campaigns {
    pub fn new(store: Store) -> Self {
        Self { store, counting: UnderWay::default() }
    }

    /// Makes a campaign, once for each key.
    pub async fn create(
        &self,
        caller: &Principal,
        name: &str,
        session_id: Option<SessionId>,
        key: Option<String>,
    ) -> Result<Outcome<Campaign>, Error> {
        caller.require(Role::Manager)?;
        let name = text::label("name", name, 1..=LONGEST_NAME)
            .map_err(|error| Error::Invalid(vec![error]))?;
        let session = session_id.as_ref().map_or("", SessionId::as_str);
        let key = key.map(|key| created::key(key, &["campaign", &name, session]));
        let organization = &caller.organization_id;
        let new = NewCampaign { name, session_id };
        match self.store.campaigns().create(organization, new, key, caller.by()).await? {
            Created::Made(made) => {
                let Outcome { made, replayed } = Outcome::try_from(made)?;
                Ok(Outcome { made: self.show(organization, made).await?, replayed })
            }
            Created::NoSession => Err(Error::NotFound(Thing::Session)),
            Created::Migrated(heir) => self.migrated(organization, heir).await,
        }
    }

    /// Says from which session a campaign is sent: once, as its messages are that session's.
    pub async fn set_session(
        &self,
        caller: &Principal,
        id: &CampaignId,
        session_id: SessionId,
    ) -> Result<Campaign, Error> {
        caller.require(Role::Manager)?;
        let organization = &caller.organization_id;
        let campaigns = self.store.campaigns();
        match campaigns.set_session(organization, id, session_id, caller.by()).await? {
            SetSession::Done(row) => self.show(organization, row).await,
            SetSession::NoCampaign => Err(Error::NotFound(Thing::Campaign)),
            SetSession::NoSession => Err(Error::NotFound(Thing::Session)),
            SetSession::Migrated(heir) => self.migrated(organization, heir).await,
            SetSession::IsSet => Err(Error::Conflict(Conflict::CampaignHasSession)),
        }
    }

    async fn migrated<T>(
        &self,
        organization: &OrganizationId,
        heir: SessionKey,
    ) -> Result<T, Error> {
        let names = self.store.sessions().names(organization, vec![heir]).await?;
        Err(Error::Migrated { to: names.into_values().next() })
    }

    /// One campaign.
    pub async fn find(&self, caller: &Principal, id: &CampaignId) -> Result<Campaign, Error> {
        caller.require(Role::Viewer)?;
        let found = self.store.campaigns().find(&caller.organization_id, id).await?;
        let row = found.ok_or(Error::NotFound(Thing::Campaign))?;
        self.show(&caller.organization_id, row).await
    }

    /// Lists campaigns, the oldest first: those of one session if it is named.
    pub async fn list(
        &self,
        caller: &Principal,
        name: Option<String>,
        session: Option<&SessionId>,
        page: Page<CampaignId>,
    ) -> Result<Listing, Error> {
        caller.require(Role::Viewer)?;
        let organization = &caller.organization_id;
        let session_key = match session {
            None => None,
            Some(id) => Some(super::sessions::find(&self.store, caller, id).await?.id),
        };
        let filter = Filter { name, session_key };
        let mut rows = self.store.campaigns().list(organization, &filter, &page.one_more()).await?;
        let next = page.cut(&mut rows, |row| Position { at: row.created_at, id: row.id.clone() });
        let mut keys: Vec<_> = rows.iter().filter_map(|row| row.session_key.clone()).collect();
        keys.sort_unstable();
        keys.dedup();
        let names = self.names(organization, keys).await?;
        let campaigns = rows.into_iter().map(|row| named(row, &names)).collect();
        Ok(Listing { campaigns, next })
    }

    async fn show(
        &self,
        organization: &OrganizationId,
        row: campaign::Model,
    ) -> Result<Campaign, Error> {
        let names = self.names(organization, row.session_key.iter().cloned().collect()).await?;
        Ok(named(row, &names))
    }

    async fn names(
        &self,
        organization: &OrganizationId,
        keys: Vec<SessionKey>,
    ) -> Result<HashMap<SessionKey, SessionId>, Error> {
        if keys.is_empty() {
            return Ok(HashMap::new());
        }
        Ok(self.store.sessions().names(organization, keys).await?)
    }
}

fn named(row: campaign::Model, names: &HashMap<SessionKey, SessionId>) -> Campaign {
    let session_id = row.session_key.as_ref().and_then(|key| names.get(key)).cloned();
    Campaign { row, session_id }
}
