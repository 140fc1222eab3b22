//! Whose secret a body is signed with.
//!
//! Nobody has proved anything yet, so what a stranger's body costs is bounded (`trial.rs`), and what he is answered says nothing of
//! which secrets there are.

use std::collections::BTreeSet;

use bytes::Bytes;
use entity::{
    UnixMillis,
    meta::{account, state::MetaStatus},
};

use super::{
    Meta, Open,
    ingest::Door,
    judge::{Fit, STOPPING},
    routing::{AppOwner, Signer},
    trial::{self, Tries, Turn, Which},
};
use crate::{
    meta::{Envelope, Names, Signature},
    service::Error,
    store::meta::Closed,
};

/// Whose secret a body is signed with.
#[derive(Debug)]
pub(super) enum Proof {
    /// That of nobody whom it may be about.
    Nobody,
    By(Proved),
}

/// A body that is signed.
#[derive(Debug)]
pub(super) struct Proved {
    /// The accounts, of those that it may be about, whose app has signed it. None where it names nobody's number and
    /// business account.
    pub(super) signers: Vec<Signer>,
    pub(super) fit: Fit,
    /// Whose alone the app is, where it matters: where something in the body is of no signer.
    pub(super) app: Option<AppOwner>,
}

impl Proof {
    /// By an account's secret. Where no account is left that has it, the body is nobody's: never the installation's.
    fn of(signers: Vec<Signer>, fit: Fit, app: Option<AppOwner>) -> Self {
        if signers.is_empty() { Self::Nobody } else { Self::By(Proved { signers, fit, app }) }
    }
}

/// What an account's events may be signed with: its app's secret, and the one before.
type Both = (Option<Open>, Option<Open>);

/// What a body names.
#[derive(Debug)]
struct Named {
    names: Names,
    /// Each change names something, and there is one at least.
    is_whole: bool,
}

impl Meta {
    /// Whose secret a body is signed with. Of accounts: all those, of the ones that it may be about, whose app has signed it.
    pub(super) async fn proof(
        &self,
        door: &Door,
        signature: &Signature,
        bytes: &Bytes,
    ) -> Result<Proof, Error> {
        // What is good when it is proved is good for all that follows.
        let now = self.now();
        let mut signers = Vec::new();
        let (candidates, fit, named) = match door {
            Door::Nobody => return Ok(Proof::Nobody),
            Door::Own(row) => {
                // Somebody else's app has no business here. So nothing is read of it before its own has signed it.
                let own = self.secrets_of(row, now).await?;
                let secrets = [&own.0, &own.1].into_iter().flatten().cloned().collect();
                let Some(fit) = self.judge.fitting(secrets, *signature, bytes).await? else {
                    return Ok(Proof::Nobody);
                };
                signers.extend(self.signer((**row).clone(), &own, &fit));
                let named = self.named(bytes).await?;
                (self.beside(row, &named.names).await?, fit, named)
            }
            Door::Shared => {
                let named = self.named(bytes).await?;
                let Names { numbers, wabas, .. } = &named.names;
                let accounts = self.store.meta().named(numbers, wabas).await?;
                let mut tries = Tries::of(bytes.len());
                for turn in trial::turns(&accounts, numbers) {
                    if tries.takes(turn) {
                        let secret = self.secret_of(turn, now).await?;
                        tries.add(secret);
                    }
                }
                let secrets = tries.secrets.clone();
                let Some(fit) = self.judge.fitting(secrets, *signature, bytes).await? else {
                    return self.stray(tries, now, signature, bytes).await;
                };
                (accounts, fit, named)
            }
        };
        // It is proved: now it may cost something to find all whose app it is.
        for row in candidates {
            let secrets = self.secrets_of(&row, now).await?;
            signers.extend(self.signer(row, &secrets, &fit));
        }
        let app = if named.is_all_of(&signers) {
            None
        } else {
            let rows: Vec<_> = signers.iter().map(|it| &it.row).collect();
            self.owner_of_app(&fit, &rows).await?
        };
        Ok(Proof::of(signers, fit, app))
    }

