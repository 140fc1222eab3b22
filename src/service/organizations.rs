//! Organizations: the tenants, made and changed by the operator.

use entity::{id::OrganizationId, organization, state::Role};

use super::{Error, Principal, Thing, created::Created, text};
use crate::store::{
    Store,
    page::{Page, Position},
};

pub use crate::store::organizations::{Changes, Filter, NewOrganization};

/// The longest name, in characters.
pub const LONGEST_NAME: usize = 128;

/// The highest number of sessions that an organization can be held to.
pub const MOST_SESSIONS: i64 = 1_000_000;

/// A page of organizations, the oldest first.
#[derive(Clone, Debug)]
pub struct Listing {
    pub organizations: Vec<organization::Model>,
    /// Where the next page begins; none after the last.
    pub next: Option<Position<OrganizationId>>,
}

/// Organizations, as far as a caller may see and change them.
#[derive(Clone, Debug)]
pub struct Organizations {
    store: Store,
}

impl Organizations {
    pub const fn new(store: Store) -> Self {
        Self { store }
    }

    /// One organization: the caller's own, or any for the operator.
    pub async fn find(
        &self,
        caller: &Principal,
        id: &OrganizationId,
    ) -> Result<organization::Model, Error> {
        if caller.role < Role::Operator && *id != caller.organization_id {
            return Err(NOT_FOUND);
        }
        self.store.organizations().find(id).await?.ok_or(NOT_FOUND)
    }

    /// Lists organizations.
    pub async fn list(
        &self,
        caller: &Principal,
        filter: &Filter,
        page: Page<OrganizationId>,
    ) -> Result<Listing, Error> {
        caller.require(Role::Operator)?;
        let mut organizations = self.store.organizations().list(filter, &page.one_more()).await?;
        let next =
            page.cut(&mut organizations, |row| Position { at: row.created_at, id: row.id.clone() });
        Ok(Listing { organizations, next })
    }

    /// Makes an organization.
    pub async fn create(
        &self,
        caller: &Principal,
        new: NewOrganization,
        key: Option<String>,
    ) -> Result<Created<organization::Model>, Error> {
        caller.require(Role::Operator)?;
        let new = NewOrganization { name: name(&new.name)?, ..new };
        let sessions = new.max_sessions.map(|number| number.to_string()).unwrap_or_default();
        let key = key.map(|key| super::created::key(key, &["organization", &new.name, &sessions]));
        let organizations = self.store.organizations();
        organizations.create(&caller.organization_id, new, key, caller.by()).await?.try_into()
    }

    /// Changes an organization.
    pub async fn change(
        &self,
        caller: &Principal,
        id: &OrganizationId,
        changes: Changes,
    ) -> Result<organization::Model, Error> {
        caller.require(Role::Operator)?;
        let name = changes.name.as_deref().map(name).transpose()?;
        let changes = Changes { name, ..changes };
        self.store.organizations().change(id, changes, caller.by()).await?.ok_or(NOT_FOUND)
    }

    /// The caller, acting in another organization, as only the operator may. It is named by its id
    /// or by its number.
    pub async fn act_in(&self, mut caller: Principal, named: &str) -> Result<Principal, Error> {
        let organizations = self.store.organizations();
        let row = match (named.parse::<OrganizationId>(), named.parse::<i64>()) {
            (Ok(id), _) => organizations.find(&id).await?,
            (_, Ok(number)) => organizations.find_by_client_id(number).await?,
            _ => None,
        };
        let id = row.ok_or(NOT_FOUND)?.id;
        if id != caller.organization_id {
            if caller.role < Role::Operator {
                return Err(NOT_FOUND);
            }
            caller.organization_id = id;
        }
        Ok(caller)
    }
}

const NOT_FOUND: Error = Error::NotFound(Thing::Organization);

fn name(name: &str) -> Result<String, Error> {
    text::label("name", name, 1..=LONGEST_NAME).map_err(|error| Error::Invalid(vec![error]))
}
