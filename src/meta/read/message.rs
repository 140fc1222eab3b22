//! A message, in or out.

use entity::{UnixMillis, kind::MessageKind};
use serde_json::{Value, value::RawValue};

use super::{Person, Unreadable, at, content, interaction, text};

/// The longest id of a message, and of a group, in bytes.
const LONGEST_ID: usize = 250;

/// A message, in or out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Meta's id of it.
    pub wa_id: String,
    /// Who wrote it; of one that the number's owner wrote, to whom.
    pub person: Person,
    /// The group that it was written in.
    pub group: Option<String>,
    /// The number's owner wrote it.
    pub is_own: bool,
    pub kind: MessageKind,
    /// Text, caption, emoji, or what stands for it.
    pub body: Option<String>,
    /// What was chosen, ordered or shown, in Meta's words: JSON.
    pub interaction: Option<String>,
    /// The message that it is about, or answers.
    pub target: Option<String>,
    pub at: Option<UnixMillis>,
    /// Who its writer is from now on.
    pub renamed: Option<Renamed>,
    /// Of one of the past: how far it had come, as levels are counted.
    pub level: i16,
    /// As Meta has written it.
    pub raw: String,
}

/// Somebody is called otherwise from now on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Renamed {
    pub to: Person,
    /// What they are not called by any more: it may be given to somebody else.
    pub no_longer: Person,
}

impl Message {
    pub(super) fn read(
        item: &Value,
        raw: &RawValue,
        people: &[Person],
        is_own: bool,
    ) -> Result<Self, Unreadable> {
        let wa_id = text(item, "id").filter(|it| is_id(it)).ok_or(Unreadable("no_id"))?;
        let group = text(item, "group_id").filter(|it| is_id(it));
        let names = if is_own { ["to", "to_user_id"] } else { ["from", "from_user_id"] };
        let person = match Person::named(item, names, people) {
            Some(person) => person,
            None if group.is_some() => Person::default(),
            None => return Err(Unreadable("nobody")),
        };
        let content::Content { kind, body, target } = content::read(item);
        let renamed = renamed(item, &person);
        Ok(Self {
            wa_id,
            person,
            group,
            is_own,
            kind,
            body,
            interaction: interaction::read(item),
            target,
            at: at(item),
            renamed,
            level: 0,
            raw: raw.get().to_owned(),
        })
    }
}

fn is_id(id: &str) -> bool {
    id.len() <= LONGEST_ID && !id.chars().any(char::is_control)
}

/// What a notice says of who somebody is from now on.
fn renamed(item: &Value, person: &Person) -> Option<Renamed> {
    let system = item.get("system")?;
    let mut now = Person::named(system, ["wa_id", "user_id"], &[])
        .or_else(|| Person::named(system, ["new_wa_id", "user_id"], &[]))
        .unwrap_or_default();
    let before = text(system, "previous_user_id");
    now.ids.retain(|id| !person.ids.contains(id));
    let replaces = |kind| now.ids.iter().any(|(it, _)| *it == kind);
    let mut no_longer = Person::default();
    for (kind, value) in &person.ids {
        if replaces(*kind) {
            no_longer.add(*kind, Some(value.clone()));
        }
    }
    no_longer.add(entity::state::IdentityKind::UserId, before);
    (!now.ids.is_empty() || !no_longer.ids.is_empty()).then_some(Renamed { to: now, no_longer })
}
