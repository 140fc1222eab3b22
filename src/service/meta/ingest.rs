//! Meta tells something: verified over its bytes, taken apart by organization, and on disk before it is taken.
//!
//! Before the signature is known to be good, of a body only ids are read, and only to find the secrets to try.

use std::{collections::BTreeSet, time::Duration};

use entity::{
    UnixMillis,
    id::{MetaBodyId, MetaEventId, OrganizationId, in_order},
    meta::{
        account, body, event,
        state::{MetaEventState, MetaStatus},
    },
};
use sha2::{Digest, Sha256};

use super::{
    Figures, Meta, NOT_FOUND, Open, Refusal,
    routing::{Route, Routing, Signer},
    trial::{self, Claim},
};
use crate::{
    meta::{Envelope, Names, Signature, is_signed_by, part},
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

    /// Takes what Meta has posted. When this returns it is on disk.
    pub async fn receive(
        &self,
        door: &Door,
        signature: &Signature,
        bytes: &[u8],
    ) -> Result<(), Error> {
        let envelope = Envelope::read(bytes);
        let names = envelope.as_ref().map_or_else(|| Names::of_broken(bytes), Names::of);
        let signers = self.signers(door, &names, signature, bytes).await?;
        let posted = Posted { signature, bytes, now: self.now() };
        if signers.is_empty() {
            let fallback = matches!(door, Door::Shared) && self.is_by_default(signature, bytes);
            if !fallback {
                return Err(match door {
                    Door::Nobody => NOT_FOUND,
                    Door::Own(_) => Refusal::OwnSignature.into(),
                    Door::Shared => Refusal::Signature.into(),
                });
            }
            // The installation's own app, and nobody's number.
            let home = self.home().await?.clone();
            let kept = posted.unrouted(home, envelope.as_ref());
            self.keep(vec![kept]).await?;
            return Ok(());
        }
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
            return Ok(());
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
        Ok(())
    }

    async fn keep(&self, all: Vec<Kept>) -> Result<(), Error> {
        self.store.meta().keep(all).await?;
        Figures::count(&self.figures.received);
        Ok(())
    }

    /// The accounts, of those that a body may be about, whose app has signed it.
    async fn signers(
        &self,
        door: &Door,
        names: &Names,
        signature: &Signature,
        bytes: &[u8],
    ) -> Result<Vec<Signer>, Error> {
        let mut candidates = match door {
            Door::Nobody => return Ok(Vec::new()),
            Door::Own(row) if is_only_about(names, row) => Vec::new(),
            Door::Own(_) | Door::Shared => {
                self.store.meta().named(&names.numbers, &names.wabas).await?
            }
        };
        if let Door::Own(row) = door {
            candidates.retain(|it| it.id != row.id);
            candidates.insert(0, row.as_ref().clone());
        }
        let mut claims = Vec::with_capacity(candidates.len());
        let now = self.now();
        for row in candidates {
            let secrets = self.store.meta().secrets(&row).await?;
            let current = if row.app_secret.is_some() {
                secrets.app
            } else {
                self.options.default_secret.clone()
            };
            let is_kept = row.previous_until.is_some_and(|until| now < until);
            let previous = secrets.previous.filter(|_| is_kept);
            claims.push(Claim { row, current, previous });
        }
        let own = match door {
            Door::Own(row) => Some(&row.id),
            Door::Shared | Door::Nobody => None,
        };
        let fits = |secret: &Open| is_signed_by(secret.expose().as_bytes(), bytes, signature);
        let good = trial::good(&claims, own, &names.numbers, fits);
        let mut signers = Vec::new();
        for Claim { row, current, previous } in claims {
            let is_good = |secret: Option<Open>| secret.is_some_and(|it| good.contains(&it));
            let is_current = is_good(current);
            if is_current || is_good(previous) {
                let is_open = match row.status {
                    MetaStatus::Verified => true,
                    MetaStatus::Unverified => !self.options.require_verified,
                    MetaStatus::Disabled => false,
                };
                signers.push(Signer { row, is_current, is_open });
            }
        }
        if let Door::Own(row) = door
            && !signers.iter().any(|it| it.row.id == row.id)
        {
            // Somebody else's app has no business here.
            return Ok(Vec::new());
        }
        Ok(signers)
    }

    fn is_by_default(&self, signature: &Signature, bytes: &[u8]) -> bool {
        let secret = self.options.default_secret.as_ref();
        secret.is_some_and(|it| is_signed_by(it.expose().as_bytes(), bytes, signature))
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
            sha256: text::hex(&Sha256::digest(self.bytes)),
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
