//! Sessions of one account: one, and those that have handed over to it.
//!
//! Pointers are one step long: whoever had handed over to a session that hands over itself points at the new one, too
//! (`handover/carry.rs`).

use std::collections::{HashMap, HashSet};

use entity::{id::SessionKey, session};
use sea_orm::{ColumnTrait, DatabaseTransaction, DbErr, EntityTrait, QueryFilter, QuerySelect};

use super::{NewEvent, early, own, present::sought};

/// The families of sessions of which something is told that may be another's.
#[derive(Debug, Default)]
pub(super) struct Families {
    /// To whom each has handed over, or itself.
    heads: HashMap<SessionKey, SessionKey>,
    members: HashMap<SessionKey, Vec<SessionKey>>,
}

impl Families {
    pub(super) async fn read(
        txn: &DatabaseTransaction,
        sessions: &HashMap<SessionKey, session::Model>,
        events: &[&NewEvent],
    ) -> Result<Self, DbErr> {
        let told = events.iter().filter(|event| {
            sought(event).is_some()
                || early::may_have_waited(event, sessions).is_some()
                || own::may_be_own(event, sessions).is_some()
        });
        let told: HashSet<&SessionKey> = told.map(|event| &event.session_key).collect();
        let mut this = Self::default();
        for key in told {
            let heir = sessions.get(key).and_then(|row| row.migrated_to.clone());
            this.heads.insert(key.clone(), heir.unwrap_or_else(|| key.clone()));
        }
        if this.heads.is_empty() {
            return Ok(this);
        }
        let before: Vec<(SessionKey, SessionKey)> = session::Entity::find()
            .select_only()
            .column(session::Column::Id)
            .column(session::Column::MigratedTo)
            .filter(session::COLUMN.migrated_to.is_in(this.heads.values().cloned()))
            .into_tuple()
            .all(txn)
            .await?;
        for head in this.heads.values() {
            this.members.entry(head.clone()).or_insert_with(|| vec![head.clone()]);
        }
        for (member, head) in before {
            this.members.entry(head).or_default().push(member);
        }
        Ok(this)
    }

    /// Whoever the account is with now: the session itself, or to whom it has handed over.
    pub(super) fn head<'a>(&'a self, session: &'a SessionKey) -> &'a SessionKey {
        self.heads.get(session).unwrap_or(session)
    }

    /// All of a session's family, itself included.
    pub(super) fn of<'a>(&'a self, session: &'a SessionKey) -> &'a [SessionKey] {
        let members = self.members.get(self.head(session));
        members.map_or(std::slice::from_ref(session), Vec::as_slice)
    }
}
