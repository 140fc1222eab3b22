//! Everybody, by phone number and by LID, and the groups.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, RwLock};

use wacore_binary::Jid;

use super::group::GroupChat;
use super::person::{Person, ReceiptPolicy};
use crate::{Error, address, reading, writing};

/// LIDs are assigned from here: fifteen digits, as real ones.
const FIRST_LID: u64 = 100_000_000_000_000;
/// Group ids are assigned from here.
const FIRST_GROUP: u64 = 120_363_000_000_000_000;
/// A number shorter than this is a slip of the pen.
const SHORTEST_NUMBER: usize = 5;

/// The directory; its locks are held for lookups only.
#[derive(Debug, Default)]
pub(crate) struct Directory {
    people: RwLock<HashMap<Arc<str>, Arc<Person>>>,
    by_lid: RwLock<HashMap<String, Arc<Person>>>,
    groups: RwLock<HashMap<String, Arc<GroupChat>>>,
    assigned: AtomicU64,
}

impl Directory {
    /// Finds or creates the person with a number.
    pub(crate) fn person(
        &self,
        number: &str,
        receipts: ReceiptPolicy,
        memory: usize,
    ) -> Result<Arc<Person>, Error> {
        let pn = address::digits(number);
        if pn.len() < SHORTEST_NUMBER {
            return Err(Error::BadNumber(number.to_owned()));
        }
        if let Some(person) = self.find(&pn) {
            return Ok(person);
        }
        // Keys are generated outside the lock; whoever loses a race throws theirs away.
        let lid = FIRST_LID + self.assigned.fetch_add(1, Ordering::Relaxed);
        let person = Arc::new(Person::new(&pn, lid.to_string(), receipts, memory));
        let mut people = writing(&self.people);
        let person = people.entry(Arc::clone(&person.pn)).or_insert(person);
        writing(&self.by_lid).insert(person.hidden_lid().to_owned(), Arc::clone(person));
        Ok(Arc::clone(person))
    }

    pub(crate) fn find(&self, pn: &str) -> Option<Arc<Person>> {
        reading(&self.people).get(pn).map(Arc::clone)
    }

    /// Finds somebody by an address in either namespace.
    pub(crate) fn lookup(&self, jid: &Jid) -> Option<Arc<Person>> {
        if jid.is_lid() {
            reading(&self.by_lid).get(jid.user.as_str()).map(Arc::clone)
        } else {
            self.find(&jid.user)
        }
    }

    pub(crate) fn everybody(&self) -> Vec<Arc<Person>> {
        reading(&self.people).values().map(Arc::clone).collect()
    }

    pub(crate) fn add_group(&self, subject: &str, members: Vec<Arc<str>>) -> Arc<GroupChat> {
        let id = FIRST_GROUP + self.assigned.fetch_add(1, Ordering::Relaxed);
        let group = Arc::new(GroupChat::new(id.to_string(), subject, members));
        writing(&self.groups).insert(group.id.clone(), Arc::clone(&group));
        group
    }

    pub(crate) fn group(&self, id: &str) -> Option<Arc<GroupChat>> {
        reading(&self.groups).get(id).map(Arc::clone)
    }

    pub(crate) fn groups(&self) -> Vec<Arc<GroupChat>> {
        reading(&self.groups).values().map(Arc::clone).collect()
    }
}
