//! Whether a session that has handed over may be at work again: if its organization has a place for it.
//!
//! What runs elsewhere goes on whatever we say, and one that has handed over is listed again when its client says that it
//! is at work. It takes a place then as any other does, or whoever may have one session could have as many as he likes.
//! Where there is none, what says so is refused and not recorded: the feed and the list tell the same, its client hears
//! why, and can say it again when there is a place. What it tells besides (messages, acknowledgements, calls) is
//! recorded whatever its status is: of those nothing is lost.
//!
//! It needs no place of its own where the one that it has handed over to leaves its place to it at that moment.

use std::collections::{BTreeSet, HashMap, HashSet};

use entity::{
    id::{OrganizationId, SessionKey},
    session,
    state::{DesiredState, Origin, SessionStatus},
};
use sea_orm::{ColumnTrait, DatabaseTransaction, DbErr, EntityTrait, QueryFilter};

use super::NewEvent;
use crate::{
    event::{Event, status},
    store::{
        handover::{Verdict, judge},
        leases::owned_among,
        sessions::{LIVE, is_there, places_left},
    },
};

/// Places of organizations, as far as a group of events may need some.
#[derive(Default)]
pub(super) struct Room {
    /// What is left of those that have a limit.
    left: HashMap<OrganizationId, i64>,
    /// Whom those have handed over to that may be at work again.
    heirs: HashMap<SessionKey, session::Model>,
    /// Those of them that a daemon runs.
    owned: HashSet<SessionKey>,
}

impl Room {
    /// Locks the rows of organizations with a limit, if there is something to count.
    pub(super) async fn read(
        txn: &DatabaseTransaction,
        sessions: &HashMap<SessionKey, session::Model>,
        events: &[&NewEvent],
    ) -> Result<Self, DbErr> {
        let back = events.iter().filter_map(|event| {
            let row = sessions.get(&event.session_key)?;
            let heir = row.migrated_to.as_ref()?;
            let is_live = status::is_about_status(&event.event)
                && is_live(status::transition(row.status, &event.event));
            is_live.then(|| (row.organization_id.clone(), heir.clone()))
        });
        let (organizations, heirs): (BTreeSet<_>, BTreeSet<_>) = back.unzip();
        let mut this = Self::default();
        for organization in organizations {
            if let Some((left, _)) = places_left(txn, &organization).await? {
                this.left.insert(organization, left);
            }
        }
        if !this.left.is_empty() {
            let heirs: Vec<SessionKey> = heirs.into_iter().collect();
            let rows = session::Entity::find()
                .filter(session::COLUMN.id.is_in(heirs.iter().cloned()))
                .filter(is_there());
            this.heirs =
                rows.all(txn).await?.into_iter().map(|row| (row.id.clone(), row)).collect();
            this.owned = owned_among(txn, heirs).await?;
        }
        Ok(this)
    }

    /// Whether there is a place for what a session is after this event, if it needs one. `present` has those of which the
    /// group tells, as it has left them by now.
    pub(super) fn admits(
        &self,
        row: &session::Model,
        event: &Event,
        present: &HashMap<SessionKey, session::Model>,
    ) -> bool {
        let Some(heir) = &row.migrated_to else { return true };
        let after = status::transition(row.status, event);
        if is_live(row.status) || !is_live(after) {
            return true;
        }
        let is_left = self.left.get(&row.organization_id).is_none_or(|left| *left > 0);
        // Heirs are read only where places are counted, and only as long as they are there.
        let heir = self.heirs.get(heir).map(|read| present.get(heir).unwrap_or(read));
        is_left || heir.is_some_and(|heir| self.gives_way(heir, row, event))
    }

    /// Whether the heir hands over in its turn to the session that becomes connected, as `handover::at_ready` decides it.
    fn gives_way(&self, heir: &session::Model, row: &session::Model, event: &Event) -> bool {
        let Event::Ready(account) = event else { return false };
        // A number that was not said now takes over from nobody, and one at Meta's hands over to nobody.
        if account.phone_number.is_none() || heir.origin == Origin::Cloud {
            return false;
        }
        // What shall run may be a daemon's at any moment.
        let shall_run =
            heir.origin == Origin::Embedded && heir.desired_state == DesiredState::Running;
        let mut connected = row.clone();
        status::apply(&mut connected, event, row.updated_at);
        let is_run = shall_run || self.owned.contains(&heir.id);
        judge(heir, &connected, is_run) == Verdict::HandsOver
    }

    /// A session's status was another one before.
    pub(super) fn moved(&mut self, row: &session::Model, before: SessionStatus) {
        if row.migrated_to.is_none() || is_live(before) == is_live(row.status) {
            return;
        }
        if let Some(left) = self.left.get_mut(&row.organization_id) {
            *left += if is_live(before) { 1 } else { -1 };
        }
    }
}

fn is_live(status: SessionStatus) -> bool {
    LIVE.contains(&status)
}
