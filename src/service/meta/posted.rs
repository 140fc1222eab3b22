//! What is kept of a body that is signed: for each organization its own changes, and a row for each thing that is told. It is read
//! here, once, and nowhere before but for the ids in it.

use std::{collections::BTreeSet, time::Duration};

use bytes::Bytes;
use entity::{
    UnixMillis,
    id::{MetaAccountId, MetaBodyId, MetaEventId, OrganizationId, in_order},
    meta::{body, event, state::MetaEventState},
};

use super::{
    Signature,
    routing::{AppOwner, Route, Routing, Signer},
};
use crate::{
    meta::{Envelope, part},
    service::text,
    store::meta::{Closed, Kept},
};

/// How far ahead of ours Meta's clock may be.
const AHEAD: Duration = Duration::from_hours(24);

/// A body that is signed, and by whom.
pub(super) struct Posted {
    pub(super) signature: Signature,
    pub(super) bytes: Bytes,
    pub(super) sha256: [u8; 32],
    pub(super) now: UnixMillis,
    /// The accounts, of those that it may be about, whose app has signed it. None if the body names nobody's number and
    /// business account.
    pub(super) signers: Vec<Signer>,
    /// Whose own address it came to.
    pub(super) own: Option<MetaAccountId>,
    /// Whose alone the app is, where something in the body is of no signer.
    pub(super) app: Option<AppOwner>,
    /// The organization that the installation began with.
    pub(super) home: OrganizationId,
}

impl Posted {
    /// Reads it, and answers what is kept of it: for each organization that it is about.
    pub(super) fn taken_apart(&self) -> Vec<Kept> {
        let envelope = Envelope::read(&self.bytes);
        let is_json = envelope.is_some();
        let routing = Routing {
            signers: &self.signers,
            own: self.own.as_ref(),
            app: self.app.as_ref(),
            home: &self.home,
        };
        match envelope.filter(|it| it.changes().next().is_some()) {
            None => {
                let (owner, refused) = routing.owner_of_broken();
                vec![self.unreadable(owner, refused, is_json)]
            }
            Some(envelope) => {
                let routes = routing.routes(&envelope).into_iter();
                routes.map(|(owner, routes)| self.kept(owner, &envelope, &routes)).collect()
            }
        }
    }

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

    /// All of it as one thing.
    fn unreadable(&self, owner: OrganizationId, refused: Option<Closed>, is_json: bool) -> Kept {
        let body = self.body(owner, self.bytes.to_vec(), false);
        let kind = if is_json { "unknown" } else { "malformed" };
        let event = event::Model {
            event_type: kind.to_owned(),
            dedup_key: format!("b:{}", body.sha256),
            ..self.begun(&body, refused)
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

    /// One of a body's things that waits to be carried out, or was refused, as far as all are alike.
    fn begun(&self, body: &body::Model, refused: Option<Closed>) -> event::Model {
        event::Model {
            id: MetaEventId::new(self.now, in_order(rand::random())),
            organization_id: body.organization_id.clone(),
            account_id: None,
            body_id: body.id.clone(),
            place: String::new(),
            object_id: None,
            event_type: String::new(),
            subtype: None,
            is_unrouted: false,
            event_ts: self.now,
            dedup_key: String::new(),
            processed: false,
            processed_at: None,
            state: refused.map_or(MetaEventState::Waiting, |_| MetaEventState::Failed),
            lane: String::new(),
            attempts: 0,
            next_at: UnixMillis(0),
            claim: None,
            claimed_by: None,
            lease_until: UnixMillis(0),
            error: refused.map(|it| it.word().to_owned()),
            progress: 0,
            created_at: self.now,
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
                    account_id: route.account.clone(),
                    place: format!("{e}.{c}.{}", item.index),
                    object_id: item.object_id,
                    event_type: item.event_type,
                    subtype: item.subtype,
                    is_unrouted: route.is_unrouted,
                    event_ts: at,
                    dedup_key: item.dedup_key,
                    lane: item.lane,
                    ..self.begun(body, route.refused)
                });
            }
        }
        events
    }
}
