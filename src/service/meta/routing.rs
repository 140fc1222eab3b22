//! Whose each change of a body is. Pure.

use std::collections::BTreeMap;

use entity::{
    id::{MetaAccountId, OrganizationId},
    meta::account,
};

use crate::meta::{Change, Entry, Envelope};

/// An account whose app has signed the body.
#[derive(Clone, Debug)]
pub(super) struct Signer {
    pub(super) row: account::Model,
    /// By its present secret, and not by the one before.
    pub(super) is_current: bool,
    /// It takes events.
    pub(super) is_open: bool,
}

/// What is known of a change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Route {
    /// Of which entry, and which of it.
    pub(super) place: (usize, usize),
    pub(super) account: Option<MetaAccountId>,
    pub(super) is_unrouted: bool,
}

/// Who signed, and at whose own address it came in.
#[derive(Clone, Debug)]
pub(super) struct Routing<'a> {
    pub(super) signers: &'a [Signer],
    pub(super) own: Option<&'a MetaAccountId>,
}

impl Routing<'_> {
    /// The changes of each organization, in their order. What is a disabled account's is nobody's.
    pub(super) fn routes(&self, envelope: &Envelope<'_>) -> BTreeMap<OrganizationId, Vec<Route>> {
        let mut routes = BTreeMap::<_, Vec<Route>>::new();
        for (place, entry, change) in envelope.changes() {
            for (organization, account, is_unrouted) in self.owners(entry, change) {
                let route = Route { place, account, is_unrouted };
                routes.entry(organization).or_default().push(route);
            }
        }
        routes
    }

    fn owners(
        &self,
        entry: &Entry<'_>,
        change: &Change<'_>,
    ) -> Vec<(OrganizationId, Option<MetaAccountId>, bool)> {
        if let Some(number) = &change.number {
            let of_number = self.signers.iter().filter(|it| it.row.phone_number_id == *number);
            if let Some(signer) = of_number.min_by_key(|it| !it.is_current) {
                let row = &signer.row;
                let owner = (row.organization_id.clone(), Some(row.id.clone()), false);
                return if signer.is_open { vec![owner] } else { Vec::new() };
            }
            let owner = self.owner_of_unknown(entry.waba(change));
            return owner.map(|it| (it, None, true)).into_iter().collect();
        }
        let waba = entry.waba(change);
        let of_waba = self.signers.iter().filter(|it| it.row.waba_id.as_deref() == waba);
        let mut by_organization = BTreeMap::<_, Vec<&Signer>>::new();
        for signer in of_waba.filter(|_| waba.is_some()) {
            by_organization.entry(&signer.row.organization_id).or_default().push(signer);
        }
        if by_organization.is_empty() {
            if let Some(own) = self.own_signer() {
                let row = &own.row;
                let owner = (row.organization_id.clone(), Some(row.id.clone()), false);
                return if own.is_open { vec![owner] } else { Vec::new() };
            }
            let owner = self.owner_of_unknown(None);
            return owner.map(|it| (it, None, true)).into_iter().collect();
        }
        let open = by_organization.into_iter().filter_map(|(organization, signers)| {
            let mut open = signers.iter().filter(|it| it.is_open);
            let first = open.next()?;
            // Of several it is about none in particular.
            let account = open.next().is_none().then(|| first.row.id.clone());
            Some((organization.clone(), account, false))
        });
        open.collect()
    }

    /// Who is told of what names nobody's number: whose business account it is, whose address it came to, or who
    /// has signed it.
    pub(super) fn owner_of_unknown(&self, waba: Option<&str>) -> Option<OrganizationId> {
        let of_waba = |it: &&Signer| waba.is_some() && it.row.waba_id.as_deref() == waba;
        let open = || self.signers.iter().filter(|it| it.is_open);
        let signer = open()
            .find(of_waba)
            .or_else(|| self.own_signer().filter(|it| it.is_open))
            .or_else(|| open().next().filter(|_| !self.signers.iter().any(|it| of_waba(&it))));
        signer.map(|it| it.row.organization_id.clone())
    }

    fn own_signer(&self) -> Option<&Signer> {
        self.signers.iter().find(|it| Some(&it.row.id) == self.own)
    }
}
