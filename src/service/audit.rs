//! The audit log, for those who answer for an organization.

use entity::{audit, id::AuditId, state::Role};

use super::{Error, Principal};
use crate::store::{
    Store,
    page::{Page, Position},
};

pub use crate::store::audit::Filter;

/// A page of entries, the newest first.
#[derive(Clone, Debug)]
pub struct Listing {
    pub entries: Vec<audit::Model>,
    /// Where the next page begins; none after the last.
    pub next: Option<Position<AuditId>>,
}

/// Who changed what.
#[derive(Clone, Debug)]
pub struct Audit {
    store: Store,
}

impl Audit {
    pub const fn new(store: Store) -> Self {
        Self { store }
    }

    /// Lists the entries of the caller's organization.
    pub async fn list(
        &self,
        caller: &Principal,
        filter: &Filter,
        page: Page<AuditId>,
    ) -> Result<Listing, Error> {
        caller.require(Role::Admin)?;
        let organization = &caller.organization_id;
        let mut entries = self.store.audit().list(organization, filter, &page.one_more()).await?;
        let next = page.cut(&mut entries, |row| Position { at: row.at, id: row.id.clone() });
        Ok(Listing { entries, next })
    }
}
