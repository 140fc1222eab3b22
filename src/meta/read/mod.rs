//! What an item tells, in words that do not depend on where in a body it stood.
//!
//! - `person.rs`: who it is about. `message.rs`, `content.rs`, `interaction.rs`: a message, and what it says. `status.rs`: how far one has come.
//!   `history.rs`: messages of the past.
//!
//! Everything Meta may leave out may be missing. What cannot be carried out without a member that is missing is
//! [`Unreadable`], alone: its neighbours are read.

mod content;
mod history;
mod interaction;
mod message;
mod person;
mod status;

use entity::UnixMillis;
use serde_json::{Value, value::RawValue};

use super::{
    Change, Kind,
    envelope::{items, members},
    paired,
};

pub use self::{
    message::{Message, Renamed},
    person::Person,
    status::Status,
};

/// What an item tells.
#[derive(Clone, Debug, PartialEq)]
pub enum Told {
    /// A message to the number.
    Message(Box<Message>),
    /// A message that its owner wrote on the phone.
    Echo(Box<Message>),
    /// Messages of the past, and how many of them could not be read.
    History(Vec<Message>, usize),
    Status(Box<Status>),
    Call(Call),
    /// People in the address book of the phone, and whether they have left it.
    People(Vec<(Person, bool)>),
    /// Something else, by the change's field.
    Other {
        field: String,
        value: Value,
    },
}

/// A call to the number, or from it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    pub id: String,
    pub person: Person,
    /// `connect`, `terminate`, or a status of it: in Meta's word.
    pub event: String,
    pub at: Option<UnixMillis>,
}

/// Why an item cannot be carried out: a stable word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Unreadable(pub &'static str);

/// The items of a change, with what stands beside them.
#[derive(Debug)]
pub struct Listing<'a> {
    items: Vec<(Kind, &'a RawValue)>,
    field: &'a str,
    /// The people that the change introduces.
    people: Vec<Person>,
    /// The number itself: digits.
    own: Option<String>,
}

impl<'a> Listing<'a> {
    /// The items of a change.
    pub fn of(change: &'a Change<'_>) -> Self {
        let people = change.value.get("contacts").and_then(|raw| value(raw));
        let people = people.as_ref().and_then(Value::as_array).into_iter().flatten();
        let own = change.value.get("metadata").and_then(|raw| value(raw));
        Self {
            items: change.listed(),
            field: &change.field,
            people: people.map(Person::introduced).collect(),
            own: own.as_ref().and_then(|it| digits(it, "display_phone_number")),
        }
    }

    /// The number itself, in digits, as far as the change says it.
    pub fn own(&self) -> Option<&str> {
        self.own.as_deref()
    }

    /// What the item at this place tells.
    pub fn read(&self, index: usize) -> Result<Told, Unreadable> {
        let (kind, raw) = *self.items.get(index).ok_or(Unreadable("not_there"))?;
        let item = value(raw).ok_or(Unreadable("not_json"))?;
        if kind != Kind::Other && !item.is_object() {
            return Err(Unreadable("no_object"));
        }
        let message = |is_own| Message::read(&item, raw, &self.people, is_own);
        match kind {
            Kind::Message if self.field == "history" => {
                let is_own = self.own.is_some() && digits(&item, "from") == self.own;
                Ok(Told::History(vec![message(is_own)?], 0))
            }
            Kind::Message => Ok(Told::Message(Box::new(message(false)?))),
            Kind::Echo => Ok(Told::Echo(Box::new(message(true)?))),
            Kind::Status if self.field == "calls" => self.call(&item, "status"),
            Kind::Status => Ok(Told::Status(Box::new(Status::read(&item, &self.people)?))),
            Kind::Call => self.call(&item, "event"),
            Kind::Other if self.field == "history" => Ok(history::read(raw, self.own())),
            Kind::Other if self.field == "smb_app_state_sync" => {
                Ok(Told::People(person::synced(&item)))
            }
            Kind::Other | Kind::Error => {
                let field = if kind == Kind::Error { "error" } else { self.field };
                Ok(Told::Other { field: field.to_owned(), value: item })
            }
        }
    }

    fn call(&self, item: &Value, word: &str) -> Result<Told, Unreadable> {
        Ok(Told::Call(Call {
            id: text(item, "id").ok_or(Unreadable("no_id"))?,
            event: text(item, word).unwrap_or_else(|| "unknown".to_owned()),
            person: Person::named(item, ["from", "from_user_id"], &self.people)
                .or_else(|| {
                    Person::named(item, ["recipient_id", "recipient_user_id"], &self.people)
                })
                .unwrap_or_default(),
            at: at(item),
        }))
    }
}

/// A value, whatever halves of surrogate pairs are in its texts.
fn value(raw: &RawValue) -> Option<Value> {
    serde_json::from_str(&paired(raw.get())).ok()
}

/// A member that is a text or a whole number, as text; none if it is empty.
fn text(value: &Value, name: &str) -> Option<String> {
    let text = match value.get(name)? {
        Value::String(text) => text.clone(),
        Value::Number(number) if !number.is_f64() => number.to_string(),
        _ => return None,
    };
    Some(text).filter(|it| !it.is_empty())
}

/// The digits of a phone number that a member is.
fn digits(value: &Value, name: &str) -> Option<String> {
    let digits: String = text(value, name)?.chars().filter(char::is_ascii_digit).collect();
    (5..=20).contains(&digits.len()).then_some(digits)
}

/// When it happened: seconds, as text or as number.
fn at(value: &Value) -> Option<UnixMillis> {
    let seconds: i64 = text(value, "timestamp")?.parse().ok()?;
    (946_684_800..4_102_444_800).contains(&seconds).then(|| UnixMillis::from_secs(seconds))
}

/// The members of a list in a raw object.
fn list<'a>(raw: &'a RawValue, name: &str) -> Vec<&'a RawValue> {
    members(raw).get(name).copied().map(items).unwrap_or_default()
}

#[cfg(test)]
mod tests;
