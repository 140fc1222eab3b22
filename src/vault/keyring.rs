//! The keys that are open in this process.

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering},
    },
};

use entity::id::OrganizationId;

use super::{
    MasterKey, MasterKeyId,
    seal::{Sealer, random_secret},
    source::Source,
};

/// A data key as the database keeps it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wrapped {
    pub organization: OrganizationId,
    pub number: u32,
    /// Under the master key.
    pub key: Vec<u8>,
}

/// The master key is not the one that data keys are wrapped with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the organization's data key does not open under this master key")]
pub struct WrongKey;

/// The master key, and the data keys it has opened. One per process and database.
pub struct Vault {
    master: RwLock<MasterKey>,
    /// Where the master key came from: it is looked at again when it was rotated meanwhile.
    source: Option<Source>,
    sealers: RwLock<HashMap<OrganizationId, Sealer>>,
    /// Values that did not open since the start.
    unopened: Arc<AtomicU64>,
}

impl Vault {
    /// With this master key, which came from `source`; with none it stays as it is.
    pub fn new(master: MasterKey, source: Option<Source>) -> Self {
        Self {
            master: RwLock::new(master),
            source,
            sealers: RwLock::default(),
            unopened: Arc::default(),
        }
    }

    /// How many values that should have opened did not, since the start.
    pub fn unopened(&self) -> u64 {
        self.unopened.load(Ordering::Relaxed)
    }

    /// Which master key it has.
    pub fn master_id(&self) -> MasterKeyId {
        self.master.read().unwrap_or_else(PoisonError::into_inner).id()
    }

    fn master(&self) -> MasterKey {
        self.master.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Looks for another master key where this one came from. Whether there was one.
    ///
    /// The database has what `wagate rekey` has wrapped anew; this process has the old key until it
    /// needs a data key that it has not opened yet.
    pub fn refresh(&self) -> bool {
        let Some(Ok(Some(found))) = self.source.as_ref().map(Source::read) else { return false };
        let mut master = self.master.write().unwrap_or_else(PoisonError::into_inner);
        let changed = *master != found;
        *master = found;
        changed
    }

    /// The organization's sealer, if it was opened before.
    pub fn opened(&self, organization: &OrganizationId) -> Option<Sealer> {
        let sealers = self.sealers.read().unwrap_or_else(PoisonError::into_inner);
        sealers.get(organization).cloned()
    }

    /// Keeps a sealer. Its keys must be in the database by now, and stay there.
    pub fn remember(&self, sealer: Sealer) {
        let mut sealers = self.sealers.write().unwrap_or_else(PoisonError::into_inner);
        sealers.insert(sealer.organization().clone(), sealer);
    }

    /// Opens an organization's data keys. None if there are none.
    pub fn open(
        &self,
        organization: &OrganizationId,
        keys: &[Wrapped],
    ) -> Result<Option<Sealer>, WrongKey> {
        let open = || open_with(&self.master(), organization, keys, &self.unopened);
        open().or_else(|wrong| if self.refresh() { open() } else { Err(wrong) })
    }

    /// Makes the organization's first data key.
    pub fn first_data_key(&self, organization: &OrganizationId) -> Wrapped {
        let number = 1;
        let key = self.master().wrap(organization, number, &random_secret());
        Wrapped { organization: organization.clone(), number, key }
    }
}

fn open_with(
    master: &MasterKey,
    organization: &OrganizationId,
    keys: &[Wrapped],
    unopened: &Arc<AtomicU64>,
) -> Result<Option<Sealer>, WrongKey> {
    let mut by_number = BTreeMap::new();
    for Wrapped { number, key, .. } in keys {
        let opened = master.unwrap(organization, *number, key).map_err(|_| WrongKey)?;
        by_number.insert(*number, opened);
    }
    Ok(Sealer::new(organization.clone(), by_number, unopened.clone()))
}

impl MasterKey {
    /// Whether all of these data keys open.
    pub fn opens(&self, keys: &[Wrapped]) -> bool {
        keys.iter()
            .all(|wrapped| self.unwrap(&wrapped.organization, wrapped.number, &wrapped.key).is_ok())
    }

    /// Wraps a data key with `new` instead.
    pub fn rewrap(&self, new: &Self, wrapped: &Wrapped) -> Result<Wrapped, WrongKey> {
        let Wrapped { organization, number, key } = wrapped;
        let opened = self.unwrap(organization, *number, key).map_err(|_| WrongKey)?;
        Ok(Wrapped { key: new.wrap(organization, *number, &opened), ..wrapped.clone() })
    }
}

impl fmt::Debug for Vault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Vault").field("master", &self.master()).finish_non_exhaustive()
    }
}
