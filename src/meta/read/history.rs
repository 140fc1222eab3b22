//! Messages of the past, as a phone hands them over.

use serde_json::value::RawValue;

use super::{Message, Person, Told, digits, list, status::level, text, value};
use crate::meta::envelope::{members, word};

/// All messages of all conversations in a piece of history. `own` is the number itself.
pub(super) fn read(raw: &RawValue, own: Option<&str>) -> Told {
    let (mut messages, mut unread) = (Vec::new(), 0);
    for piece in list(raw, "history") {
        for thread in list(piece, "threads") {
            // With whom it is: every message says who wrote it, but not to whom.
            let with = members(thread).get("id").and_then(|it| word(it));
            for raw in list(thread, "messages") {
                match one(raw, with.as_deref(), own) {
                    Some(message) => messages.push(message),
                    None => unread += 1,
                }
            }
        }
    }
    Told::History(messages, unread)
}

fn one(raw: &RawValue, with: Option<&str>, own: Option<&str>) -> Option<Message> {
    let item = value(raw)?;
    let is_own = match (own, digits(&item, "from")) {
        (Some(own), Some(from)) => from == own,
        (None, Some(from)) => with.is_some_and(|with| with != from),
        (_, None) => false,
    };
    let people: Vec<_> = with
        .map(|with| {
            let mut person = Person::of_number(with);
            if !with.bytes().all(|b| b.is_ascii_digit()) {
                person = Person::default();
                person.add(entity::state::IdentityKind::UserId, Some(with.to_owned()));
            }
            person
        })
        .into_iter()
        .collect();
    let mut message = Message::read(&item, raw, &people, is_own).ok()?;
    let status = item.get("history_context").and_then(|it| text(it, "status"));
    if is_own {
        message.level = status.map_or(0, |it| level(&it));
    }
    Some(message)
}
