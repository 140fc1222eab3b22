//! Meta tells something: verified over its bytes, taken apart by organization, and on disk before it is taken.
//!
//! Before the signature is known to be good nothing of a body is read that came to an account's own address. On a shared one
//! only ids are, and only to find the secrets to try.

use bytes::Bytes;
use entity::{
    id::OrganizationId,
    meta::{account, state::MetaEventState},
};

use super::{
    Figures, Meta, NOT_FOUND, Refusal,
    judge::STOPPING,
    posted::Posted,
    proof::{Proof, Proved},
};
use crate::{meta::Signature, service::Error};

/// Where a request came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// An address that many share.
    Shared,
    /// The address of one account, by its last part.
    Own(String),
}

/// What is there.
#[derive(Clone, Debug)]
pub enum Door {
    Shared,
    Own(Box<account::Model>),
    /// No account has the address.
    Nobody,
}

impl Meta {
    /// What is at an address.
    pub async fn door(&self, place: &Place) -> Result<Door, Error> {
        let Place::Own(key) = place else { return Ok(Door::Shared) };
        let is_key = key.len() <= 64 && key.bytes().all(|it| it.is_ascii_graphic());
        let found = if is_key { self.store.meta().at_path(key).await? } else { None };
        Ok(found.map_or(Door::Nobody, |row| Door::Own(Box::new(row))))
    }

    /// Takes what Meta has posted. When this returns it is on disk. Whose apps have signed it.
    ///
    /// It is taken if one of the accounts that it is about takes events: Meta is answered for the whole of it, and never tells
    /// the rest again. So what is another's who takes none is kept as refused, for him to have it carried out later.
    pub async fn receive(
        &self,
        door: &Door,
        signature: &Signature,
        bytes: &Bytes,
    ) -> Result<Vec<OrganizationId>, Error> {
        let Proved { signers, fit, app } = match self.proof(door, signature, bytes).await? {
            Proof::Nobody => {
                return Err(match door {
                    Door::Nobody => NOT_FOUND,
                    Door::Own(_) => Refusal::OwnSignature.into(),
                    Door::Shared => Refusal::Signature.into(),
                });
            }
            Proof::By(proved) => proved,
        };
        let home = self.home().await?.clone();
        let mut owners: Vec<_> = signers.iter().map(|it| it.row.organization_id.clone()).collect();
        owners.sort_unstable();
        owners.dedup();
        let is_closed = if owners.is_empty() {
            // Nobody's number, of an app whose owner is known or not.
            owners.push(app.as_ref().map_or_else(|| home.clone(), |app| app.organization.clone()));
            app.as_ref().is_some_and(|app| app.closed.is_some())
        } else {
            signers.iter().all(|it| it.closed.is_some())
        };
        if is_closed {
            return Err(Refusal::Disabled.into());
        }
        let own = match door {
            Door::Own(row) => Some(row.id.clone()),
            Door::Shared | Door::Nobody => None,
        };
        let (bytes, now) = (bytes.clone(), self.now());
        let (length, signature, sha256) = (bytes.len(), *signature, fit.sha256);
        let posted = Posted { signature, bytes, sha256, now, signers, own, app, home };
        let kept = self.threads.read(length, move || posted.taken_apart()).await;
        let kept = kept.ok_or(STOPPING)?;
        let mut events = kept.iter().flat_map(|it| &it.events);
        if !kept.is_empty() && events.all(|it| it.state == MetaEventState::Failed) {
            // Meta is to tell it again, as long as it does.
            return Err(Refusal::Disabled.into());
        }
        // Whoever has proved nothing is no crowd, and keeps nobody from anything.
        let posting = self.crowd.join();
        self.store.meta().keep(kept).await?;
        drop(posting);
        Figures::count(&self.figures.received);
        Ok(owners)
    }
}
