//! Handovers that somebody asks for.

use std::collections::HashMap;

use entity::{
    id::{EndpointId, SessionId},
    state::Role,
};

use super::{Sessions, refuse_migrated};
use crate::{
    service::{Conflict, Error, FieldError, Principal, SOON, Thing},
    store::handover::{Obstacle, Refused, Sources, Unfit},
};

/// Sessions that one request names, at most.
pub const MOST_SOURCES: usize = 100;

/// What one session handed over, or would hand over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HandedOver {
    pub session_id: SessionId,
    /// Messages that are part of the new session's history.
    pub messages: u64,
    /// Settings by their names in the API.
    pub settings: Vec<&'static str>,
    pub webhooks: Vec<EndpointId>,
    pub campaigns: u64,
}

/// What a handover came to, or would come to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Migration {
    pub session_id: SessionId,
    /// Nothing was done.
    pub dry_run: bool,
    pub migrated: Vec<HandedOver>,
    /// Sessions of the number that do not hand over, and why.
    pub skipped: Vec<(SessionId, Obstacle)>,
}

impl Sessions {
    /// Has sessions hand over to this one: those of `from`, or all idle ones of the same number. With
    /// `dry_run` it is only told what would be.
    pub async fn migrate(
        &self,
        caller: &Principal,
        id: &SessionId,
        from: Option<Vec<SessionId>>,
        dry_run: bool,
    ) -> Result<Migration, Error> {
        caller.require(Role::Manager)?;
        let row = self.row(caller, id).await?;
        let from = match from {
            None => Sources::All,
            Some(ids) => self.named(caller, ids).await?,
        };
        let handovers = self.store.handovers();
        let organization = &caller.organization_id;
        // Before the handover, after which the messages of an old session are told apart no more.
        let report = if dry_run {
            handovers.plan(organization, &row.id, &from).await?
        } else {
            handovers.carry_out(organization, &row.id, &from, caller.by()).await?
        };
        let report = match report {
            Ok(report) => report,
            Err(refused) => return Err(self.refusal(caller, id, refused).await),
        };
        let mut migrated = Vec::new();
        for given in report.given {
            let source = self.row(caller, &given.session_id).await?;
            migrated.push(HandedOver {
                session_id: given.session_id,
                messages: self.store.messages().count(&source.id).await?,
                settings: given.settings,
                webhooks: given.webhooks,
                campaigns: given.campaigns,
            });
        }
        Ok(Migration { session_id: row.session_id, dry_run, migrated, skipped: report.left })
    }

    /// The sessions that the caller names.
    async fn named(&self, caller: &Principal, ids: Vec<SessionId>) -> Result<Sources, Error> {
        if ids.is_empty() || ids.len() > MOST_SOURCES {
            let detail = format!("must name 1 to {MOST_SOURCES} sessions, or be left out");
            return Err(Error::invalid("from", detail));
        }
        let found = self.store.sessions().keys(&caller.organization_id, &ids).await?;
        let keys: HashMap<_, _> = found.into_iter().collect();
        let mut named = Vec::new();
        let mut errors = Vec::new();
        for (place, id) in ids.iter().enumerate() {
            match keys.get(id) {
                Some(key) => named.push(key.clone()),
                None => errors.push(FieldError::new(
                    &format!("from/{place}"),
                    "is no session of the organization",
                )),
            }
        }
        if errors.is_empty() { Ok(Sources::These(named)) } else { Err(Error::Invalid(errors)) }
    }

    async fn refusal(&self, caller: &Principal, id: &SessionId, refused: Refused) -> Error {
        match refused {
            Refused::Gone => Error::NotFound(Thing::Session),
            Refused::Unfit(Unfit::NeverConnected) => {
                Error::Conflict(Conflict::SessionNeverConnected)
            }
            Refused::Unfit(Unfit::Migrated) => {
                let refused = async {
                    let row = self.row(caller, id).await?;
                    refuse_migrated(&self.store, &row).await
                };
                // It is what it was again: its heir was deleted this moment.
                let again =
                    Error::Unavailable { what: "the session is being changed", retry_after: SOON };
                refused.await.err().unwrap_or(again)
            }
            Refused::Left(left) if left.iter().all(|(_, why)| *why == Obstacle::Busy) => {
                Error::Unavailable { what: "a session is being changed", retry_after: SOON }
            }
            Refused::Left(left) => Error::NotHandedOver(left),
        }
    }
}
