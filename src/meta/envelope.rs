//! A body as entries and changes.
//!
//! Texts are not read but where a word of them is needed: half of a surrogate pair in somebody's message,
//! say, is no reason to lose the message.

use std::collections::BTreeMap;

use serde_json::value::RawValue;

/// The members of an object, as they were written. Of two with one name it is the last.
pub(super) type Members<'a> = BTreeMap<String, &'a RawValue>;

/// A body that is JSON.
#[derive(Debug)]
pub struct Envelope<'a> {
    pub(super) object: Option<&'a RawValue>,
    pub entries: Vec<Entry<'a>>,
}

/// What is said of one business account.
#[derive(Debug)]
pub struct Entry<'a> {
    /// Everything but the changes.
    pub(super) members: Members<'a>,
    /// The business account's id; for some changes that of a business portfolio.
    pub id: Option<String>,
    /// Seconds since the epoch.
    pub time: Option<i64>,
    pub changes: Vec<Change<'a>>,
}

/// One change.
#[derive(Debug)]
pub struct Change<'a> {
    pub(super) raw: &'a RawValue,
    /// What it is of.
    pub field: String,
    pub(super) value: Members<'a>,
    /// The value as it was written.
    pub(super) written: &'a RawValue,
    /// The phone number's id that it is about, if it is about one.
    pub number: Option<String>,
    /// The business account's id that stands in the value, where the entry's is another thing.
    pub waba: Option<String>,
}

impl<'a> Envelope<'a> {
    /// Reads a body. None if it is no JSON; without entries if it is none of Meta's.
    pub fn read(body: &'a [u8]) -> Option<Self> {
        // Some send one, and JSON has none.
        let body = body.strip_prefix("\u{feff}".as_bytes()).unwrap_or(body);
        let whole: &RawValue = serde_json::from_slice(body).ok()?;
        let members = members(whole);
        let entries = members.get("entry").copied().map(items).unwrap_or_default();
        Some(Self {
            object: members.get("object").copied(),
            entries: entries.into_iter().map(Entry::read).collect(),
        })
    }

    /// Every change, with where it is: of which entry, and which of it.
    pub fn changes(&self) -> impl Iterator<Item = ((usize, usize), &Entry<'a>, &Change<'a>)> {
        self.entries.iter().enumerate().flat_map(|(e, entry)| {
            entry.changes.iter().enumerate().map(move |(c, change)| ((e, c), entry, change))
        })
    }
}

impl<'a> Entry<'a> {
    fn read(raw: &'a RawValue) -> Self {
        let mut members = members(raw);
        let changes = members.remove("changes").map(items).unwrap_or_default();
        Self {
            id: members.get("id").and_then(|it| word(it)),
            time: members.get("time").and_then(|it| number(it)),
            changes: changes.into_iter().map(Change::read).collect(),
            members,
        }
    }

    /// The business account that a change is about.
    pub fn waba<'b>(&'b self, change: &'b Change<'_>) -> Option<&'b str> {
        change.waba.as_deref().or(self.id.as_deref())
    }
}

impl<'a> Change<'a> {
    fn read(raw: &'a RawValue) -> Self {
        let of_change = members(raw);
        let written = of_change.get("value").copied().unwrap_or(RawValue::NULL);
        let value = members(written);
        let inside = |object: &str, name: &str| {
            value.get(object).and_then(|it| members(it).get(name).and_then(|it| word(it)))
        };
        // Some of Meta's examples have it inside.
        let field = of_change.get("field").or_else(|| value.get("field"));
        Self {
            raw,
            field: field.and_then(|it| word(it)).unwrap_or_else(|| "unknown".to_owned()),
            number: inside("metadata", "phone_number_id"),
            waba: inside("waba_info", "waba_id"),
            value,
            written,
        }
    }
}

/// The members of an object; none of anything else.
pub(super) fn members(raw: &RawValue) -> Members<'_> {
    serde_json::from_str(raw.get()).unwrap_or_default()
}

/// The items of a list; none of anything else.
pub(super) fn items(raw: &RawValue) -> Vec<&RawValue> {
    serde_json::from_str(raw.get()).unwrap_or_default()
}

/// A text or a whole number, as text: ids are written as either.
pub(super) fn word(raw: &RawValue) -> Option<String> {
    serde_json::from_str::<String>(raw.get())
        .ok()
        .or_else(|| serde_json::from_str::<i64>(raw.get()).ok().map(|number| number.to_string()))
        .filter(|word| !word.is_empty())
}

/// A whole number, or a text of one: times are written as either.
pub(super) fn number(raw: &RawValue) -> Option<i64> {
    word(raw)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn ids_are_read_as_text_and_as_number_and_a_broken_text_breaks_nothing_else() {
        let body = br#"{"object":"x","entry":[{"id":7,"time":"12","changes":[
            {"field":"messages","value":{"metadata":{"phone_number_id":8},"messages":[{"text":"\ud800"}]}},
            {"value":{"field":"account_update","waba_info":{"waba_id":"9"}}}]}]}"#;
        let read = Envelope::read(body).unwrap();
        let entry = &read.entries[0];
        assert_eq!((entry.id.as_deref(), entry.time), (Some("7"), Some(12)));
        assert_eq!(entry.changes[0].number.as_deref(), Some("8"));
        assert_eq!(entry.waba(&entry.changes[0]), Some("7"));
        assert_eq!(entry.changes[1].field, "account_update");
        assert_eq!(entry.waba(&entry.changes[1]), Some("9"));
    }

    #[test]
    fn what_is_no_json_is_nothing_and_what_is_no_envelope_is_empty() {
        assert!(Envelope::read(b"{\"entry\":[").is_none());
        assert!(Envelope::read(b"\xff").is_none());
        for strange in ["[]", "7", "null", "{\"entry\":{}}", "{\"entry\":[1,[],\"\"]}"] {
            let read = Envelope::read(strange.as_bytes()).unwrap();
            assert_eq!(read.changes().count(), 0, "{strange}");
        }
        assert!(Envelope::read("\u{feff}{\"entry\":[]}".as_bytes()).is_some());
    }

    proptest! {
        #[test]
        fn no_bytes_are_too_strange(body in proptest::collection::vec(any::<u8>(), 0..300)) {
            Envelope::read(&body);
        }
    }
}
