//! Meta tells something: verified over its bytes, taken apart by organization, and on disk before it is taken.
//!
//! Before the signature is known to be good, of a body only ids are read, and only to find the secrets to try.

use std::{collections::BTreeSet, time::Duration};

use bytes::Bytes;
use entity::{
    UnixMillis,
    id::{MetaBodyId, MetaEventId, OrganizationId, in_order},
    meta::{
        account, body, event,
        state::{MetaEventState, MetaStatus},
    },
};

use super::{
    Figures, Meta, NOT_FOUND, Open, Refusal,
    judge::Fit,
    routing::{Route, Routing, Signer},
    trial::{self, Tries, Which},
};
use crate::{
    meta::{Envelope, Names, Signature, part},
    service::{Error, text},
    store::meta::Kept,
};

/// How far ahead of ours Meta's clock may be.
const AHEAD: Duration = Duration::from_hours(24);

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
    pub async fn receive(
        &self,
        door: &Door,
        signature: &Signature,
        bytes: &Bytes,
    ) -> Result<Vec<OrganizationId>, Error> {
        let envelope = Envelope::read(bytes);
        let names = envelope.as_ref().map_or_else(|| Names::of_broken(bytes), Names::of);
        let (signers, fit) = self.signers(door, &names, signature, bytes).await?;
        let Some(fit) = fit else {
            return Err(match door {
                Door::Nobody => NOT_FOUND,
                Door::Own(_) => Refusal::OwnSignature.into(),
                Door::Shared => Refusal::Signature.into(),
            });
        };
        let posted = Posted { signature, bytes, sha256: fit.sha256, now: self.now() };
        if signers.is_empty() {
            // The installation's own app, and nobody's number.
            let home = self.home().await?.clone();
            let kept = posted.unrouted(home.clone(), envelope.as_ref());
            self.keep(vec![kept]).await?;
            return Ok(vec![home]);
        }
        let mut owners: Vec<_> = signers.iter().map(|it| it.row.organization_id.clone()).collect();
        owners.sort_unstable();
        owners.dedup();
        if !signers.iter().any(|it| it.is_open) {
            return Err(Refusal::Disabled.into());
        }
        let own = match door {
            Door::Own(row) => Some(&row.id),
            Door::Shared | Door::Nobody => None,
        };
        let routing = Routing { signers: &signers, own };
        let whole = envelope.filter(|it| it.changes().next().is_some());
        let Some(envelope) = whole else {
            let owner = self.owner_of_broken(&routing).await?;
            self.keep(vec![posted.unreadable(owner)]).await?;
            return Ok(owners);
        };
        let routes = routing.routes(&envelope);
        if routes.is_empty() {
            return Err(Refusal::Disabled.into());
        }
        let all: Vec<_> = routes
            .into_iter()
            .map(|(organization, routes)| posted.kept(organization, &envelope, &routes))
            .collect();
        self.keep(all).await?;
        Ok(owners)
    }

    async fn keep(&self, all: Vec<Kept>) -> Result<(), Error> {
        self.store.meta().keep(all).await?;
        Figures::count(&self.figures.received);
        Ok(())
    }

    /// The accounts, of those that a body may be about, whose app has signed it; none where it is signed by the
    /// installation's own and names nobody's number. And what it was signed with, if it was.
    async fn signers(
        &self,
        door: &Door,
        names: &Names,
        signature: &Signature,
        bytes: &Bytes,
    ) -> Result<(Vec<Signer>, Option<Fit>), Error> {
        let mut candidates = match door {
            Door::Nobody => return Ok((Vec::new(), None)),
            Door::Own(row) if is_only_about(names, row) => Vec::new(),
            Door::Own(_) | Door::Shared => {
                self.store.meta().named(&names.numbers, &names.wabas).await?
            }
        };
        let own = match door {
            Door::Own(row) => Some(row.as_ref()),
            Door::Shared | Door::Nobody => None,
        };
        if let Some(row) = own {
            candidates.retain(|it| it.id != row.id);
            candidates.insert(0, row.clone());
        }
        let own = own.map(|row| &row.id);
        let mut tries = Tries::of(bytes.len());
        for turn in trial::turns(&candidates, own, &names.numbers) {
            if tries.takes(turn) {
                let (current, previous) = self.secrets_of(turn.row).await?;
                tries.add(match turn.which {
                    Which::Current => current,
                    Which::Previous => previous,
                });
            }
        }
        let Some(fit) = self.judge.fitting(tries.secrets, *signature, bytes).await? else {
            let default = match door {
                Door::Shared => self.options.default_secret.clone(),
                Door::Own(_) | Door::Nobody => None,
            };
            let secrets = default.into_iter().collect();
            return Ok((Vec::new(), self.judge.fitting(secrets, *signature, bytes).await?));
        };
        // It is proved: now it may cost something to find all whose app it is.
        let mut signers = Vec::new();
        for row in candidates {
            let (current, previous) = self.secrets_of(&row).await?;
            let is_current = current.as_ref() == Some(&fit.secret);
            if is_current || previous.as_ref() == Some(&fit.secret) {
                let is_open = match row.status {
                    MetaStatus::Verified => true,
                    MetaStatus::Unverified => !self.options.require_verified,
                    MetaStatus::Disabled => false,
                };
                signers.push(Signer { row, is_current, is_open });
            }
        }
        if own.is_some_and(|own| !signers.iter().any(|it| it.row.id == *own)) {
            // Somebody else's app has no business here.
            return Ok((Vec::new(), None));
        }
        Ok((signers, Some(fit)))
    }

    /// What an account's events may be signed with: its app's secret, and the one before for as long as that is good.
    async fn secrets_of(
        &self,
        row: &account::Model,
    ) -> Result<(Option<Open>, Option<Open>), Error> {
        let secrets = self.store.meta().secrets(row).await?;
        let current = if row.app_secret.is_some() {
            secrets.app
        } else {
            self.options.default_secret.clone()
        };
        let is_kept = row.previous_until.is_some_and(|until| self.now() < until);
        Ok((current, secrets.previous.filter(|_| is_kept)))
    }

    /// Whose a body is that cannot be taken apart: not one's if it may be another's.
    async fn owner_of_broken(&self, routing: &Routing<'_>) -> Result<OrganizationId, Error> {
        let mut owners = routing.signers.iter().map(|it| &it.row.organization_id);
        let first = owners.next();
        let is_one = routing.own.is_some() || owners.all(|it| Some(it) == first);
        match routing.owner_of_unknown(None).filter(|_| is_one) {
            Some(owner) => Ok(owner),
            None => Ok(self.home().await?.clone()),
        }
    }
}

