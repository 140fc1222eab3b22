//! The single things that a change tells.

use std::collections::BTreeMap;

use serde_json::{Value, value::RawValue};
use sha2::{Digest, Sha256};

use entity::UnixMillis;

use super::{
    Change, Entry,
    envelope::{items, members, number, word},
};

/// The longest key that is kept as it is.
const LONGEST_KEY: usize = 250;

/// The longest text of an item that is kept beside it.
const LONGEST_WORD: usize = 200;

/// What a list in a change's value holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Message,
    Status,
    /// Written by the number's owner, in the app on the phone.
    Echo,
    Call,
    /// An error about no message.
    Error,
    /// Anything else: the whole change is one item.
    Other,
}

/// One thing that was told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    pub kind: Kind,
    /// What it is called: of what has no other word, the change's field.
    pub event_type: String,
    /// Of what kind within that.
    pub subtype: Option<String>,
    /// Which item of its change it is.
    pub index: usize,
    /// Meta's id of what it is about.
    pub object_id: Option<String>,
    /// When it happened, as far as it says so.
    pub at: Option<UnixMillis>,
    /// The same for every repetition of it, and for nothing else of the organization's.
    pub dedup_key: String,
    /// The same for all that is of one conversation: a hash of whom it is with.
    pub lane: String,
}

/// The lists that hold single things.
const LISTS: [(&str, Kind); 5] = [
    ("messages", Kind::Message),
    ("statuses", Kind::Status),
    ("message_echoes", Kind::Echo),
    ("calls", Kind::Call),
    ("errors", Kind::Error),
];

impl Change<'_> {
    /// What the change tells, in its order. Never nothing.
    pub fn items(&self, entry: &Entry<'_>) -> Vec<Item> {
        let people = self.introduced();
        let listed = self.listed().into_iter().enumerate();
        listed.map(|(index, (kind, raw))| self.item(entry, &people, (kind, index, raw))).collect()
    }

    /// By whatever somebody is called whom the change introduces: the first of it, which is the number if it has one.
    fn introduced(&self) -> BTreeMap<String, String> {
        let mut people = BTreeMap::new();
        for contact in self.value.get("contacts").copied().map(items).unwrap_or_default() {
            let parts = members(contact);
            let names = ["wa_id", "user_id"].map(|name| parts.get(name).and_then(|it| word(it)));
            let names: Vec<_> = names.into_iter().flatten().collect();
            if let Some(first) = names.first() {
                for name in &names {
                    people.entry(name.clone()).or_insert_with(|| first.clone());
                }
            }
        }
        people
    }

    /// An item of the change, by its index, as it was written. The change's value where that is the one item.
    pub fn written(&self, index: usize) -> Option<&RawValue> {
        self.listed().get(index).map(|(_, raw)| *raw)
    }

    /// The items as they were written, in their order.
    pub(super) fn listed(&self) -> Vec<(Kind, &RawValue)> {
        let lists = LISTS.iter().filter_map(|(list, kind)| Some((*kind, self.value.get(*list)?)));
        let all = lists.flat_map(|(kind, raw)| items(raw).into_iter().map(move |it| (kind, it)));
        let all: Vec<_> = all.collect();
        if all.is_empty() { vec![(Kind::Other, self.written)] } else { all }
    }

    fn item(
        &self,
        entry: &Entry<'_>,
        people: &BTreeMap<String, String>,
        (kind, index, raw): (Kind, usize, &RawValue),
    ) -> Item {
        let parts = members(raw);
        let text = |name: &str| parts.get(name).and_then(|it| word(it));
        let id = text("id");
        let at = parts.get("timestamp").and_then(|it| number(it)).or(entry.time);
        let is_call = self.field == "calls";
        let (event_type, subtype) = match kind {
            Kind::Message if self.field == "history" => ("history", text("type")),
            Kind::Message => ("message", text("type")),
            Kind::Status if is_call => ("call", text("status")),
            Kind::Status => ("status", text("status")),
            Kind::Echo => ("echo", text("type")),
            Kind::Call => ("call", text("event")),
            Kind::Error => ("error", text("code")),
            Kind::Other => (self.field.as_str(), text("event").or_else(|| text("decision"))),
        };
        let number = self.number.as_deref().unwrap_or("-");
        let key = match (kind, &id) {
            // History, an echo and what came live are one message.
            (Kind::Message | Kind::Echo, Some(id)) => Some(format!("m:{number}:{id}")),
            (Kind::Call, Some(id)) => Some(format!("c:{id}:{}", subtype.as_deref().unwrap_or("-"))),
            (Kind::Status, Some(id)) => subtype.as_ref().map(|status| {
                let participant = text("recipient_participant_id")
                    .or_else(|| text("participant_recipient_id"))
                    .map(|it| format!(":{it}"))
                    .unwrap_or_default();
                if is_call {
                    format!("c:{id}:{status}")
                } else {
                    format!("s:{number}:{id}:{status}{participant}")
                }
            }),
            _ => None,
        };
        let key = key.unwrap_or_else(|| self.other_key(entry, raw));
        // Who the other side is: whoever wrote, or was written to. By the number rather than by Meta's id, which may be
        // missing where the number is there.
        let who = if kind == Kind::Echo { "to" } else { "from" };
        let names =
            ["group_id", who, "recipient_id", "from_user_id", "to_user_id", "recipient_user_id"];
        let with = names.iter().find_map(|name| text(name));
        let with = match with {
            None if kind != Kind::Other => only(people).unwrap_or_default().to_owned(),
            with => with.unwrap_or_default(),
        };
        let with = people.get(&with).unwrap_or(&with);
        Item {
            kind,
            event_type: storable(event_type),
            subtype: subtype.map(|it| storable(&it)),
            index,
            object_id: id.or_else(|| entry.id.clone()).map(|it| storable(&it)),
            at: at.and_then(plausible),
            dedup_key: bounded(key),
            lane: lane(self.number.as_deref(), with),
        }
    }

    /// When the newest of what it tells happened; None if it does not say. Of somebody's past it is when it was told.
    pub fn newest(&self, entry: &Entry<'_>) -> Option<UnixMillis> {
        if self.field == "history" {
            return entry.time.and_then(plausible);
        }
        let all = self.items(entry).into_iter().map(|it| it.at);
        // One that says nothing may be the newest.
        all.max_by_key(|at| at.map_or(i64::MAX, |at| at.0)).flatten()
    }

    /// The key of what has no id: what it says, of whom, and when.
    fn other_key(&self, entry: &Entry<'_>, raw: &RawValue) -> String {
        // Written in one way, if it can be read at all.
        let said = serde_json::from_str::<Value>(raw.get())
            .map_or_else(|_| raw.get().to_owned(), |value| value.to_string());
        let id = entry.id.as_deref().unwrap_or_default();
        let time = entry.time.map(|it| it.to_string()).unwrap_or_default();
        format!("x:{}:{}", self.field, sha256(&[said.as_bytes(), id.as_bytes(), time.as_bytes()]))
    }
}

