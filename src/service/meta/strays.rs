//! What was told of a number before it was set up, of an app that organizations share: it was kept as nobody's, by the
//! installation. Once somebody has the number it is his, as if Meta told it now; it is proved anew, over the same bytes.

use bytes::Bytes;
use entity::{id::OrganizationId, meta::body};

use super::{Door, Meta};
use crate::{meta::Signature, service::Error};

/// Bodies that are looked at together, and in one request. There are so many of nobody's only where something is amiss.
const PAGE: u64 = 100;
const PAGES: usize = 50;

impl Meta {
    /// Gives an organization what the installation keeps of its numbers as nobody's.
    pub(super) async fn take_in(&self, organization: &OrganizationId) -> Result<(), Error> {
        let home = self.home().await?;
        if home == organization {
            return Ok(());
        }
        let mut before = None;
        for _ in 0..PAGES {
            let bodies = self.store.meta().strays(home, before.as_ref(), PAGE).await?;
            let Some(last) = bodies.last() else { break };
            before = Some(last.id.clone());
            for body in bodies {
                if Box::pin(self.is_taken_in(organization, &body)).await? {
                    self.store.meta().let_go_stray(&body, organization).await?;
                }
            }
        }
        Ok(())
    }

    /// Takes a body again, if it is about an account of the organization's that its signature fits.
    async fn is_taken_in(
        &self,
        organization: &OrganizationId,
        body: &body::Model,
    ) -> Result<bool, Error> {
        // What others' parts were taken out of is not what was signed.
        let Some(signature) = Signature::parse(body.signature.as_bytes()).filter(|_| !body.is_part)
        else {
            return Ok(false);
        };
        let Some(bytes) = self.store.meta().open_body(body).await?.map(Bytes::from) else {
            return Ok(false);
        };
        let names = self.names(&bytes).await?;
        let accounts = self.store.meta().named(&names.numbers, &names.wabas).await?;
        if !accounts.iter().any(|row| row.organization_id == *organization) {
            return Ok(false);
        }
        match self.receive(&Door::Shared, &signature, &bytes).await {
            Ok(owners) => Ok(owners.contains(organization)),
            // Of another app, or of accounts that take nothing.
            Err(Error::Meta(_)) => Ok(false),
            Err(error) => Err(error),
        }
    }
}
