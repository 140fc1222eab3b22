//! Meta tells something: verified over its bytes, taken apart by organization, and on disk before it is taken.
//!
//! Before the signature is known to be good nothing of a body is read that came to an account's own address. On a shared one
//! only ids are, and only to find the secrets to try.

use bytes::Bytes;
use entity::{
    UnixMillis,
    id::OrganizationId,
    meta::{account, state::MetaStatus},
};

use super::{
    Figures, Meta, NOT_FOUND, Open, Refusal,
    judge::{Fit, STOPPING},
    posted::Posted,
    routing::Signer,
    trial::{self, Tries, Which},
};
use crate::{
    meta::{Envelope, Names, Signature},
    service::Error,
};

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

/// Whose secret a body is signed with.
#[derive(Debug)]
enum Proof {
    /// That of nobody whom it may be about.
    Nobody,
    /// The installation's own, and that of no account that it names.
    Installation(Fit),
    /// That of these accounts' app. There is one at least.
    Accounts(Vec<Signer>, Fit),
}

impl Proof {
    /// By an account's secret. Where no account is left that has it, the body is nobody's: never the installation's.
    fn of(signers: Vec<Signer>, fit: Fit) -> Self {
        if signers.is_empty() { Self::Nobody } else { Self::Accounts(signers, fit) }
    }
}

/// What an account's events may be signed with: its app's secret, and the one before.
type Both = (Option<Open>, Option<Open>);

impl Meta {
    /// What is at an address.
    pub async fn door(&self, place: &Place) -> Result<Door, Error> {
        let Place::Own(key) = place else { return Ok(Door::Shared) };
        let is_key = key.len() <= 64 && key.bytes().all(|it| it.is_ascii_graphic());
        let found = if is_key { self.store.meta().at_path(key).await? } else { None };
        Ok(found.map_or(Door::Nobody, |row| Door::Own(Box::new(row))))
    }

    /// Takes what Meta has posted. When this returns it is on disk. Whose apps have signed it.
    pub async fn receive(
        &self,
        door: &Door,
        signature: &Signature,
        bytes: &Bytes,
    ) -> Result<Vec<OrganizationId>, Error> {
        let (signers, fit) = match self.proof(door, signature, bytes).await? {
            Proof::Nobody => {
                return Err(match door {
                    Door::Nobody => NOT_FOUND,
                    Door::Own(_) => Refusal::OwnSignature.into(),
                    Door::Shared => Refusal::Signature.into(),
                });
            }
            Proof::Installation(fit) => (Vec::new(), fit),
            Proof::Accounts(signers, fit) => (signers, fit),
        };
        let home = self.home().await?.clone();
        let mut owners: Vec<_> = signers.iter().map(|it| it.row.organization_id.clone()).collect();
        owners.sort_unstable();
        owners.dedup();
        if owners.is_empty() {
            // The installation's own app, and nobody's number.
            owners.push(home.clone());
        } else if !signers.iter().any(|it| it.is_open) {
            return Err(Refusal::Disabled.into());
        }
        let own = match door {
            Door::Own(row) => Some(row.id.clone()),
            Door::Shared | Door::Nobody => None,
        };
        let (bytes, now) = (bytes.clone(), self.now());
        let (length, signature, sha256) = (bytes.len(), *signature, fit.sha256);
        let posted = Posted { signature, bytes, sha256, now, signers, own, home };
        let kept = self.threads.read(length, move || posted.taken_apart()).await;
        let kept = kept.ok_or(STOPPING)?;
        if kept.is_empty() {
            return Err(Refusal::Disabled.into());
        }
        self.store.meta().keep(kept).await?;
        Figures::count(&self.figures.received);
        Ok(owners)
    }