/// The one person who is introduced.
fn only(people: &BTreeMap<String, String>) -> Option<&str> {
    let first = people.values().next()?;
    people.values().all(|it| it == first).then_some(first.as_str())
}

/// The lane of what a number exchanges with whoever is called so.
pub fn lane(number: Option<&str>, with: &str) -> String {
    let mut lane = sha256(&[number.unwrap_or("-").as_bytes(), with.as_bytes()]);
    lane.truncate(16);
    lane
}

/// A hash of parts, which do not run together.
fn sha256(parts: &[&[u8]]) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    let mut text = String::with_capacity(64);
    for byte in hash.finalize() {
        text.extend(
            [byte >> 4, byte & 15].map(|it| char::from_digit(it.into(), 16).unwrap_or('0')),
        );
    }
    text
}

/// A key that a database can keep: what is long or strange is there as its hash.
fn bounded(key: String) -> String {
    if key.len() <= LONGEST_KEY && !key.chars().any(char::is_control) {
        return key;
    }
    let kind = key.split(':').next().unwrap_or_default();
    format!("{kind}:#{}", sha256(&[key.as_bytes()]))
}

/// A text that a database can keep.
fn storable(text: &str) -> String {
    text.chars().take(LONGEST_WORD).map(|it| if it == '\0' { '\u{fffd}' } else { it }).collect()
}

