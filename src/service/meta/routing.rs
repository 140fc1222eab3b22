//! Whose each change of a body is. Pure.
//!
//! What names nobody's number is an organization's only where nobody else's it can be: whose business account it is among
//! those whose app has signed, or whose alone the app is. Everything else is the installation's: its app, and one that several
//! organizations share, tell of the numbers of all of them.

use std::collections::BTreeMap;

use entity::{
    id::{MetaAccountId, OrganizationId},
    meta::account,
};

use crate::{
    meta::{Change, Entry, Envelope},
    store::meta::Closed,
};

/// An account whose app has signed the body.
#[derive(Clone, Debug)]
pub(super) struct Signer {
    pub(super) row: account::Model,
    /// By its present secret, and not by the one before.
    pub(super) is_current: bool,
    /// Why it takes no events, if it takes none.
    pub(super) closed: Option<Closed>,
}

impl Signer {
    /// Whether its organization has the number only since then, and another had it before. Meta tells whole seconds: what
    /// was within the second of the claim is taken for later.
    fn is_after(&self, entry: &Entry<'_>, change: &Change<'_>) -> bool {
        let Some(claimed_at) = self.row.claimed_at else { return false };
        change.newest(entry).is_some_and(|at| at.as_secs() < claimed_at.as_secs())
    }
}

/// What is known of a change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Route {
    /// Of which entry, and which of it.
    pub(super) place: (usize, usize),
    pub(super) account: Option<MetaAccountId>,
    pub(super) is_unrouted: bool,
    /// It is an account's that takes nothing. It is kept, as Meta tells nobody twice what was taken with the rest of its body.
    pub(super) refused: Option<Closed>,
}

/// Whose a change is.
#[derive(Clone, Debug)]
struct Owner {
    organization: OrganizationId,
    account: Option<MetaAccountId>,
    is_unrouted: bool,
    refused: Option<Closed>,
}

impl Owner {
    /// An account's.
    fn of(signer: &Signer) -> Self {
        Self {
            organization: signer.row.organization_id.clone(),
            account: Some(signer.row.id.clone()),
            is_unrouted: false,
            refused: signer.closed,
        }
    }

    /// An organization's, and nobody's number there.
    const fn stray(organization: OrganizationId, refused: Option<Closed>) -> Self {
        Self { organization, account: None, is_unrouted: true, refused }
    }
}

/// The one organization whose the app is that has signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct AppOwner {
    pub(super) organization: OrganizationId,
    /// Why no account of the app takes events, if none does.
    pub(super) closed: Option<Closed>,
}

/// Who signed, and at whose own address it came in.
#[derive(Clone, Debug)]
pub(super) struct Routing<'a> {
    pub(super) signers: &'a [Signer],
    pub(super) own: Option<&'a MetaAccountId>,
    /// None of the installation's own app, and of one that several organizations have.
    pub(super) app: Option<&'a AppOwner>,
    /// The organization that the installation began with.
    pub(super) home: &'a OrganizationId,
}

impl Routing<'_> {
    /// The changes of each organization, in their order.
    pub(super) fn routes(&self, envelope: &Envelope<'_>) -> BTreeMap<OrganizationId, Vec<Route>> {
        let mut routes = BTreeMap::<_, Vec<Route>>::new();
        for (place, entry, change) in envelope.changes() {
            for owner in self.owners(entry, change) {
                let Owner { organization, account, is_unrouted, refused } = owner;
                let route = Route { place, account, is_unrouted, refused };
                routes.entry(organization).or_default().push(route);
            }
        }
        routes
    }

    fn owners(&self, entry: &Entry<'_>, change: &Change<'_>) -> Vec<Owner> {
        let by_organization = self.of_waba(entry.waba(change));
        if let Some(number) = &change.number {
            let of_number = self.signers.iter().filter(|it| it.row.phone_number_id == *number);
            if let Some(signer) = of_number.min_by_key(|it| !it.is_current) {
                // Meta goes on telling for a week what it was not answered for, to whoever has the number by then.
                return vec![if signer.is_after(entry, change) {
                    Owner::stray(self.home.clone(), None)
                } else {
                    Owner::of(signer)
                }];
            }
            let mut those = by_organization.into_iter();
            return vec![match (those.next(), those.next()) {
                (Some((organization, signers)), None) => {
                    Owner::stray(organization.clone(), closed(&signers))
                }
                _ => self.of_nobody(),
            }];
        }
        if by_organization.is_empty() {
            let own = self.own_signer();
            return vec![own.map_or_else(|| self.of_nobody(), Owner::of)];
        }
        let all = by_organization.into_iter().map(|(organization, signers)| Owner {
            organization: organization.clone(),
            account: only(&signers).map(|it| it.row.id.clone()),
            is_unrouted: false,
            refused: closed(&signers),
        });
        all.collect()
    }

    /// The signers whose business account this is, by organization.
    fn of_waba(&self, waba: Option<&str>) -> BTreeMap<&OrganizationId, Vec<&Signer>> {
        let mut all = BTreeMap::<_, Vec<_>>::new();
        let those = self.signers.iter().filter(|it| it.row.waba_id.as_deref() == waba);
        for signer in those.filter(|_| waba.is_some()) {
            all.entry(&signer.row.organization_id).or_default().push(signer);
        }
        all
    }

    /// Whose it is that nothing in it says.
    fn of_nobody(&self) -> Owner {
        match self.app {
            Some(app) => Owner::stray(app.organization.clone(), app.closed),
            None => Owner::stray(self.home.clone(), None),
        }
    }

    /// Whose a body is of which nothing can be read.
    pub(super) fn owner_of_broken(&self) -> (OrganizationId, Option<Closed>) {
        let Owner { organization, refused, .. } = self.of_nobody();
        (organization, refused)
    }

    /// Whose own address it came to, if that is told of nobody else's.
    fn own_signer(&self) -> Option<&Signer> {
        let organization = &self.app?.organization;
        let own = self.signers.iter().find(|it| Some(&it.row.id) == self.own);
        own.filter(|it| it.row.organization_id == *organization)
    }
}

/// The account that an event about the whole business account is filed under: the only one that takes events, or the only
/// one there is. Of several it is about none in particular, so that whichever takes events later is told of it when it is
/// asked for.
fn only<'a>(signers: &[&'a Signer]) -> Option<&'a Signer> {
    let refused = closed(signers);
    let mut those = signers.iter().filter(|it| refused.is_some() || it.closed.is_none());
    let first = those.next()?;
    those.next().is_none().then_some(*first)
}

/// Why none of them takes events, if none does.
fn closed(signers: &[&Signer]) -> Option<Closed> {
    let first = signers.first()?.closed;
    first.filter(|_| signers.iter().all(|it| it.closed.is_some()))
}