    /// Whose a body is, on an address that many share, that is signed by none of those that it names: the installation's own app,
    /// or some app whose numbers and business accounts are not all set up here. Only so many are tried as there is left for it.
    async fn stray(
        &self,
        mut tries: Tries,
        now: UnixMillis,
        signature: &Signature,
        bytes: &Bytes,
    ) -> Result<Proof, Error> {
        let default: Vec<_> = self.options.default_secret.clone().into_iter().collect();
        if let Some(fit) = self.judge.fitting(default, *signature, bytes).await? {
            return Ok(Proof::By(Proved { signers: Vec::new(), fit, app: None }));
        }
        let apps = self.apps.rows(&self.store).await?;
        let before = tries.secrets.len();
        for turn in trial::turns(&apps, &BTreeSet::new()) {
            if tries.takes_stray() {
                let secret = self.secret_of(turn, now).await?;
                tries.add(secret);
            }
        }
        let secrets = tries.secrets.split_off(before);
        let Some(fit) = self.judge.fitting(secrets, *signature, bytes).await? else {
            return Ok(Proof::Nobody);
        };
        for row in apps.iter() {
            // As it is now: those are some seconds old.
            let row = self.store.meta().account(&row.organization_id, &row.id).await?;
            let Some(row) = row else { continue };
            let secrets = self.secrets_of(&row, now).await?;
            if let Some(signer) = self.signer(row, &secrets, &fit) {
                let app = self.owner_of_app(&fit, &[&signer.row]).await?;
                return Ok(Proof::By(Proved { signers: Vec::new(), fit, app }));
            }
        }
        Ok(Proof::Nobody)
    }

    /// Whose alone the app is that has signed. `rows` are accounts of it. Whoever has its secret now counts, and whoever has the
    /// secret that these have now, if it was signed with the one before. The installation's app is everybody's.
    async fn owner_of_app(
        &self,
        fit: &Fit,
        rows: &[&account::Model],
    ) -> Result<Option<AppOwner>, Error> {
        if self.options.default_secret.as_ref() == Some(&fit.secret) {
            return Ok(None);
        }
        let mut prints = vec![self.app_print(Some(&fit.secret)).await?];
        prints.extend(rows.iter().map(|row| row.app_print.clone()));
        prints.sort_unstable();
        prints.dedup();
        let all = self.store.meta().owners_of_apps(prints).await?;
        let Some((first, _)) = all.first() else { return Ok(None) };
        if all.iter().any(|(owner, _)| owner != first) {
            return Ok(None);
        }
        let is_open = all.iter().any(|(_, status)| self.closed(*status).is_none());
        let closed = all.iter().find_map(|(_, status)| self.closed(*status));
        let closed = closed.filter(|_| !is_open);
        Ok(Some(AppOwner { organization: first.clone(), closed }))
    }

    /// Why an account of this status takes no events, if it takes none.
    fn closed(&self, status: MetaStatus) -> Option<Closed> {
        match status {
            MetaStatus::Verified => None,
            MetaStatus::Unverified => self.options.require_verified.then_some(Closed::Unverified),
            MetaStatus::Disabled => Some(Closed::Disabled),
        }
    }

    /// One of an account's secrets.
    async fn secret_of(&self, turn: Turn<'_>, now: UnixMillis) -> Result<Option<Open>, Error> {
        let (current, previous) = self.secrets_of(turn.row, now).await?;
        Ok(match turn.which {
            Which::Current => current,
            Which::Previous => previous,
        })
    }

    /// An account as one whose app has signed a body, if it has.
    fn signer(&self, row: account::Model, (current, previous): &Both, fit: &Fit) -> Option<Signer> {
        let is_current = current.as_ref() == Some(&fit.secret);
        if !is_current && previous.as_ref() != Some(&fit.secret) {
            return None;
        }
        let closed = self.closed(row.status);
        Some(Signer { row, is_current, closed })
    }

    /// The ids that a body names.
    pub(super) async fn names(&self, bytes: &Bytes) -> Result<Names, Error> {
        Ok(self.named(bytes).await?.names)
    }

    /// What a body names.
    async fn named(&self, bytes: &Bytes) -> Result<Named, Error> {
        let (length, bytes) = (bytes.len(), bytes.clone());
        let read = move || match Envelope::read(&bytes) {
            None => Named { names: Names::of_broken(&bytes), is_whole: false },
            Some(envelope) => {
                let mut changes = envelope.changes().peekable();
                let is_whole = changes.peek().is_some()
                    && changes.all(|(_, entry, change)| {
                        change.number.is_some() || entry.waba(change).is_some()
                    });
                Named { names: Names::of(&envelope), is_whole }
            }
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

impl Named {
    /// Whether every change is of a number of these accounts, or, where it names none, of a business account of theirs.
    fn is_all_of(&self, signers: &[Signer]) -> bool {
        let has = |number: &String| signers.iter().any(|it| it.row.phone_number_id == *number);
        let of = |waba: &String| signers.iter().any(|it| it.row.waba_id.as_ref() == Some(waba));
        self.is_whole && self.names.numbers.iter().all(has) && self.names.wabas.iter().all(of)
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
        assert!(matches!(Proof::of(Vec::new(), fit, None), Proof::Nobody));
    }
}