/// Seconds that are a time in this century.
fn plausible(seconds: i64) -> Option<UnixMillis> {
    (946_684_800..4_102_444_800).contains(&seconds).then(|| UnixMillis::from_secs(seconds))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::meta::Envelope;

    fn all(body: &str) -> Vec<Item> {
        let read = Envelope::read(body.as_bytes()).unwrap();
        read.changes().flat_map(|(_, entry, change)| change.items(entry)).collect()
    }

    fn change(field: &str, value: &str) -> String {
        format!(
            r#"{{"entry":[{{"id":"1","time":1739321024,"changes":[{{"field":"{field}","value":{value}}}]}}]}}"#
        )
    }

    #[test]
    fn every_message_status_and_error_of_a_change_is_an_item() {
        let body = change(
            "messages",
            r#"{"metadata":{"phone_number_id":"2"},
                "messages":[{"id":"a","type":"text","timestamp":"1739321025"},{"id":"b","type":"edit"}],
                "statuses":[{"id":"c","status":"read","recipient_participant_id":"p"}],
                "errors":[{"code":131000}]}"#,
        );
        let items = all(&body);
        let keys: Vec<_> = items.iter().map(|it| it.dedup_key.as_str()).collect();
        assert_eq!(keys[..3], ["m:2:a", "m:2:b", "s:2:c:read:p"]);
        assert!(keys[3].starts_with("x:messages:"));
        assert_eq!(items[0].at, Some(UnixMillis(1_739_321_025_000)));
        assert_eq!(items[1].at, Some(UnixMillis(1_739_321_024_000)));
        let words: Vec<_> = items.iter().map(|it| it.event_type.as_str()).collect();
        assert_eq!(words, ["message", "message", "status", "error"]);
        let indices: Vec<_> = items.iter().map(|it| it.index).collect();
        assert_eq!(indices, [0, 1, 2, 3]);
        let read = Envelope::read(body.as_bytes()).unwrap();
        let change = &read.entries[0].changes[0];
        assert_eq!(change.written(3).unwrap().get(), r#"{"code":131000}"#);
        assert!(change.written(4).is_none());
    }

    #[test]
    fn whoever_is_called_by_several_things_has_one_lane() {
        let lanes = |contacts: &str, items: &str| {
            let value = format!(
                r#"{{"metadata":{{"phone_number_id":"2"}},"contacts":[{contacts}],{items}}}"#
            );
            let items = all(&change("messages", &value)).into_iter();
            items.map(|it| it.lane).collect::<Vec<_>>()
        };
        let known = r#"{"wa_id":"1650","user_id":"US.1"},{"wa_id":"","user_id":"US.2"}"#;
        let told = r#""messages":[{"id":"a","from":"1650"},{"id":"b","from":"1650","from_user_id":"US.1"},
            {"id":"c","from":"","from_user_id":"US.1"},{"id":"d","from":"US.1"},{"id":"e","from_user_id":"US.2"}],
            "statuses":[{"id":"f","status":"sent","recipient_id":"1650","recipient_user_id":"US.1"},
            {"id":"g","status":"sent","recipient_user_id":"US.1"},{"id":"h","status":"sent","recipient_user_id":"US.2"}]"#;
        let of = lanes(known, told);
        for same in [1, 2, 3, 5, 6] {
            assert_eq!(of[0], of[same], "{same}");
        }
        assert_eq!(of[4], of[7]);
        assert_ne!(of[0], of[4]);
        // Whom nothing names but the one introduction.
        let of =
            lanes(r#"{"wa_id":"1650"}"#, r#""messages":[{"id":"a"},{"id":"b","from":"1650"}]"#);
        assert_eq!(of[0], of[1]);
        // A group is one conversation, whoever writes in it.
        let told = r#""messages":[{"id":"a","from":"1650","group_id":"G"}],
            "statuses":[{"id":"b","status":"sent","recipient_id":"G","recipient_type":"group"}]"#;
        let of = lanes(known, told);
        assert_eq!(of[0], of[1]);
    }

    #[test]
    fn an_echo_and_history_have_the_key_of_the_message() {
        let of = |field: &str, list: &str| {
            let value =
                format!(r#"{{"metadata":{{"phone_number_id":"2"}},"{list}":[{{"id":"a"}}]}}"#);
            all(&change(field, &value))[0].dedup_key.clone()
        };
        assert_eq!(of("smb_message_echoes", "message_echoes"), "m:2:a");
        assert_eq!(of("history", "messages"), "m:2:a");
    }

    #[test]
    fn what_has_no_id_is_known_by_what_it_says_however_it_is_written() {
        let key = |value: &str| all(&change("account_update", value))[0].dedup_key.clone();
        assert_eq!(key(r#"{"event":"X","b":1}"#), key(r#"{ "event": "X", "b": 1 }"#));
        assert_ne!(key(r#"{"event":"X"}"#), key(r#"{"event":"Y"}"#));
    }

    #[test]
    fn keys_and_words_are_what_every_database_can_keep() {
        let long = "x".repeat(1000);
        for id in [long.as_str(), "a\\u0000b"] {
            let value = format!(r#"{{"messages":[{{"id":"{id}","type":"{id}"}}]}}"#);
            let item = all(&change("messages", &value)).remove(0);
            assert!(item.dedup_key.starts_with("m:#"), "{}", item.dedup_key);
            assert!(item.object_id.unwrap().chars().count() <= LONGEST_WORD);
            assert!(!item.subtype.unwrap().contains('\0'));
        }
    }
}
