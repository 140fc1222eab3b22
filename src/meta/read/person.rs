//! Who something is about: by a number, by Meta's ids of them, or by several of these.

use entity::state::IdentityKind::{self, Lid, ParentUserId, Phone, UserId, WaId};
use serde_json::Value;

use super::{digits, text};

/// The longest id, in bytes.
const LONGEST: usize = 160;

/// The longest name, in characters.
const LONGEST_NAME: usize = 200;

/// Somebody, by whatever is known of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Person {
    /// What they are called by, the best first.
    pub ids: Vec<(IdentityKind, String)>,
    pub name: Option<String>,
    pub username: Option<String>,
}

impl Person {
    /// As an entry of `contacts` introduces them.
    pub(super) fn introduced(contact: &Value) -> Self {
        let mut person = Self::default();
        person.add_number(contact, "wa_id");
        person.add(UserId, text(contact, "user_id"));
        person.add(ParentUserId, text(contact, "parent_user_id"));
        if let Some(profile) = contact.get("profile") {
            person.name = name(profile, "name");
            person.username = name(profile, "username");
        }
        person
    }

    /// As an item names them, by a number and by Meta's id, with what the change says of them besides. None if
    /// it names nobody.
    pub(super) fn named(item: &Value, [number, user]: [&str; 2], people: &[Self]) -> Option<Self> {
        let mut person = Self::default();
        person.add_number(item, number);
        person.add(UserId, text(item, user));
        let parent = user.replace("user_id", "parent_user_id");
        person.add(ParentUserId, text(item, &parent));
        let is_same = |it: &&Self| it.ids.iter().any(|id| person.ids.contains(id));
        let only = || people.first().filter(|it| people.len() == 1 && !it.ids.is_empty());
        let introduced = match people.iter().find(is_same) {
            None if person.ids.is_empty() => only(),
            found => found,
        };
        if let Some(introduced) = introduced.cloned() {
            for (kind, value) in introduced.ids {
                person.add(kind, Some(value));
            }
            person.ids.sort();
            (person.name, person.username) = (introduced.name, introduced.username);
        }
        (!person.ids.is_empty()).then_some(person)
    }

    /// By a phone number alone.
    pub(super) fn of_number(number: &str) -> Self {
        let ids = vec![(WaId, number.to_owned()), (Phone, number.to_owned())];
        Self { ids, ..Self::default() }
    }

    /// A number; or, where Meta hides it, an id in its place.
    fn add_number(&mut self, value: &Value, name: &str) {
        let Some(written) = text(value, name) else { return };
        match digits(value, name).filter(|_| !written.contains(|c: char| c.is_alphabetic())) {
            Some(number) => {
                self.add(WaId, Some(number.clone()));
                self.add(Phone, Some(number));
            }
            None => self.add(UserId, Some(written)),
        }
    }

    pub(super) fn add(&mut self, kind: IdentityKind, value: Option<String>) {
        let is_id = |it: &String| it.len() <= LONGEST && it.bytes().all(|b| b.is_ascii_graphic());
        let Some(value) = value.filter(is_id) else { return };
        // WhatsApp's own id of somebody stands in Meta's place where it stands at all.
        let (kind, value) = match value.strip_suffix("@lid") {
            Some(lid) if kind == UserId && !lid.is_empty() => (Lid, lid.to_owned()),
            _ => (kind, value),
        };
        if !self.ids.contains(&(kind, value.clone())) {
            self.ids.push((kind, value));
        }
    }
}

/// The address book of a phone, as it was synchronised: who came, and who left.
pub(super) fn synced(value: &Value) -> Vec<(Person, bool)> {
    let entries = value.get("state_sync").and_then(Value::as_array).into_iter().flatten();
    let people = entries.filter_map(|entry| {
        let contact = entry.get("contact")?;
        let mut person = Person::default();
        person.add_number(contact, "phone_number");
        person.add(UserId, text(contact, "user_id"));
        person.name = name(contact, "full_name").or_else(|| name(contact, "first_name"));
        let is_removed = entry.get("action").and_then(Value::as_str) == Some("remove");
        (!person.ids.is_empty()).then_some((person, is_removed))
    });
    people.collect()
}

fn name(value: &Value, member: &str) -> Option<String> {
    let name: String = text(value, member)?
        .chars()
        .take(LONGEST_NAME)
        .map(|it| if it == '\0' { '\u{fffd}' } else { it })
        .collect();
    Some(name)
}
