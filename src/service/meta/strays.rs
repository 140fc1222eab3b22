//! What was told of a number before it was set up, of an app that organizations share: it was kept as nobody's, by the
//! installation. Once somebody has the number it is his, as if Meta told it now; it is proved anew, over the same bytes.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, PoisonError},
};

use bytes::Bytes;
use entity::{id::OrganizationId, meta::body};

use super::{Door, Meta};
use crate::{meta::Signature, service::Error};

/// Bodies that are in memory together, of up to 4 MiB each, and pages of them in one request. Whoever has more asks again.
const PAGE: u64 = 10;
const PAGES: usize = 100;

/// What became of a body.
enum Taken {
    In,
    /// It is about the organization's, and not its own for all that.
    Left,
    /// It is not about the organization's.
    Other,
}

/// The organizations that are given theirs just now. Clones share it.
#[derive(Clone, Debug, Default)]
pub(super) struct InHand(Arc<Mutex<BTreeSet<OrganizationId>>>);

/// Until it is dropped, nobody else does it for this organization.
struct Held(InHand, OrganizationId);

impl InHand {
    /// None if somebody does it already.
    fn hold(&self, organization: &OrganizationId) -> Option<Held> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_first = all.insert(organization.clone());
        is_first.then(|| Held(self.clone(), organization.clone()))
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.1);
    }
}

impl Meta {
    /// Gives an organization what the installation keeps of its numbers as nobody's. One request at a time looks for it.
    pub(super) async fn take_in(&self, organization: &OrganizationId) -> Result<(), Error> {
        let home = self.home().await?;
        if home == organization {
            return Ok(());
        }
        let names = self.store.meta().own_names(organization).await?;
        let Some(_held) = self.in_hand.hold(organization) else { return Ok(()) };
        let (mut before, mut left) = (None, 0_usize);
        for _ in 0..PAGES {
            let bodies = self.store.meta().strays(home, &names, before.as_ref(), PAGE).await?;
            let Some(last) = bodies.last() else { break };
            before = Some(last.id.clone());
            for body in bodies {
                let is_left = match Box::pin(self.take_one_in(organization, &body)).await? {
                    Taken::In => self.store.meta().let_go_stray(&body, organization).await? == 0,
                    Taken::Left => true,
                    Taken::Other => false,
                };
                left += usize::from(is_left);
            }
        }
        if left > 0 {
            tracing::warn!(
                organization.id = %organization, bodies = left,
                "Something that Meta told of an organization's numbers stays with the installation"
            );
        }
        Ok(())
    }

    /// Takes a body again, if it is about an account of the organization's that its signature fits.
    async fn take_one_in(
        &self,
        organization: &OrganizationId,
        body: &body::Model,
    ) -> Result<Taken, Error> {
        let Some(bytes) = self.store.meta().open_body(body).await?.map(Bytes::from) else {
            return Ok(Taken::Other);
        };
        let names = self.names(&bytes).await?;
        let accounts = self.store.meta().named(&names.numbers, &names.wabas).await?;
        if !accounts.iter().any(|row| row.organization_id == *organization) {
            return Ok(Taken::Other);
        }
        // What others' parts were taken out of is not what was signed.
        let Some(signature) = Signature::parse(body.signature.as_bytes()).filter(|_| !body.is_part)
        else {
            return Ok(Taken::Left);
        };
        match self.receive(&Door::Shared, &signature, &bytes).await {
            Ok(owners) if owners.contains(organization) => Ok(Taken::In),
            // Of another app, or of accounts that take nothing.
            Ok(_) | Err(Error::Meta(_)) => Ok(Taken::Left),
            Err(error) => Err(error),
        }
    }
}