/// Whether a body names nothing but what this account is of.
fn is_only_about(names: &Names, row: &account::Model) -> bool {
    names.numbers.iter().all(|it| *it == row.phone_number_id)
        && names.wabas.iter().all(|it| Some(it) == row.waba_id.as_ref())
}

/// A request's body, and what is written of it.
#[derive(Clone, Copy)]
struct Posted<'a> {
    signature: &'a Signature,
    bytes: &'a [u8],
    sha256: [u8; 32],
    now: UnixMillis,
}

impl Posted<'_> {
    /// An organization's changes.
    fn kept(&self, owner: OrganizationId, envelope: &Envelope<'_>, routes: &[Route]) -> Kept {
        if envelope.changes().count() == routes.len() {
            let body = self.body(owner, self.bytes.to_vec(), false);
            let events = self.events(&body, envelope, routes);
            return Kept { body, events };
        }
        let mine: BTreeSet<_> = routes.iter().map(|it| it.place).collect();
        let bytes = part(envelope, |place| mine.contains(&place));
        let body = self.body(owner, bytes, true);
        // Counted as they are in what is left.
        let events = Envelope::read(&body.body)
            .map(|envelope| self.events(&body, &envelope, routes))
            .unwrap_or_default();
        Kept { body, events }
    }

    /// All of it, with a number of nobody's.
    fn unrouted(&self, owner: OrganizationId, envelope: Option<&Envelope<'_>>) -> Kept {
        let Some(envelope) = envelope.filter(|it| it.changes().next().is_some()) else {
            return self.unreadable(owner);
        };
        let routes: Vec<_> = envelope
            .changes()
            .map(|(place, _, _)| Route { place, account: None, is_unrouted: true })
            .collect();
        self.kept(owner, envelope, &routes)
    }

    /// All of it as one thing.
    fn unreadable(&self, owner: OrganizationId) -> Kept {
        let body = self.body(owner, self.bytes.to_vec(), false);
        let kind = if Envelope::read(self.bytes).is_some() { "unknown" } else { "malformed" };
        let event = event::Model {
            id: MetaEventId::new(self.now, in_order(rand::random())),
            organization_id: body.organization_id.clone(),
            account_id: None,
            body_id: body.id.clone(),
            place: String::new(),
            object_id: None,
            event_type: kind.to_owned(),
            subtype: None,
            is_unrouted: false,
            event_ts: self.now,
            dedup_key: format!("b:{}", body.sha256),
            processed: false,
            processed_at: None,
            state: MetaEventState::Waiting,
            lane: String::new(),
            attempts: 0,
            next_at: UnixMillis(0),
            claim: None,
            claimed_by: None,
            lease_until: UnixMillis(0),
            error: None,
            progress: 0,
            created_at: self.now,
        };
        Kept { body, events: vec![event] }
    }

    fn body(&self, organization_id: OrganizationId, bytes: Vec<u8>, is_part: bool) -> body::Model {
        body::Model {
            id: MetaBodyId::new(self.now, in_order(rand::random())),
            organization_id,
            sha256: text::hex(&self.sha256),
            size: i32::try_from(bytes.len()).unwrap_or(i32::MAX),
            body: bytes,
            is_part,
            signature: self.signature.to_string(),
            received_at: self.now,
        }
    }

    fn events(
        &self,
        body: &body::Model,
        envelope: &Envelope<'_>,
        routes: &[Route],
    ) -> Vec<event::Model> {
        let mut events = Vec::new();
        for (((e, c), entry, change), route) in envelope.changes().zip(routes) {
            for item in change.items(entry) {
                let at = item.at.filter(|at| *at < self.now + AHEAD).unwrap_or(self.now);
                events.push(event::Model {
                    id: MetaEventId::new(self.now, in_order(rand::random())),
                    organization_id: body.organization_id.clone(),
                    account_id: route.account.clone(),
                    body_id: body.id.clone(),
                    place: format!("{e}.{c}.{}", item.index),
                    object_id: item.object_id,
                    event_type: item.event_type,
                    subtype: item.subtype,
                    is_unrouted: route.is_unrouted,
                    event_ts: at,
                    dedup_key: item.dedup_key,
                    processed: false,
                    processed_at: None,
                    state: MetaEventState::Waiting,
                    lane: item.lane,
                    attempts: 0,
                    next_at: UnixMillis(0),
                    claim: None,
                    claimed_by: None,
                    lease_until: UnixMillis(0),
                    error: None,
                    progress: 0,
                    created_at: self.now,
                });
            }
        }
        events
    }
}