    /// Whose secret a body is signed with. Of accounts: all those, of the ones that it may be about, whose app has signed it.
    async fn proof(
        &self,
        door: &Door,
        signature: &Signature,
        bytes: &Bytes,
    ) -> Result<Proof, Error> {
        // What is good when it is proved is good for all that follows.
        let now = self.now();
        let mut signers = Vec::new();
        let (candidates, fit) = match door {
            Door::Nobody => return Ok(Proof::Nobody),
            Door::Own(row) => {
                // Somebody else's app has no business here. So nothing is read of it before its own has signed it.
                let own = self.secrets_of(row, now).await?;
                let secrets = [&own.0, &own.1].into_iter().flatten().cloned().collect();
                let Some(fit) = self.judge.fitting(secrets, *signature, bytes).await? else {
                    return Ok(Proof::Nobody);
                };
                signers.extend(self.signer((**row).clone(), &own, &fit));
                (self.beside(row, &self.names(bytes).await?).await?, fit)
            }
            Door::Shared => {
                let names = self.names(bytes).await?;
                let accounts = self.store.meta().named(&names.numbers, &names.wabas).await?;
                let mut tries = Tries::of(bytes.len());
                for turn in trial::turns(&accounts, &names.numbers) {
                    if tries.takes(turn) {
                        let (current, previous) = self.secrets_of(turn.row, now).await?;
                        tries.add(match turn.which {
                            Which::Current => current,
                            Which::Previous => previous,
                        });
                    }
                }
                let Some(fit) = self.judge.fitting(tries.secrets, *signature, bytes).await? else {
                    let secrets = self.options.default_secret.clone().into_iter().collect();
                    let fit = self.judge.fitting(secrets, *signature, bytes).await?;
                    return Ok(fit.map_or(Proof::Nobody, Proof::Installation));
                };
                (accounts, fit)
            }
        };
        // It is proved: now it may cost something to find all whose app it is.
        for row in candidates {
            let secrets = self.secrets_of(&row, now).await?;
            signers.extend(self.signer(row, &secrets, &fit));
        }
        Ok(Proof::of(signers, fit))
    }

    /// An account as one whose app has signed a body, if it has.
    fn signer(&self, row: account::Model, (current, previous): &Both, fit: &Fit) -> Option<Signer> {
        let is_current = current.as_ref() == Some(&fit.secret);
        if !is_current && previous.as_ref() != Some(&fit.secret) {
            return None;
        }
        let is_open = match row.status {
            MetaStatus::Verified => true,
            MetaStatus::Unverified => !self.options.require_verified,
            MetaStatus::Disabled => false,
        };
        Some(Signer { row, is_current, is_open })
    }

    /// What a body names.
    async fn names(&self, bytes: &Bytes) -> Result<Names, Error> {
        let (length, bytes) = (bytes.len(), bytes.clone());
        let read = move || {
            let envelope = Envelope::read(&bytes);
            envelope.as_ref().map_or_else(|| Names::of_broken(&bytes), Names::of)
        };
        self.threads.read(length, read).await.ok_or(STOPPING)
    }

    /// The other accounts that a body names which came to an account's own address.
    async fn beside(
        &self,
        row: &account::Model,
        names: &Names,
    ) -> Result<Vec<account::Model>, Error> {
        if is_only_about(names, row) {
            return Ok(Vec::new());
        }
        let mut others = self.store.meta().named(&names.numbers, &names.wabas).await?;
        others.retain(|it| it.id != row.id);
        Ok(others)
    }

    /// What an account's events may be signed with at this time: its app's secret, and the one before for as long as that is good.
    async fn secrets_of(&self, row: &account::Model, now: UnixMillis) -> Result<Both, Error> {
        let secrets = self.store.meta().secrets(row).await?;
        let current = if row.app_secret.is_some() {
            secrets.app
        } else {
            self.options.default_secret.clone()
        };
        let is_kept = row.previous_until.is_some_and(|until| now < until);
        Ok((current, secrets.previous.filter(|_| is_kept)))
    }
}

/// Whether a body names nothing but what this account is of.
fn is_only_about(names: &Names, row: &account::Model) -> bool {
    names.numbers.iter().all(|it| *it == row.phone_number_id)
        && names.wabas.iter().all(|it| Some(it) == row.waba_id.as_ref())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_account_s_secret_that_no_account_has_any_more_is_nobody_s_and_not_the_installation_s() {
        let fit = Fit { secret: Open::from("ended".to_owned()), sha256: [0; 32] };
        assert!(matches!(Proof::of(Vec::new(), fit), Proof::Nobody));
    }
}
